"""Text that is compressed with gzip or Zstandard: read from its start, a piece at a time.

Several members or frames, one after the other, are one text. The end of the text is not known before it is
reached, so blank lines are held back until a row follows; memory is bounded at any compression ratio.
"""

from __future__ import annotations

import gzip
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from embup_core.batch.arrow import first_line, load_arrow
from embup_core.batch.inputs.input_file import DescriptorFile, input_changed, unreadable
from embup_core.errors import InputFileError
from embup_core.files.readable import status_of
from embup_core.text.reader import BLANK, BYTE_ORDER_MARK, READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.files.readable import Readable

COMPRESSIONS: Final = {".gz": "gzip", ".zst": "Zstandard"}
"""Compression of the text, by the path's ending."""

MOST_BLANK_BYTES: Final = 1024 * 1024
"""The longest run of blank lines before a row."""


class CompressedText:
    """The text of an open compressed file; see `TextSource`.

    Parameters
    ----------
    path
        Its path: the ending names the compression, messages name the path.
    descriptor
        The file; the caller closes it.
    offset
        Where in the text to start; the text before is read and dropped.

    Attributes
    ----------
    start
        Where the first byte of `read` lies.
    end
        Length of the text; once `finished`.
    finished
        Whether it is known that nothing is left to read.

    Raises
    ------
    InputFileError
        It is compressed otherwise, or damaged.
    """

    def __init__(self, path: Path, descriptor: Readable, offset: int = 0) -> None:
        self._path = path
        self._file = DescriptorFile(descriptor)
        self._size_bytes = status_of(descriptor).st_size
        self._compression = COMPRESSIONS[path.suffix.lower()]
        self._text = self._decompressed()
        self._to_skip = offset
        self._begin = b""
        self._held = b""
        self._in_line = False
        self._held_too_much = False
        self.start = offset
        self.end = 0
        self.finished = False
        if offset == 0:
            self._skip_byte_order_mark()

    def read(self) -> bytes:
        """Return the next bytes; none while they are blank or before the start.

        Raises
        ------
        InputFileError
            The file is damaged, ends too early, or cannot be read; or it has more than 1 MiB of blank lines
            in one place.
        """
        data, self._begin = self._begin, b""
        if not data and not (data := self._next_piece()):
            self.finished = True
            if self._to_skip:
                raise input_changed(f"the text in {self._path} ends before byte {self.start}")
            return b""
        if self._to_skip:
            passed_over_bytes = min(self._to_skip, len(data))
            self._to_skip -= passed_over_bytes
            data = data[passed_over_bytes:]
        return self._less_blank_end(data)

    def bytes_done(self, offset: int) -> int:  # noqa: ARG002 - only how far the file was read is known
        """Return how far the file was read."""
        return self._size_bytes if self.finished else self._file.tell()

    def estimated_size(self, sample_bytes: int) -> int:
        """Return the length of the text as that many bytes of it suggest; nothing can be read afterwards."""
        while self.end < sample_bytes and self._next_piece():
            pass
        if self.end < sample_bytes:
            return self.end
        return self.end * self._size_bytes // max(1, self._file.tell())

    def _decompressed(self) -> Any:
        if self._compression == "gzip":
            return gzip.GzipFile(fileobj=self._file, mode="rb")
        arrow = load_arrow()
        return arrow.CompressedInputStream(arrow.PythonFile(self._file, mode="r"), "zstd")

    def _skip_byte_order_mark(self) -> None:
        begin = b""
        while len(begin) < len(BYTE_ORDER_MARK) and (data := self._next_piece()):
            begin += data
        if begin.startswith(BYTE_ORDER_MARK):
            self.start = len(BYTE_ORDER_MARK)
        self._begin = begin[self.start :]

    def _less_blank_end(self, data: bytes) -> bytes:
        """Return the bytes held back and the new ones, and hold back the blank lines at their end."""
        come = self._held + data
        last = len(come.rstrip(BLANK))
        if self._held_too_much and last:
            raise InputFileError(
                f"{self._path} holds more than {MOST_BLANK_BYTES} bytes of blank lines before byte"
                f" {self.end} of its text, with rows behind them.",
                remedy="Remove the blank lines.",
            )
        if self._held_too_much:
            return b""
        # Blanks on the line of a row belong to it; the bytes held back begin with a line end.
        line_end = come.find(b"\n", last) if last or self._in_line else 0
        kept = come if line_end < 0 else come[:line_end]
        self._in_line = line_end < 0
        self._held = come[len(kept) :]
        if len(self._held) > MOST_BLANK_BYTES:
            self._held_too_much = True
            self._held = b""
        return kept

    def _next_piece(self) -> bytes:
        with self._explained():
            data: bytes = self._text.read(READ_BYTES)
        self.end += len(data)
        return data

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of a decompressor into those of an input file."""
        place = f"after {self.end} bytes of its text or a little later"
        try:
            yield
        except EOFError as error:
            raise self._cut_off(place) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise self._damaged(place, str(error)) from error
        except OSError as error:
            if error.errno is not None:
                raise unreadable(self._path, self._file.tell(), error) from error
            # Arrow has one class of error for every fault of a stream.
            if "Truncated" in str(error):
                raise self._cut_off(place) from error
            raise self._damaged(place, first_line(error)) from error

    def _cut_off(self, place: str) -> InputFileError:
        return InputFileError(
            f"{self._path} is cut off: its {self._compression} data end in the middle, {place}.",
            remedy="Copy or compress it again, whole.",
        )

    def _damaged(self, place: str, found: str) -> InputFileError:
        if self.end == 0:
            place = "near its start"
        return InputFileError(
            f"{self._path}: expected {self._compression} data, found something else {place} ({found}).",
            remedy=f"Compress it with {self._compression}, or give the file the ending of what it holds.",
        )
