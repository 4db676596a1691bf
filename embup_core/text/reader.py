"""Text of any length, read in chunks of a fixed number of lines, from any line's start.

Chunk boundaries depend on the text alone: a reader that starts at the end of chunk k yields the chunks that a
reader from the start yields after k. Memory is bounded by `chunk_rows` lines of the longest legal length,
whatever the text holds: the rest of an overlong line is passed over, not kept.

`LineReader` cuts any `TextSource` into lines; `FileText` is that of a plain file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from embup_core.errors import InputFileError
from embup_core.files.readable import Readable, read_at, status_of
from embup_core.text.parser import MAX_LINE_BYTES, ParsedRows, parse_rows

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
BLANK: Final = b" \t\r\n"
READ_BYTES: Final = 256 * 1024

# What gives no row is passed over in steps of milliseconds, so that a caller can do other work between.
_IDLE_READS_A_STEP: Final = 16


class TextSource(Protocol):
    """Text, from some place in it to the end of its last line that is not blank: what follows is no row."""

    @property
    def start(self) -> int:
        """Where the first byte of `read` lies in the text; behind a byte order mark."""

    @property
    def finished(self) -> bool:
        """Whether it is known that nothing is left to read."""

    @property
    def end(self) -> int:
        """How long the text is with all that is blank behind it; once `finished`."""

    def read(self) -> bytes:
        """Return the next bytes; none when it is not known yet whether those to come are rows.

        Raises
        ------
        InputFileError
            They cannot be read.
        """

    def bytes_done(self, offset: int) -> int:
        """Return how far into the file a place in the text is that was read just now."""


class RowLayout(Protocol):
    """How the lines of a text hold rows; a small value that other processes receive with each block."""

    def parse(self, text: bytes, *, dims: int, first_line: int) -> ParsedRows:
        """Return the rows of whole lines, shape (lines, dims), and the refused ones."""


@dataclass(frozen=True, slots=True)
class StrictRows:
    """Layout of the strict format: numbers and commas, see `embup_core.text.parser`."""

    def parse(self, text: bytes, *, dims: int, first_line: int) -> ParsedRows:
        """Return the rows of whole lines, and the refused ones."""
        return parse_rows(text, dims=dims, first_line=first_line)


STRICT_ROWS: Final = StrictRows()


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive lines of a text, not parsed yet, so that another process can parse them.

    Attributes
    ----------
    text
        The lines, as `RowLayout.parse` takes them.
    rows
        Number of lines. 0: the reader has not reached the end of the next line; call it again.
    first_line
        1-based number of the first one.
    end_offset
        Where the next block starts in the text; its length after the last one.
    bytes_done
        How far into the file that is.
    why_empty
        For a block without lines: why the line at hand will be refused, if that is known.
    layout
        How the lines hold rows.
    """

    text: bytes
    rows: int
    first_line: int
    end_offset: int
    bytes_done: int
    why_empty: str = ""
    layout: RowLayout = STRICT_ROWS

    def parse(self, dims: int) -> ParsedRows:
        """Return the rows, shape (rows, dims), and the refused lines."""
        return self.layout.parse(self.text, dims=dims, first_line=self.first_line)


