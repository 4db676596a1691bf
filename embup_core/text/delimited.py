"""Rows in the columns of CSV and white-space separated text, by way of the strict format.

Each record becomes a strict line of the chosen columns, so one grammar decides and gives the reasons. A block
without quotes is read at once.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.errors import InputFileError
from embup_core.text.parser import (
    MAX_LINE_BYTES,
    BadRow,
    ParsedRows,
    RefusedLineError,
    are_directions,
    as_raw,
    decode_at_once,
    holds_long_line,
    parse_rows,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from embup_core.text.reader import TextSource

WHITE_SPACE: Final = ""
"""The delimiter of columns that blanks and tabs separate, in any number."""

LISTS: Final = {"[": "]", "{": "}", "(": ")"}
"""How programs open and close a list within a cell."""

_BLANK_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")
_NUMPY_SCALAR: Final = re.compile(r"np\.float(?:16|32|64)\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class DelimitedRows:
    """Layout of a table; see `RowLayout`.

    Attributes
    ----------
    delimiter
        One character, or `WHITE_SPACE`.
    width
        Columns of a record.
    columns
        Places of the row's values, in their order; or the place of one column of lists.
    lists
        Whether it is a column of lists.
    """

    delimiter: str
    width: int
    columns: tuple[int, ...]
    lists: bool = False

    def parse(self, text: bytes, *, dims: int, first_line: int) -> ParsedRows:
        """Return the rows of whole lines, and the refused ones."""
        if (rows := self._parse_at_once(text)) is not None:
            return ParsedRows(rows, ())
        lines = text.removesuffix(b"\n").split(b"\n")
        refused: dict[int, str] = {}
        strict = []
        for index, line in enumerate(lines):
            try:
                strict.append(self._strict(line.removesuffix(b"\r")))
            except RefusedLineError as error:
                refused[index] = str(error)
                strict.append("0")
        parsed = parse_rows("\n".join(strict).encode() + b"\n", dims=dims, first_line=first_line)
        bad = tuple(self._as_found(one, lines, refused) for one in parsed.bad)
        return ParsedRows(parsed.rows, bad)

    def cells(self, record: str) -> list[str]:
        """Return the cells of one record, without quotes and blanks around them.

        Raises
        ------
        RefusedLineError
            The quotes do not match.
        """
        if self.delimiter == WHITE_SPACE and '"' not in record:
            return record.split()
        if '"' not in record:
            return [cell.strip() for cell in record.split(self.delimiter)]
        delimiter = self.delimiter
        if delimiter == WHITE_SPACE:
            record, delimiter = " ".join(record.split()), " "
        try:
            (cells,) = csv.reader([record], delimiter=delimiter, skipinitialspace=True)
        except (csv.Error, ValueError) as error:
            raise RefusedLineError(f"the quotes do not match ({error})") from error
        return [cell.strip() for cell in cells]

    def _parse_at_once(self, text: bytes) -> npt.NDArray[np.float32] | None:
        """Read a block of records of numbers alone, or return None."""
        if self.lists or b'"' in text or holds_long_line(text):
            return None
        if self.delimiter == WHITE_SPACE:
            lines = text.removesuffix(b"\n").split(b"\n")
            block = b"\n".join([b",".join(line.split()) for line in lines])
        elif self.delimiter != ",":
            block = text.replace(self.delimiter.encode(), b",")
        else:
            block = text
        if self.delimiter != "," and b"," in text:
            return None
        rows = decode_at_once(block, self.width)
        if rows is None:
            return None
        if self.columns != tuple(range(self.width)):
            rows = np.ascontiguousarray(rows[:, self.columns])
        return rows if are_directions(rows) else None

    def _strict(self, line: bytes) -> str:
        """Return the strict line of a record; raises `RefusedLineError`."""
        if len(line) > MAX_LINE_BYTES:
            raise RefusedLineError(f"longer than {MAX_LINE_BYTES} bytes")
        cells = self.cells(line.decode("utf-8", errors="replace"))
        if not any(cells):
            raise RefusedLineError("blank line")
        if len(cells) == self.width + 1 and not cells[-1]:
            cells.pop()
        if len(cells) != self.width:
            raise RefusedLineError(f"expected {self.width} columns, found {len(cells)}")
        chosen = [cells[place] for place in self.columns]
        if self.lists:
            return _values_of(chosen[0])
        for position, cell in enumerate(chosen, start=1):
            if "," in cell:
                raise RefusedLineError(
                    f"value {position}: {cell[:40]!r} is not a number with a decimal point"
                )
        return ",".join(chosen)

    @staticmethod
    def _as_found(one: BadRow, lines: list[bytes], refused: dict[int, str]) -> BadRow:
        """Return a refused row with its text in the file."""
        raw = as_raw(lines[one.index_in_chunk].removesuffix(b"\r"))
        return replace(one, raw=raw, reason=refused.get(one.index_in_chunk, one.reason))


def is_list(cell: str) -> bool:
    """Whether a cell holds a list rather than a number or a word."""
    return len(cell) > 1 and LISTS.get(cell[0]) == cell[-1]


def list_length(cell: str) -> int:
    """Return how many values a cell's list has."""
    return len(_values_of(cell).split(","))


