"""Lines of text to rows of float32, strictly, with a reason for each line that is refused.

One grammar decides: values separated by commas; spaces and tabs around a value are ignored; a value is
`[+-]?(digits[.digits*] | .digits)([eE][+-]?digits)?` in ASCII, finite as a float32; a row holds exactly
`dims` values, not all zero. `nan`, `inf`, `1_0`, `0x1p3`, quotes and other alphabets are refused.

Two paths read it. The fast one takes a whole block as JSON, whose numbers are a subset of the grammar; the
diagnosing one takes a line with a regular expression and decides all that the fast one cannot take. Both
round to float64 first and to float32 then, and a zero loses its sign, so they give the same bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

MAX_LINE_BYTES: Final = 65_536
"""The longest line that is read as a row, its line end left out."""

RAW_CHARACTERS: Final = 1_024
"""How much of a refused line is kept."""

_QUOTED_CHARACTERS: Final = 40

# Possessive, so that a long bad line costs one pass.
_NUMBER: Final = rb"[ \t]*+[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+[ \t]*+"
_NUMBER_ONLY: Final = re.compile(_NUMBER)
_NON_FINITE: Final = re.compile(rb"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


class RefusedLineError(ValueError):
    """A line of a layout other than the strict one holds no row; the text is the reason."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """One refused line.

    Attributes
    ----------
    line
        1-based line number in the file.
    index_in_chunk
        0-based row number in the block it was read with.
    reason
        What was expected and found.
    raw
        The beginning of the line.
    """

    line: int
    index_in_chunk: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True, eq=False)
class ParsedRows:
    """What a block of lines holds.

    Attributes
    ----------
    rows
        float32, shape (n, dims), one row a line; NaN where the line was refused.
    bad
        The refused lines, in order.
    """

    rows: npt.NDArray[np.float32]
    bad: tuple[BadRow, ...]


def parse_rows(block: bytes, *, dims: int, first_line: int = 1) -> ParsedRows:
    r"""Parse whole lines.

    Parameters
    ----------
    block
        Lines that end in `\n` or `\r\n`; the last may lack its end. An empty block has no line.
    dims
        Values a row must have.
    first_line
        The number of the first line, for the reports on refused ones.
    """
    rows = _parse_at_once(block, dims)
    if rows is not None:
        return ParsedRows(rows, ())
    return _parse_line_by_line(block, dims, first_line)


def _parse_at_once(block: bytes, dims: int) -> npt.NDArray[np.float32] | None:
    """Read a block of good lines, or return None: some line needs the diagnosing path."""
    rows = decode_at_once(block, dims)
    if rows is None or not are_directions(rows) or holds_long_line(block):
        return None
    return rows


def are_directions(rows: npt.NDArray[np.float32]) -> bool:
    """Whether all values of rows, shape (n, dims), are finite and no row is zero."""
    return bool(np.isfinite(rows).all() and rows.any(axis=1).all())


def decode_at_once(block: bytes, dims: int) -> npt.NDArray[np.float32] | None:
    """Read a block of lines of `dims` JSON numbers, of any size; None where a line holds something else."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    # JSON takes a lone carriage return for a space, and a bracket could open a row within a line.
    if not block or b"\r" in block or b"[" in block or b"]" in block:
        return None
    lines = block.removesuffix(b"\n").replace(b"\n", b"],[")
    try:
        values = _json_rows(dims).decode(b"[[" + lines + b"]]")
    except msgspec.DecodeError:
        return None
    return to_float32(values)


