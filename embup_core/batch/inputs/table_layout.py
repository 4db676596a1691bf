"""Find out how a CSV or white-space separated file lays out its rows, from its first lines.

What is found depends on those bytes alone, so a resumed batch finds the same.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from embup_core.batch.inputs.columns import (
    AmbiguousColumnsError,
    choose_columns,
    columns_by_number,
    notices_of,
)
from embup_core.errors import InputFileError
from embup_core.text.delimited import WHITE_SPACE, DelimitedRows, QuotedText, is_list, list_length
from embup_core.text.parser import RefusedLineError
from embup_core.text.reader import STRICT_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embup_core.text.reader import RowLayout, TextSource

HEAD_BYTES: Final = 256 * 1024
_RECORDS_SHOWN: Final = 64
_DELIMITERS: Final = {".csv": (",", ";", "\t", WHITE_SPACE), ".tsv": ("\t", ",", ";", WHITE_SPACE)}
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_MISSING: Final = re.compile(r"[+-]?(?:nan|inf|infinity)|null|none|na|n/a|", re.IGNORECASE)
_DECIMAL_COMMA: Final = re.compile(r"[+-]?[0-9]*,[0-9]+(?:e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TextLayout:
    """Where the rows of a text start, and how its lines hold them.

    Attributes
    ----------
    rows
        Layout of a line.
    start
        Offset of the first row, behind comments and a header.
    quote_delimiter
        The delimiter where quoted cells may hold line ends; None where lines are records.
    notices
        What a user should know of how the columns were chosen.
    """

    rows: RowLayout = STRICT_ROWS
    start: int = 0
    quote_delimiter: str | None = None
    notices: tuple[str, ...] = ()

    def moved(self, offset: int) -> TextLayout:
        """Return the layout of a text that starts at an offset."""
        return replace(self, start=self.start + offset)


class _Head:
    """The first records of a table under one delimiter; see `DelimitedRows.cells`."""

    def __init__(self, text: str, delimiter: str) -> None:
        splitter = DelimitedRows(delimiter, 0, ())
        self.comment: list[str] = []
        self.records: list[list[str]] = []
        self.starts: list[int] = []
        self.lines: list[str] = []
        self.delimiter = delimiter
        offset = 0
        for line in text.split("\n"):  # no other character ends a line
            stripped = line.strip()
            if stripped.startswith("#") and not self.records:
                self.comment = splitter.cells(stripped.lstrip("# "))
            elif stripped:
                try:
                    self.records.append(splitter.cells(line.removesuffix("\r")))
                except RefusedLineError:
                    self.records.append([stripped])
                self.starts.append(offset)
                self.lines.append(stripped)
            offset += len(line) + 1
            if len(self.records) > _RECORDS_SHOWN:
                break

    @property
    def sample(self) -> list[str]:
        """A record that is not the header, if there is one."""
        return self.records[self.sample_place]

    @property
    def sample_place(self) -> int:
        """Where it is."""
        return min(1, len(self.records) - 1)


def table_layout(path: Path, head: bytes, ending: str, input_dims: int) -> TextLayout:
    """Return the layout of a table.

    Parameters
    ----------
    path
        The file, for messages.
    head
        Its first lines, whole.
    ending
        `.csv` or `.tsv`: which delimiter comes first where several would do.
    input_dims
        Values of a row.

    Raises
    ------
    InputFileError
        Which columns hold the rows, or in which order, is not clear.
    """
    found = _head(path, head, ending)
    if found is None:
        return TextLayout()
    records, names = found.records, None
    start = found.starts[0]
    if _is_header(records):
        names, records = [_utf8(name) for name in records[0]], records[1:]
        start = found.starts[1] if len(found.starts) > 1 else len(head)
    width = Counter(map(len, records)).most_common(1)[0][0] if records else len(names or ())
    records = [record for record in records if len(record) == width]
    names, width = _without_trailing_delimiter(path, names, records, width)
    names = names or _names_in_comment(found, width, input_dims)
    try:
        columns, lists = _choose(names, records, width, input_dims)
    except AmbiguousColumnsError as error:
        raise InputFileError(
            f"{path}: expected {input_dims} columns of numbers, or one column of lists of {input_dims}; found"
            f" {error}, among {width}.",
            remedy="Write a header whose names end in numbers (dim_0, dim_1, …), or the vectors alone.",
        ) from error
    layout = DelimitedRows(found.delimiter, width, columns, lists)
    notices = notices_of(names, columns) if names else ()
    return TextLayout(layout, start, found.delimiter, notices)


def _head(path: Path, head: bytes, ending: str) -> _Head | None:
    """Return the first records, split by the delimiter that fits them; None where there is none."""
    heads = []
    for delimiter in _DELIMITERS[ending]:
        # Latin-1, so that characters are bytes; what is not ASCII does not matter here.
        text = QuotedText(_NOTHING, delimiter).unfold(head).decode("latin-1")
        heads.append(_Head(text, delimiter))
    if not heads[0].records:
        return None
    line = heads[0].lines[heads[0].sample_place].replace('"', "")
    for separator in (";", "\t", None):
        values = [value.strip() for value in line.split(separator)]
        commas = sum(_DECIMAL_COMMA.fullmatch(value) is not None for value in values)
        numbers = sum(_NUMBER.fullmatch(value) is not None for value in values)
        if len(values) > 1 and commas and commas + numbers == len(values):
            raise _decimal_commas(path, values)
    for one in heads:
        if any(is_list(cell) for cell in one.sample):
            return one
    chosen = next((one for one in heads if len(one.sample) > 1), heads[0])
    if sum(_DECIMAL_COMMA.fullmatch(cell) is not None for cell in chosen.sample) > 1:
        raise _decimal_commas(path, chosen.sample)
    return chosen


def _utf8(name: str) -> str:
    return name.encode("latin-1").decode("utf-8", errors="replace")


def _decimal_commas(path: Path, values: Sequence[str]) -> InputFileError:
    return InputFileError(
        f"{path}: expected numbers with decimal points, found decimal commas ({values[0]!r}).",
        remedy="Write decimal points: a comma can also separate values.",
    )


def _is_header(records: list[list[str]]) -> bool:
    """Whether the first record holds names: words, or the numbers 0, 1, … that pandas writes."""
    first = records[0]
    if any(is_list(cell) for cell in first):
        return False
    if len(records) > 1 and any(is_list(cell) for cell in records[1]):
        return True
    numbers = [cell for cell in first if _NUMBER.fullmatch(cell)]
    if not numbers:
        return any(not _MISSING.fullmatch(cell) for cell in first)
    if len(numbers) < 2 or not all(cell.isdigit() for cell in numbers):
        return False
    values = sorted(map(int, numbers))
    return values[0] in {0, 1} and values == list(range(values[0], values[0] + len(values)))


def _without_trailing_delimiter(
    path: Path, names: list[str] | None, records: list[list[str]], width: int
) -> tuple[list[str] | None, int]:
    """Return names and number of the columns, less an empty one at the end of each record."""
    if width > 1 and records and not any(record[-1] for record in records):
        if names is None or (len(names) == width and not names[-1]):
            names, width = names and names[:-1], width - 1
        elif len(names) == width - 1:
            width -= 1
    if names is not None and len(names) == width + 1 and not names[-1]:
        names = names[:-1]
    if names is not None and len(names) == width - 1:
        names = ["", *names]  # R leaves the name of its index out
    if names is not None and len(names) != width:
        raise InputFileError(
            f"{path}: the header has {len(names)} names, and the rows have {width} values.",
            remedy="Write one name for each column.",
        )
    return names, width


def _names_in_comment(found: _Head, width: int, input_dims: int) -> list[str] | None:
    """Return the names in the comment above the rows, as numpy.savetxt writes them, if they are numbered."""
    try:
        columns_by_number(found.comment, input_dims)
    except AmbiguousColumnsError:
        return None
    return found.comment if len(found.comment) == width else None


def _choose(
    names: list[str] | None, records: list[list[str]], width: int, input_dims: int
) -> tuple[tuple[int, ...], bool]:
    """Return the places of the columns of the rows, and whether it is one of lists."""
    first = records[0] if records else [""] * width
    labels = [name or f"column {place + 1}" for place, name in enumerate(names or [""] * width)]
    lists = {labels[place]: _length(cell) for place, cell in enumerate(first) if is_list(cell)}
    numeric = [place for place in range(width) if _is_numeric([record[place] for record in records])]
    chosen = choose_columns(
        lists,
        [labels[place] for place in numeric],
        input_dims,
        by_order=None if names else lambda: _without_names(records, numeric, width, input_dims),
    )
    if isinstance(chosen, str):
        return (labels.index(chosen),), True
    return tuple(numeric[place] for place in chosen), False


def _is_numeric(cells: list[str]) -> bool:
    """Whether most cells of a column are numbers, or stand for missing ones."""
    fitting = sum(1 for cell in cells if _NUMBER.fullmatch(cell) or _MISSING.fullmatch(cell))
    return 2 * fitting > len(cells) or not cells


def _without_names(
    records: list[list[str]], numeric: list[int], width: int, input_dims: int
) -> list[int] | None:
    """Return which of the numeric columns hold the rows of a table without a header; None if not clear."""
    if width == input_dims:  # a first row with a fault is one row, not another layout
        return list(range(width)) if len(numeric) == width else None
    if len(numeric) == input_dims + 1 and _is_index(records, numeric):
        return list(range(1, len(numeric)))
    return list(range(input_dims)) if len(numeric) == input_dims else None


def _is_index(records: list[list[str]], numeric: list[int]) -> bool:
    """Whether the first column counts rows: whole numbers, none twice, beside numbers that are not whole."""
    index = [record[numeric[0]] for record in records]
    others = [all(record[place].isdigit() for record in records) for place in numeric[1:]]
    return all(cell.isdigit() for cell in index) and len(set(index)) == len(index) and not any(others)


def _length(cell: str) -> int:
    try:
        return list_length(cell)
    except RefusedLineError:
        return 0


class _Nothing:
    start = end = 0
    finished = True

    def read(self) -> bytes:
        return b""

    def bytes_done(self, offset: int) -> int:
        return offset


_NOTHING: Final[TextSource] = _Nothing()