def _values_of(cell: str) -> str:
    """Return the values of a cell's list as a strict line, whether commas or blanks separate them."""
    if not is_list(cell):
        raise RefusedLineError(f"expected a list of numbers in brackets, found {cell[:40]!r}")
    inner = cell[1:-1]
    if "..." in inner:
        raise RefusedLineError("the list was shortened with '...' when it was written")
    if "np.float" in inner:
        inner = _NUMPY_SCALAR.sub(r"\1", inner)
    return inner if "," in inner else ",".join(inner.split())


class QuotedText:
    """Text in which line ends within quotes are blanks, so that a record is a line; see `TextSource`.

    A quote opens a cell where one starts, and nowhere else. Lengths and offsets stay those of the source.

    Parameters
    ----------
    source
        The text, from the start of a record.
    delimiter
        As in `DelimitedRows`.
    """

    def __init__(self, source: TextSource, delimiter: str) -> None:
        self._source = source
        starts = [b"", b"\n", b"\r", *([b" ", b"\t"] if delimiter == WHITE_SPACE else [delimiter.encode()])]
        self._starts = frozenset(starts)
        self._inside = False
        self._before = b""  # the byte before those to come
        self._quoted_bytes = 0

    @property
    def start(self) -> int:
        """Where the first byte of `read` lies in the text."""
        return self._source.start

    @property
    def finished(self) -> bool:
        """Whether it is known that nothing is left to read."""
        return self._source.finished

    @property
    def end(self) -> int:
        """Length of the text; once `finished`."""
        return self._source.end

    def bytes_done(self, offset: int) -> int:
        """Return how far into the file a place in the text is."""
        return self._source.bytes_done(offset)

    def read(self) -> bytes:
        """Return the next bytes.

        Raises
        ------
        InputFileError
            They cannot be read, or a quote does not end.
        """
        data = self._source.read()
        if b'"' in data or self._inside:
            data = self.unfold(data)
        elif data:
            self._before = data[-1:]
        if self._inside and (self._quoted_bytes > MAX_LINE_BYTES or self._source.finished):
            raise InputFileError(
                f"a quoted cell does not end: {self._quoted_bytes} bytes were read behind its first quote.",
                remedy="Double the quotes within quoted cells, as CSV writers do.",
            )
        return data

    def unfold(self, data: bytes) -> bytes:
        """Return bytes with blanks for line ends within quotes."""
        pieces = []
        place = 0
        closed_at = -1
        while (quote := data.find(b'"', place)) >= 0:
            piece = data[place : quote + 1]
            if self._inside:
                pieces.append(piece.translate(_BLANK_LINE_ENDS))
                self._inside, self._quoted_bytes, closed_at = False, 0, quote
            else:
                before = data[quote - 1 : quote] if quote else self._before
                doubled = quote - 1 == closed_at and quote > 0
                after_blank = before == b" " and data[quote - 2 : quote - 1] in self._starts and quote > 1
                self._inside = before in self._starts or doubled or after_blank
                pieces.append(piece)
            place = quote + 1
        rest = data[place:]
        if self._inside:
            self._quoted_bytes += len(rest)
            rest = rest.translate(_BLANK_LINE_ENDS)
        pieces.append(rest)
        self._before = data[-1:] or self._before
        return b"".join(pieces)
