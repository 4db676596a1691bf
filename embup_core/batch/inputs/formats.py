"""The formats of an input, by the path's ending: one table, which the documentation shows.

Arrow is loaded only for the formats that need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from embup_core.batch.inputs.compressed_text import COMPRESSIONS
from embup_core.batch.inputs.content import HEAD_BYTES, require_content
from embup_core.errors import InputFileError
from embup_core.files.readable import read_at
from embup_core.text.faults import LineFault, line_fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.batch.inputs.input_file import OpenInput
    from embup_core.batch.workers.decoding import RowBlock


class InputReader(Protocol):
    """Reads the rows of an open input, from a given row on."""

    @property
    def exhausted(self) -> bool:
        """Whether it is known that no row is left."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know of how the file was understood: reordered or ignored columns."""

    def read_block(self) -> RowBlock | None:
        """Return the next rows, or None after the last one.

        Raises
        ------
        InputFileError
            The input is damaged, ends too early, or cannot be read.
        """

    def estimated_rows(self) -> int:
        """Return how many rows the whole input has, as far as is known; needs a block read from the start."""

    def most_rows(self, block_end: int) -> int | None:
        """Return how many good rows can follow a block that ends there; None where that is not known."""


@dataclass(frozen=True)
class InputFormat:
    """One row of the table of formats.

    Attributes
    ----------
    name
        Name of the format.
    endings
        Endings of paths in this format; an empty one stands for any other ending.
    accepts
        What its files may hold, for the documentation; n is the width of a row.
    remedy
        How to write its rows.
    open_reader
        Opens a reader of an input in this format.
    content
        Kind of its first bytes, see `content_of`; None for text, which can be compressed.
    unit
        What messages count: lines of a file, or rows.
    """

    name: str
    endings: tuple[str, ...]
    accepts: str
    remedy: str
    open_reader: Callable[[OpenInput], InputReader]
    content: str | None = None
    unit: str = "row"


def _open_strict(source: OpenInput) -> InputReader:
    from embup_core.batch.inputs.text import open_strict

    return open_strict(source)


def _open_table(source: OpenInput) -> InputReader:
    from embup_core.batch.inputs.text import open_table

    return open_table(source, text_ending(source.path))


def _open_json_lines(source: OpenInput) -> InputReader:
    from embup_core.batch.inputs.text import open_json_lines

    return open_json_lines(source)


def _open_npy(source: OpenInput) -> InputReader:
    from embup_core.batch.inputs.npy import NpyReader

    return NpyReader(source)


def _open_npz(source: OpenInput) -> InputReader:
    from embup_core.batch.inputs.npz import NpzReader

    return NpzReader(source)


def _open_parquet(source: OpenInput) -> InputReader:
    from embup_core.batch.inputs.parquet import ParquetReader

    return ParquetReader(source)


STRICT_TEXT: Final = InputFormat(
    name="text",
    endings=(".txt", ""),
    accepts="One row a line: n numbers with decimal points, separated by commas;"
    " blanks around a number are ignored. No header, index, brackets or quotes.",
    remedy="Write one row a line, its values separated by commas.",
    open_reader=_open_strict,
    unit="line",
)
FORMATS: Final = (
    STRICT_TEXT,
    InputFormat(
        name="table",
        endings=(".csv", ".tsv"),
        accepts="Columns separated by commas, semicolons, tabs or blanks; decimal points; quoted cells;"
        " comment lines (#) above the rows. With a header: n columns whose names differ in the"
        " number at their end, in the order of these numbers; or one column of lists such as [0.1,"
        " 0.2]. Other columns are ignored. Without a header: n columns of numbers in file order,"
        " beside columns of text or a leading integer index; or one column of lists.",
        remedy="Write n numbers with decimal points in each record, or one list of them.",
        open_reader=_open_table,
    ),
    InputFormat(
        name="JSON lines",
        endings=(".jsonl", ".ndjson", ".json"),
        accepts="One array of n numbers a line; or one object a line with such an array at any depth"
        " (embedding, vector, values, data[0].embedding), beside other keys.",
        remedy="Write one array of n finite numbers a line, or one object with such an array.",
        open_reader=_open_json_lines,
    ),
    InputFormat(
        name="NumPy array",
        endings=(".npy",),
        accepts="Floats (float16 to long double) or integers of shape (rows, n), in C or Fortran"
        " order and either byte order; header version 1, 2 or 3. Pickled objects are never opened.",
        remedy="Write rows of finite numbers, not all zero.",
        open_reader=_open_npy,
        content="npy",
    ),
    InputFormat(
        name="NumPy archive",
        endings=(".npz",),
        accepts="As .npy, compressed or not: the only array, or the only one of shape (rows, n), or of"
        " several such the one with a usual name (embeddings).",
        remedy="Write rows of finite numbers, not all zero.",
        open_reader=_open_npz,
        content="zip",
    ),
    InputFormat(
        name="Parquet",
        endings=(".parquet",),
        accepts="One column of lists of n numbers (list, large list, fixed-size list, tensor); or n"
        " columns of numbers whose names differ in the number at their end, in the order of these numbers."
        " Floats, integers or decimals. Other columns are ignored; nulls are refused rows.",
        remedy="Write lists of finite numbers, all of one length and not all zero.",
        open_reader=_open_parquet,
        content="parquet",
    ),
)
_BY_ENDING: Final = {ending: one for one in FORMATS for ending in one.endings}
_COMPRESSED_CONTENT: Final = {".gz": "gzip", ".zst": "zstd"}


def text_ending(path: Path) -> str:
    """Return the ending that names the format: the one before `.gz` and `.zst`."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending in COMPRESSIONS else ending


def format_of(path: Path) -> InputFormat:
    """Return the format that a path's ending names; any unknown ending is strict text."""
    return _BY_ENDING.get(text_ending(path), STRICT_TEXT)


def open_reader(source: OpenInput) -> InputReader:
    """Return a reader of an open input.

    Raises
    ------
    InputFileError
        The content is not what the ending says, or its rows are not of this length.
    """
    found = format_of(source.path)
    compression = source.path.suffix.lower()
    if compression in COMPRESSIONS and found.content is not None:
        raise InputFileError(
            f"{source.path} is compressed, and {text_ending(source.path)} files are read uncompressed.",
            remedy=f"Decompress it: {'gunzip' if compression == '.gz' else 'unzstd'} {source.path.name}",
        )
    head = read_at(source.descriptor, HEAD_BYTES, 0)
    require_content(source.path, head, _COMPRESSED_CONTENT.get(compression, found.content))
    return found.open_reader(source)


def row_remedy(path: Path) -> str:
    """Return how to write the rows of an input of this ending."""
    return format_of(path).remedy


def fault_of(path: Path, raw: str) -> LineFault | None:
    """Return which other format a refused line of strict text looks like; None where that is not known."""
    return line_fault(raw.encode()) if format_of(path) is STRICT_TEXT else None