def _parse_line_by_line(block: bytes, dims: int, first_line: int) -> ParsedRows:
    """Read a block with the regular expression, giving a reason for each refused line."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    rows = np.full((len(lines), dims), np.nan, dtype=np.float32)
    bad: list[BadRow] = []
    for index, text in enumerate(lines):
        line = text.removesuffix(b"\r")
        row = _parse_line(line, dims)
        if isinstance(row, str):
            bad.append(BadRow(first_line + index, index, row, as_raw(line)))
        else:
            rows[index] = row
    return ParsedRows(rows, tuple(bad))


def _parse_line(line: bytes, dims: int) -> npt.NDArray[np.float32] | str:
    """Return the line's row, shape (dims,), or the reason why it has none."""
    if len(line) > MAX_LINE_BYTES:
        return f"longer than {MAX_LINE_BYTES} bytes"
    if not line.strip(b" \t"):
        return "blank line"
    fields = line.split(b",")
    if len(fields) != dims:
        return _reason_of_count(fields, dims)
    if _row_pattern(dims).fullmatch(line) is None:
        return _reason_of_first_bad_value(fields)
    row = to_float32([float(field) for field in fields])
    too_large = np.flatnonzero(np.isinf(row))
    if too_large.size:
        position = int(too_large[0])
        return f"value {position + 1}: {_quoted(fields[position])} does not fit in float32"
    if not row.any():
        return "all values are zero: a direction is needed"
    return row


def _reason_of_count(fields: list[bytes], dims: int) -> str:
    """Say how many values a line has instead of `dims`."""
    if len(fields) == dims + 1 and not fields[-1].strip(b" \t"):
        return f"expected {dims} numbers, found {dims} and a trailing comma"
    reason = f"expected {dims} numbers, found {len(fields)}"
    if len(fields) == 1 and _NUMBER_ONLY.fullmatch(fields[0]) is None:
        reason += " (values are separated by commas)"
    return reason


def _reason_of_first_bad_value(fields: list[bytes]) -> str:
    """Say which value of a line breaks the grammar first, and how."""
    for position, field in enumerate(fields, start=1):
        if _NUMBER_ONLY.fullmatch(field) is not None:
            continue
        value = field.strip(b" \t")
        if not value:
            return f"value {position}: nothing between commas"
        if _NON_FINITE.fullmatch(value) is not None:
            return f"value {position}: {value.decode('ascii')} is not finite"
        return f"value {position}: '{_quoted(field)}' is not a number"
    message = "a line that the row pattern refuses has a value that the number pattern refuses"
    raise AssertionError(message)


def _quoted(field: bytes) -> str:
    """Return a value as it can stand in a message: short, and printable."""
    text = field.strip(b" \t").decode("utf-8", errors="replace")
    if len(text) > _QUOTED_CHARACTERS:
        text = text[:_QUOTED_CHARACTERS] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def as_raw(line: bytes) -> str:
    """Return the beginning of a line as text, with bytes that are not UTF-8 escaped."""
    # Four bytes a character at most, so that a long line is not decoded whole.
    text = line[: 4 * RAW_CHARACTERS].decode("utf-8", errors="backslashreplace")
    return text[:RAW_CHARACTERS]


def holds_long_line(block: bytes) -> bool:
    """Whether a line of the block is over the limit."""
    return len(block) > MAX_LINE_BYTES and max(map(len, block.split(b"\n"))) > MAX_LINE_BYTES


def to_float32(values: Any) -> npt.NDArray[np.float32]:
    """Round Python floats to float32; too large ones become infinite, without a warning."""
    with np.errstate(over="ignore"):
        rows = np.array(values, dtype=np.float64).astype(np.float32)
    # JSON's `-0` is an integer without a sign, `-0.0` is not: with this, zero is zero on both paths.
    rows += np.float32(0)
    return rows


@lru_cache(maxsize=8)
def _json_rows(dims: int) -> msgspec.json.Decoder[list[list[float]]]:
    """Return the decoder of a JSON array of rows of `dims` numbers each."""
    row = Annotated[list[float], msgspec.Meta(min_length=dims, max_length=dims)]
    return msgspec.json.Decoder(list[row])


@lru_cache(maxsize=8)
def _row_pattern(dims: int) -> re.Pattern[bytes]:
    """Return the pattern of a whole line of `dims` numbers."""
    return re.compile(_NUMBER + rb"(?:,%b){%d}" % (_NUMBER, dims - 1))
