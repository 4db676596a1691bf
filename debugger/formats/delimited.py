"""CSV and TSV with a header, and their guard against formulas.

A spreadsheet runs a cell that begins with =, +, - or @. What is written here gets a ' before it, as
spreadsheets themselves mark text, and reading takes that ' away again: nothing is lost on the way.
"""

from __future__ import annotations

import csv
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TextIO

from debugger.formats.records import LONGEST_RECORD, Record, unreadable
from embup_core.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS: Final = ",;\t|"
_REMEDY: Final = "Expected comma-separated values in UTF-8 with a line of column names, and quotes in pairs."
_LONG_REMEDY: Final = "Look for a quote that is never closed, or leave the row out."


def guarded(cell: str) -> str:
    """The cell with one more ' before it where a spreadsheet would take it for a formula; numbers stay."""
    if not cell.lstrip("'").startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return "'" + cell
    return cell


def unguarded(cell: str) -> str:
    """The cell without the ' that `guarded` set."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell


class _Rows:
    """Cells of the rows of a file, which the standard library would read whatever their length."""

    def __init__(self, file: TextIO, path: Path, delimiter: str) -> None:
        self._file = file
        self._path = path
        self._begun = 1
        self._size = 0
        self._rows = csv.reader(self._lines(), delimiter=delimiter)

    @property
    def line_num(self) -> int:
        """Lines read so far."""
        return self._rows.line_num

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[str]:
        self._begun, self._size = self.line_num + 1, 0
        return next(self._rows)

    def _lines(self) -> Iterator[str]:
        while line := self._file.readline(LONGEST_RECORD + 1 - self._size):
            self._size += len(line)
            if self._size > LONGEST_RECORD:
                reason = f"line {self._begun:,}: the row is longer than {LONGEST_RECORD:,} characters"
                raise unreadable(self._path, reason, _LONG_REMEDY)
            yield line


class Delimited:
    """A file of delimited columns with a header.

    Parameters
    ----------
    path
        The file.
    """

    format: ClassVar[str] = "csv"
    ending: ClassVar[str] = ".csv"
    unit: ClassVar[str] = "line"

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._reader(",") as reader:
            first = next(reader, [])
        header = ",".join(first)
        self._delimiter = max(_DELIMITERS, key=header.count)
        with self._reader(self._delimiter) as reader:
            self._header = [name.strip() for name in next(reader, [])]
        if not any(self._header):
            raise unreadable(path, "it has no line of column names", _REMEDY)
        twice = sorted({name for name in self._header if self._header.count(name) > 1})
        if twice:
            raise unreadable(path, f"several columns are named {twice[0]!r}", "Give each its own name.")

    def fields(self) -> list[str]:
        """The header."""
        return self._header

    @contextmanager
    def _reader(self, delimiter: str) -> Iterator[_Rows]:
        before = csv.field_size_limit(LONGEST_RECORD)
        try:
            # Bytes that are not UTF-8 become what no text may hold: the row is refused, not the file.
            with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                yield _Rows(file, self._path, delimiter)
        except csv.Error as error:
            raise unreadable(self._path, error, _REMEDY) from error
        except OSError as error:
            raise InputFileError(f"{self._path} cannot be read: {error}.", remedy="Check it.") from error
        finally:
            csv.field_size_limit(before)

    def _rows(self) -> Iterator[tuple[Record, list[str]]]:
        with self._reader(self._delimiter) as reader:
            next(reader, None)
            number, line = 0, reader.line_num + 1
            for cells in reader:
                begun, line = line, reader.line_num + 1
                if not cells:
                    continue
                if len(cells) != len(self._header):
                    reason = f"expected {len(self._header)} columns as in the header, found {len(cells)}"
                    yield Record(number, begun, None, reason), cells
                else:
                    values = {name: unguarded(cell) for name, cell in zip(self._header, cells, strict=True)}
                    yield Record(number, begun, values), cells
                number += 1

    def records(self, fields: tuple[str, ...] | None = None) -> Iterator[Record]:  # noqa: ARG002
        """Read the rows; all values are strings."""
        for record, _ in self._rows():
            yield record

    def rewrite(self, target: Path, keep: Callable[[int], bool], change: Callable[[Record], Any]) -> int:
        """Write the rows again, guarded, with the same columns and delimiter; bytes that are no text stay."""
        written = 0
        with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            write = _row_writer(file, self._delimiter)
            write(self._header)
            for record, _ in self._rows():
                if not keep(record.number) or record.values is None:
                    continue
                values = {**record.values, **(change(record) or {})}
                write([guarded(_cell(values[name])) for name in self._header])
                written += 1
        return written


def write_table(target: Path, columns: Sequence[str], rows: Iterator[Sequence[object]]) -> int:
    """Write a new CSV file, guarded.

    Returns
    -------
    How many rows were written.
    """
    written = 0
    with target.open("w", encoding="utf-8", newline="") as file:
        write = _row_writer(file, ",")
        write(columns)
        for row in rows:
            write([guarded(_cell(value)) for value in row])
            written += 1
    return written


def _row_writer(file: TextIO, delimiter: str) -> Callable[[Sequence[str]], object]:
    """Writes a row of cells. One with a carriage return is quoted: readers would take it for a line's end."""
    plain = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    quoted = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return lambda cells: (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
