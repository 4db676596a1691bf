"""System calls that Linux has and macOS lacks, each with the closest substitute."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any, Final

HELD_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
"""Flags that open a folder to hold it. With O_PATH the folder need not be readable."""


def sync_data(descriptor: int) -> None:
    """Return once a file's content is on disk; its times need not be.

    Raises
    ------
    OSError
        It could not be written.
    """
    getattr(os, "fdatasync", os.fsync)(descriptor)


def drop_from_cache(descriptor: int, start: int, size_bytes: int) -> None:
    """Advise the kernel to write a range of a file and to drop its pages; without effect where unsupported.

    Raises
    ------
    OSError
        The kernel refuses.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, size_bytes, os.POSIX_FADV_DONTNEED)


def punch_hole(descriptor: int, start: int, size_bytes: int) -> None:
    """Give the blocks of a range of a file back to its disk; without effect where unsupported.

    Raises
    ------
    OSError
        The file system cannot.
    """
    fallocate = _fallocate()
    if fallocate is None or fallocate(descriptor, _PUNCH_HOLE, start, size_bytes) == 0:
        return
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))


_PUNCH_HOLE: Final = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


@cache
def _fallocate() -> Any:
    """Return the C library's fallocate64, or None where it has none."""
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate64
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    return function


def read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer with the bytes from an offset and return their number; fewer at the end of the file.

    Raises
    ------
    OSError
        The read failed.
    """
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    found = os.pread(descriptor, len(buffer), offset)
    buffer[: len(found)] = found
    return len(found)
