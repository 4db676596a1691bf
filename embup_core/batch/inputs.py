"""The formats of the input, told by the path's ending; what a reader of any of them can do.

`.npy` and `.parquet` hold numbers, `.gz` and `.zst` compressed text, everything else text. Arrow is loaded
for those alone that need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from embup_core.batch.compressed_text import COMPRESSIONS, CompressedText
from embup_core.text.reader import FileText, LineReader

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.batch.answering import RowBlock

_ROW_REMEDY: Final = "Write one row a line, its values separated by commas."
_ROW_REMEDIES: Final = {
    ".npy": "Write rows of finite numbers, not all zero.",
    ".parquet": "Write lists of finite numbers, all of one length and not all zero.",
}
# The end of what is read to learn how compressed text is packed.
_SAMPLE_BYTES: Final = 4 * 1024 * 1024


class InputReader(Protocol):
    """The rows of an open input, from some row on."""

    @property
    def exhausted(self) -> bool:
        """Whether it is known that no row is left."""

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
        """Return how many good rows can follow a block that ends there; None where nobody can know."""


class TextReader(LineReader):
    """The rows of a text file.

    Parameters
    ----------
    descriptor
        The open file; it stays the caller's.
    dims
        Values of a row.
    chunk_rows
        Rows of a block; only the last one has fewer.
    offset, first_row
        The byte to start at, and the number of the row that starts there, from 0.
    """

    def __init__(self, descriptor: int, *, dims: int, chunk_rows: int, offset: int, first_row: int) -> None:
        source = FileText(descriptor, offset)
        super().__init__(source, chunk_rows=chunk_rows, first_line=first_row + 1)
        self._dims = dims
        self._size_bytes = source.end

    def estimated_rows(self) -> int:
        """Return the number that the mean length of the lines read by now gives."""
        return estimated_lines(self._size_bytes, read_bytes=self.offset, lines=self.lines_read)

    def most_rows(self, block_end: int) -> int:
        """Return the number of the shortest good lines that fit into the rest of the file."""
        # A digit and a separator a value; the last line end may be missing.
        return (self._size_bytes - block_end + 1) // (2 * self._dims)


class CompressedTextReader(LineReader):
    """The rows of a compressed text file.

    Parameters
    ----------
    path
        The file's path, whose ending names the compression.
    descriptor, chunk_rows, offset, first_row
        As in `TextReader`; the offset is one in the text.
    """

    def __init__(self, path: Path, descriptor: int, *, chunk_rows: int, offset: int, first_row: int) -> None:
        self._text = CompressedText(path, descriptor, offset)
        super().__init__(self._text, chunk_rows=chunk_rows, first_line=first_row + 1)
        if offset == 0:  # what is no compressed text, or none with rows, is known at once
            self.look_ahead()

    def estimated_rows(self) -> int:
        """Return the number that the lines read by now and the packing of some megabytes give."""
        lines, read_bytes = self.lines_read, self.offset
        size_bytes = self._text.estimated_size(_SAMPLE_BYTES)
        return estimated_lines(size_bytes, read_bytes=read_bytes, lines=lines)

    def most_rows(self, block_end: int) -> None:  # noqa: ARG002 - the same wherever it ends
        """Return None: how long the text is shows at its end."""
        return


def estimated_lines(size_bytes: int, *, read_bytes: int, lines: int) -> int:
    """Return how many lines a text of that size has when some of it has so many."""
    # Rounded up: it has at least the line that was read.
    return max(1, -(-size_bytes * lines // max(1, read_bytes)))


def open_reader(
    path: Path, descriptor: int, *, dims: int, chunk_rows: int, offset: int = 0, first_row: int = 0
) -> InputReader:
    """Return a reader of an open input.

    Parameters
    ----------
    path
        Its path: the ending says what it holds, and messages name it.
    descriptor
        The file; it stays the caller's.
    dims
        Values of a row.
    chunk_rows
        Rows of a block; only the last one has fewer.
    offset, first_row
        Where to go on: the `end_offset` of a block, and the number of rows up to there.

    Raises
    ------
    InputFileError
        The input is not what its ending says, or its rows are not of this length.
    """
    ending = path.suffix.lower()
    if ending == ".npy":
        from embup_core.batch.npy_input import NpyReader

        return NpyReader(path, descriptor, dims=dims, chunk_rows=chunk_rows, first_row=first_row)
    if ending == ".parquet":
        from embup_core.batch.parquet_input import ParquetReader

        return ParquetReader(path, descriptor, dims=dims, chunk_rows=chunk_rows, first_row=first_row)
    if ending in COMPRESSIONS:
        return CompressedTextReader(
            path, descriptor, chunk_rows=chunk_rows, offset=offset, first_row=first_row
        )
    return TextReader(descriptor, dims=dims, chunk_rows=chunk_rows, offset=offset, first_row=first_row)


def row_remedy(path: Path) -> str:
    """Return how rows are to be written in an input of this ending."""
    return _ROW_REMEDIES.get(path.suffix.lower(), _ROW_REMEDY)