class LineReader:
    """Cuts a text into blocks of lines.

    Windows line ends and a missing last line end are accepted; a blank line is a refused row.

    Parameters
    ----------
    source
        The text.
    chunk_rows
        Lines of a block; only the last one has fewer.
    first_line
        The number of the line that the source starts with.
    layout
        How the lines hold rows.
    """

    def __init__(
        self,
        source: TextSource,
        *,
        chunk_rows: int = 64,
        first_line: int = 1,
        layout: RowLayout = STRICT_ROWS,
    ) -> None:
        self._source = source
        self._layout = layout
        self._chunk_rows = chunk_rows
        self._first_line = first_line
        self._line = first_line
        self._chunk_start = source.start
        self._buffer = b""
        self._position = 0
        self._dropping = False
        self._dropped_bytes = 0

    @property
    def exhausted(self) -> bool:
        """Whether it is known that no line is left."""
        return self._position >= len(self._buffer) and self._source.finished

    @property
    def lines_read(self) -> int:
        """How many lines were given in blocks."""
        return self._line - self._first_line

    @property
    def offset(self) -> int:
        """Where the next block starts in the text; its length after the last one."""
        return self._source.end if self.exhausted else self._chunk_start

    def read_block(self) -> Block | None:
        """Return the next lines without looking into them, or None after the last one.

        Raises
        ------
        InputFileError
            The text ends too early, or cannot be read.
        """
        if self.exhausted:
            return None
        idle_reads = 0
        while (stop := self._chunk_stop()) is None:
            self._drop_overlong_tail()
            if idle_reads >= _IDLE_READS_A_STEP:
                return self._nothing_yet()
            idle_reads += self._dropping
            if not self._read_more():
                idle_reads += 1
                if self.exhausted:
                    return None
        text = self._buffer[self._position : stop]
        self._chunk_start += len(text) + self._dropped_bytes
        self._dropped_bytes = 0
        self._position = stop
        rows = text.count(b"\n") + (not text.endswith(b"\n"))
        first_line = self._line
        self._line += rows
        self.look_ahead()
        done = self._source.bytes_done(self.offset)
        return Block(text, rows, first_line, self.offset, done, layout=self._layout)

    def look_ahead(self) -> None:
        """Read a little more when nothing is left in memory, so that `exhausted` knows what is known."""
        for _ in range(_IDLE_READS_A_STEP):
            if self._position < len(self._buffer) or self._source.finished:
                return
            self._read_more()

    def _nothing_yet(self) -> Block:
        """Return the block that says that there is no line yet."""
        reason = f"longer than {MAX_LINE_BYTES} bytes" if self._dropping else ""
        done = self._source.bytes_done(self._chunk_start)
        return Block(b"", 0, self._line, self._chunk_start, done, reason)

    def _chunk_stop(self) -> int | None:
        """Return where the chunk ends in the buffer, or None when more must be read to know."""
        stop = self._position
        for _ in range(self._chunk_rows):
            stop = self._buffer.find(b"\n", stop) + 1
            if stop == 0:
                return len(self._buffer) if self._source.finished else None
        return stop

    def _drop_overlong_tail(self) -> None:
        """Cut an unfinished line that is over the limit to a length that still shows it."""
        # The limit, a carriage return that may belong to the line end, and one more byte.
        kept_bytes = MAX_LINE_BYTES + 2
        tail_start = max(self._buffer.rfind(b"\n") + 1, self._position)
        surplus_bytes = len(self._buffer) - tail_start - kept_bytes
        if surplus_bytes >= 0:
            self._buffer = self._buffer[: tail_start + kept_bytes]
            self._dropped_bytes += surplus_bytes
            self._dropping = True

    def _read_more(self) -> bool:
        """Append the next bytes to the buffer, less those of an overlong line; return whether any came."""
        data = self._source.read()
        came = bool(data)
        if self._dropping:
            line_end = data.find(b"\n")
            passed_over_bytes = len(data) if line_end < 0 else line_end
            self._dropped_bytes += passed_over_bytes
            self._dropping = line_end < 0
            data = data[passed_over_bytes:]
        self._buffer = self._buffer[self._position :] + data
        self._position = 0
        return came


class FileText:
    """The text of an open file; see `TextSource`.

    Parameters
    ----------
    descriptor
        A regular file open for reading; the caller closes it. Its own position is neither used nor moved.
    offset
        Where to start.
    """

    def __init__(self, descriptor: Readable, offset: int = 0) -> None:
        self._descriptor = descriptor
        self.end = status_of(descriptor).st_size
        first = 0
        if read_at(descriptor, len(BYTE_ORDER_MARK), 0) == BYTE_ORDER_MARK:
            first = len(BYTE_ORDER_MARK)
        self._last = _end_of_rows(descriptor, first, self.end)
        self.start = max(first, offset)
        self._offset = self.start

    @property
    def finished(self) -> bool:
        """Whether nothing is left to read."""
        return self._offset >= self._last

    def read(self) -> bytes:
        """Return the next bytes.

        Raises
        ------
        InputFileError
            The file ends before the size it had, or cannot be read.
        """
        wanted_bytes = min(READ_BYTES, self._last - self._offset)
        try:
            data = read_at(self._descriptor, wanted_bytes, self._offset)
        except OSError as error:
            message = f"the input cannot be read at byte {self._offset}: {error.strerror}"
            raise InputFileError(message, remedy="Check the disk it lies on.") from error
        if not data:
            message = f"input changed: it had {self.end} bytes and now ends at byte {self._offset}"
            remedy = "Submit it again when no other program writes to it."
            raise InputFileError(message, remedy=remedy, code="input_changed")
        self._offset += len(data)
        return data

    def bytes_done(self, offset: int) -> int:
        """Return the place itself."""
        return offset


def _end_of_rows(descriptor: Readable, first: int, size_bytes: int) -> int:
    """Return the end of the last line that is not blank: what follows is no row."""
    end = size_bytes
    while end > first:
        start = max(first, end - READ_BYTES)
        kept = read_at(descriptor, end - start, start).rstrip(BLANK)
        if kept:
            return _end_of_line(descriptor, start + len(kept), size_bytes)
        end = start
    return first


def _end_of_line(descriptor: Readable, offset: int, size_bytes: int) -> int:
    """Return the offset of the next line end, or the size."""
    while data := read_at(descriptor, READ_BYTES, offset):
        if (line_end := data.find(b"\n")) >= 0:
            return offset + line_end
        offset += len(data)
    return size_bytes
