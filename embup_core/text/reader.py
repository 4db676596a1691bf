"""A file of any length, read in chunks of a fixed number of lines, from any line's start.

Chunk boundaries depend on the file alone: a reader that starts at the end of chunk k yields the chunks that a
reader from the start yields after k. Memory is bounded by `chunk_rows` lines of the longest legal length,
whatever the file holds: the rest of an overlong line is passed over, not kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from embup_core.errors import InputFileError
from embup_core.text.parser import MAX_LINE_BYTES, BadRow, ParsedRows, parse_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_BLANK: Final = b" \t\r\n"
_READ_BYTES: Final = 256 * 1024

# A line of gigabytes is passed over in steps of milliseconds, so that a caller can do other work between.
_READS_A_STEP_IN_LONG_LINE: Final = 16


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive lines of a file, not yet looked into: what another process can be handed to read.

    Attributes
    ----------
    text
        The lines, as `parse_rows` takes them.
    rows
        How many lines there are. None at all: the reader is within an overlong line, and the next call goes
        on.
    first_line
        1-based number of the first one.
    end_offset
        Where the next block starts, in bytes; the file's size after the last one.
    """

    text: bytes
    rows: int
    first_line: int
    end_offset: int

    def parse(self, dims: int) -> ParsedRows:
        """Return the rows, shape (rows, dims), and the refused lines."""
        return parse_rows(self.text, dims=dims, first_line=self.first_line)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive rows of a file.

    Attributes
    ----------
    first_line
        1-based number of the first row's line.
    rows
        float32, shape (n, dims); NaN where the line was refused. No row at all: the reader is within an
        overlong line, and the next call goes on.
    bad
        The refused lines, in order.
    end_offset
        Where the next chunk starts, in bytes; the file's size after the last one.
    """

    first_line: int
    rows: npt.NDArray[np.float32]
    bad: tuple[BadRow, ...]
    end_offset: int


class RowReader:
    """Reads the rows of an open file, chunk by chunk.

    A byte order mark at the start, Windows line ends, a missing last line end and blank lines at the very end
    are accepted; a blank line before that is a refused row.

    Parameters
    ----------
    descriptor
        A regular file open for reading; it stays the caller's. Its own position is neither used nor moved.
    dims
        Values a row must have.
    chunk_rows
        Rows of a chunk; only the last one has fewer.
    offset, first_line
        Where to start: an `end_offset` of this file, and the number of the line that starts there.
    """

    def __init__(
        self, descriptor: int, *, dims: int = 32, chunk_rows: int = 64, offset: int = 0, first_line: int = 1
    ) -> None:
        self._descriptor = descriptor
        self._dims = dims
        self._chunk_rows = chunk_rows
        self._size_bytes = os.fstat(descriptor).st_size
        self._end = _end_of_rows(descriptor, self._size_bytes)
        if offset == 0 and os.pread(descriptor, len(_BYTE_ORDER_MARK), 0) == _BYTE_ORDER_MARK:
            offset = min(len(_BYTE_ORDER_MARK), self._end)
        self._line = first_line
        self._chunk_start = offset
        self._read_offset = offset
        self._buffer = b""
        self._position = 0
        self._dropping = False
        self._dropped_bytes = 0

    @property
    def exhausted(self) -> bool:
        """Whether no row is left."""
        return self._chunk_start >= self._end

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks that are left."""
        while (chunk := self.read_chunk()) is not None:
            yield chunk

    def read_chunk(self) -> Chunk | None:
        """Return the next chunk, or None after the last row.

        Raises
        ------
        InputFileError
            The file ends before the size it had, or cannot be read.
        """
        block = self.read_block()
        if block is None:
            return None
        parsed = block.parse(self._dims)
        return Chunk(block.first_line, parsed.rows, parsed.bad, block.end_offset)

    def read_block(self) -> Block | None:
        """Return the lines of the next chunk without looking into them; raises as `read_chunk`."""
        if self.exhausted:
            return None
        reads_in_long_line = 0
        while (stop := self._chunk_stop()) is None:
            self._drop_overlong_tail()
            if reads_in_long_line >= _READS_A_STEP_IN_LONG_LINE:
                return Block(b"", 0, self._line, self._chunk_start)
            reads_in_long_line += self._dropping
            self._read_more()
        text = self._buffer[self._position : stop]
        self._chunk_start += len(text) + self._dropped_bytes
        self._dropped_bytes = 0
        self._position = stop
        rows = text.count(b"\n") + (not text.endswith(b"\n"))
        first_line = self._line
        self._line += rows
        end_offset = self._chunk_start if self._chunk_start < self._end else self._size_bytes
        return Block(text, rows, first_line, end_offset)

    def _chunk_stop(self) -> int | None:
        """Return where the chunk ends in the buffer, or None when more must be read to know."""
        stop = self._position
        for _ in range(self._chunk_rows):
            stop = self._buffer.find(b"\n", stop) + 1
            if stop == 0:
                return len(self._buffer) if self._read_offset >= self._end else None
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

    def _read_more(self) -> None:
        """Append the next bytes of the file to the buffer, less those of an overlong line."""
        wanted_bytes = min(_READ_BYTES, self._end - self._read_offset)
        try:
            data = os.pread(self._descriptor, wanted_bytes, self._read_offset)
        except OSError as error:
            message = f"the input cannot be read at byte {self._read_offset}: {error.strerror}"
            raise InputFileError(message, remedy="Check the disk it lies on.") from error
        if not data:
            message = (
                f"input changed: it had {self._size_bytes} bytes and now ends at byte {self._read_offset}"
            )
            raise InputFileError(message, remedy="Submit it again once nobody writes to it.")
        self._read_offset += len(data)
        if self._dropping:
            line_end = data.find(b"\n")
            passed_over_bytes = len(data) if line_end < 0 else line_end
            self._dropped_bytes += passed_over_bytes
            self._dropping = line_end < 0
            data = data[passed_over_bytes:]
        self._buffer = self._buffer[self._position :] + data
        self._position = 0


def _end_of_rows(descriptor: int, size_bytes: int) -> int:
    """Return the offset after the last byte that is not blank: what follows is no row."""
    end = size_bytes
    while end > 0:
        start = max(0, end - _READ_BYTES)
        kept = os.pread(descriptor, end - start, start).rstrip(_BLANK)
        if kept:
            return start + len(kept)
        end = start
    return 0
