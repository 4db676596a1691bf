"""Rows as JSON values, one a line: arrays of numbers, or objects with an array at a known path."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec

from embup_core.text.parser import (
    MAX_LINE_BYTES,
    ParsedRows,
    RefusedLineError,
    are_directions,
    as_raw,
    holds_long_line,
    parse_rows,
    to_float32,
)

JsonPath = tuple[str | int, ...]
"""Keys of objects that lead to an array; 0 stands for the only element of an array on the way."""

_QUOTED_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class JsonRows:
    """Layout of JSON lines; see `RowLayout`.

    Attributes
    ----------
    path
        Where the row is in each line's value; empty where it is the value.
    """

    path: JsonPath

    def parse(self, text: bytes, *, dims: int, first_line: int) -> ParsedRows:
        """Return the rows of whole lines, and the refused ones."""
        lines = text.removesuffix(b"\n").split(b"\n")
        if not holds_long_line(text):
            try:
                values = _decoder(self.path, dims).decode_lines(text)
            except msgspec.DecodeError:
                values = []
            for key in self.path:
                values = [one[0] for one in values] if key == 0 else [one.value for one in values]
            if len(values) == len(lines) and are_directions(rows := to_float32(values)):
                return ParsedRows(rows, ())
        refused: dict[int, str] = {}
        strict = []
        for index, line in enumerate(lines):
            try:
                strict.append(self._strict(line, dims))
            except RefusedLineError as error:
                refused[index] = str(error)
                strict.append("0")
        parsed = parse_rows("\n".join(strict).encode() + b"\n", dims=dims, first_line=first_line)
        bad = [
            replace(
                one,
                raw=as_raw(lines[one.index_in_chunk].removesuffix(b"\r")),
                reason=refused.get(one.index_in_chunk, one.reason),
            )
            for one in parsed.bad
        ]
        return ParsedRows(parsed.rows, tuple(bad))

    def _strict(self, line: bytes, dims: int) -> str:
        """Return the strict line of a JSON line; raises `RefusedLineError`."""
        if len(line) > MAX_LINE_BYTES:
            raise RefusedLineError(f"longer than {MAX_LINE_BYTES} bytes")
        if not line.strip():
            raise RefusedLineError("blank line")
        row = value_at(parse_json(line), self.path)
        if not isinstance(row, list):
            raise RefusedLineError(f"expected an array of {dims} numbers, found {_shown(row)}")
        if len(row) != dims:
            raise RefusedLineError(f"expected {dims} numbers, found {len(row)}")
        for position, value in enumerate(row, start=1):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise RefusedLineError(f"value {position}: {_shown(value)} is not a number")
        return ",".join(map(repr, row))


def parse_json(line: bytes) -> Any:
    """Return the value of a line, with NaN and Infinity as Python writes them.

    Raises
    ------
    RefusedLineError
        It is not JSON.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RefusedLineError(f"expected JSON, found something else ({error})") from error


def value_at(value: Any, path: JsonPath) -> Any:
    """Return the value at a path.

    Raises
    ------
    RefusedLineError
        There is none.
    """
    for key in path:
        if key == 0:
            if not isinstance(value, list) or len(value) != 1:
                found = f"{len(value)}" if isinstance(value, list) else _shown(value)
                raise RefusedLineError(f"expected one embedding a line, found {found}")
            value = value[0]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            raise RefusedLineError(f"expected an object with the key {key!r}, found {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…"


@lru_cache(maxsize=8)
def _decoder(path: JsonPath, dims: int) -> msgspec.json.Decoder[Any]:
    """Return the decoder of lines whose row has exactly `dims` numbers; other keys are skipped."""
    kind: Any = Annotated[list[float], msgspec.Meta(min_length=dims, max_length=dims)]
    for key in reversed(path):
        if key == 0:
            kind = Annotated[list[kind], msgspec.Meta(min_length=1, max_length=1)]
        else:
            kind = msgspec.defstruct("Line", [("value", kind, msgspec.field(name=str(key)))])
    return msgspec.json.Decoder(kind)
