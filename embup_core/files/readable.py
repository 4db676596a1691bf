"""What a batch reads: a descriptor of a local file, or another thing that gives bytes by their offset."""

from __future__ import annotations

import os
from typing import Protocol, TypeAlias

from embup_core.files.portable import read_into


class RangedFile(Protocol):
    """A file that has no descriptor, such as an object in a bucket."""

    def read_at(self, count: int, offset: int) -> bytes:
        """Return bytes from an offset on; fewer at the end."""

    def status(self) -> os.stat_result:
        """Return what it was when it was opened: size, time, and an inode that stands for its identity."""

    def require_same(self) -> None:
        """Check that its name still stands for it; raises `InputFileError`."""

    def close(self) -> None:
        """Let go of it. Idempotent."""


Readable: TypeAlias = int | RangedFile
"""A descriptor that is open for reading, or a file without one."""


def read_at(file: Readable, count: int, offset: int) -> bytes:
    """Return bytes from an offset on; fewer at the end.

    Raises
    ------
    OSError
        The system fails to read.
    """
    return os.pread(file, count, offset) if isinstance(file, int) else file.read_at(count, offset)


def read_into_at(file: Readable, buffer: memoryview, offset: int) -> int:
    """Fill a buffer with the bytes from an offset and return their number; raises as `read_at`."""
    if isinstance(file, int):
        return read_into(file, buffer, offset)
    found = file.read_at(len(buffer), offset)
    buffer[: len(found)] = found
    return len(found)


def status_of(file: Readable) -> os.stat_result:
    """Return the status of an open file."""
    return os.fstat(file) if isinstance(file, int) else file.status()


def close_file(file: Readable) -> None:
    """Close it."""
    if isinstance(file, int):
        os.close(file)
    else:
        file.close()
