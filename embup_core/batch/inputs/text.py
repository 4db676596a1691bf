"""Readers of text, plain or compressed: strict, tables and JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from embup_core.batch.inputs.compressed_text import COMPRESSIONS, CompressedText
from embup_core.batch.inputs.content import HEAD_BYTES, require_content
from embup_core.batch.inputs.json_layout import json_layout
from embup_core.batch.inputs.table_layout import HEAD_BYTES as LAYOUT_BYTES
from embup_core.batch.inputs.table_layout import TextLayout, table_layout
from embup_core.text.delimited import QuotedText
from embup_core.text.reader import FileText, LineReader

if TYPE_CHECKING:
    from embup_core.batch.inputs.input_file import OpenInput
    from embup_core.text.reader import TextSource

# How much compressed text is read to learn its compression ratio.
_SAMPLE_BYTES: Final = 4 * 1024 * 1024


class TextReader(LineReader):
    """Reads the rows of a text file.

    Parameters
    ----------
    source
        The file, and where to resume.
    layout
        How the text holds rows.
    """

    def __init__(self, source: OpenInput, layout: TextLayout) -> None:
        text = FileText(source.descriptor, max(source.offset, layout.start))
        super().__init__(
            _records(text, layout),
            chunk_rows=source.chunk_rows,
            first_line=source.first_row + 1,
            layout=layout.rows,
        )
        self.notices = layout.notices
        self._dims = source.input_dims
        self._size_bytes = text.end
        self._start = text.start

    def estimated_rows(self) -> int:
        """Return the number that the mean length of the lines read so far suggests."""
        return estimated_lines(
            self._size_bytes - self._start, read_bytes=self.offset - self._start, lines=self.lines_read
        )

    def most_rows(self, block_end: int) -> int:
        """Return the number of the shortest good lines that fit into the rest of the file."""
        # A digit and a separator for each value; the last line end may be missing.
        return (self._size_bytes - block_end + 1) // (2 * self._dims)


class CompressedTextReader(LineReader):
    """Reads the rows of a compressed text file.

    Parameters
    ----------
    source
        The file, and where to resume: the offset is one in the text.
    layout
        How the text holds rows.
    """

    def __init__(self, source: OpenInput, layout: TextLayout) -> None:
        self._text = CompressedText(source.path, source.descriptor, max(source.offset, layout.start))
        super().__init__(
            _records(self._text, layout),
            chunk_rows=source.chunk_rows,
            first_line=source.first_row + 1,
            layout=layout.rows,
        )
        self.notices = layout.notices
        self._start = self._text.start
        if source.offset == 0:  # so that damage, and a text without rows, are known at once
            self.look_ahead()

    def estimated_rows(self) -> int:
        """Return the number that the lines read so far and the compression ratio suggest."""
        lines, read_bytes = self.lines_read, self.offset - self._start
        size_bytes = self._text.estimated_size(_SAMPLE_BYTES) - self._start
        return estimated_lines(size_bytes, read_bytes=read_bytes, lines=lines)

    def most_rows(self, block_end: int) -> None:  # noqa: ARG002 - the same wherever it ends
        """Return None: the length of the text is not known before its end."""
        return


def estimated_lines(size_bytes: int, *, read_bytes: int, lines: int) -> int:
    """Return how many lines a text of some size has, judged by the first of them."""
    # Rounded up: it has at least the line that was read.
    return max(1, -(-size_bytes * lines // max(1, read_bytes)))


def open_strict(source: OpenInput) -> TextReader | CompressedTextReader:
    """Open a text in the strict format."""
    if source.path.suffix.lower() in COMPRESSIONS:
        _head(source, HEAD_BYTES)
    return _open(source, TextLayout())


def open_table(source: OpenInput, ending: str) -> TextReader | CompressedTextReader:
    """Open a CSV or white-space separated file; raises as `table_layout`."""
    start, head = _head(source, LAYOUT_BYTES)
    layout = table_layout(source.path, head, ending, source.input_dims)
    return _open(source, layout.moved(start))


def open_json_lines(source: OpenInput) -> TextReader | CompressedTextReader:
    """Open JSON lines; raises as `json_layout`."""
    start, head = _head(source, LAYOUT_BYTES)
    return _open(source, json_layout(source.path, head, source.input_dims).moved(start))


def _open(source: OpenInput, layout: TextLayout) -> TextReader | CompressedTextReader:
    compressed = source.path.suffix.lower() in COMPRESSIONS
    return CompressedTextReader(source, layout) if compressed else TextReader(source, layout)


def _records(text: TextSource, layout: TextLayout) -> TextSource:
    return text if layout.quote_delimiter is None else QuotedText(text, layout.quote_delimiter)


def _head(source: OpenInput, size_bytes: int) -> tuple[int, bytes]:
    """Return where the text starts, behind a byte order mark, and its first lines, whole.

    Raises
    ------
    InputFileError
        It is not text, or not compressed as its ending says.
    """
    compressed = source.path.suffix.lower() in COMPRESSIONS
    text: TextSource = (
        CompressedText(source.path, source.descriptor) if compressed else FileText(source.descriptor)
    )
    head = b""
    while len(head) < size_bytes and not text.finished:
        head += text.read()
    require_content(source.path, head[:HEAD_BYTES], None)
    if not text.finished:
        head = head[: head.rfind(b"\n") + 1] or head
    return text.start, head
