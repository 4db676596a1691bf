"""The input of a batch as a file: opened safely, and known to stay the same."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING

from embup_core.batch.folder import RefusedPathError, open_freely
from embup_core.errors import InputFileError

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.batch.checkpoint import InputFingerprint
    from embup_core.batch.folder import OpenFolder

INPUT_CHANGED = "input_changed"
_RESUBMIT = "Submit it again once nobody writes to it."


def open_input(path: Path, open_folder: OpenFolder = open_freely) -> int:
    """Open a regular, non-empty file for reading and return its descriptor.

    A link is not followed: whoever names the file resolves it first, and a link that takes the file's place
    after that is refused. From a confined folder a file of several names is refused too: the others may be
    those of a file that is not for batches.

    Parameters
    ----------
    path
        The file.
    open_folder
        How its folder is opened.

    Raises
    ------
    InputFileError
        It is missing, unreadable, empty, or a link, folder, pipe or device.
    """
    try:
        with open_folder(path.parent) as folder:
            entry = folder.entry(path.name)
            if folder.confined:  # what is not for batches is not even opened, unless it was swapped just now
                _require_rows(path, entry.status(), confined=True)
            descriptor = entry.open(os.O_RDONLY)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise InputFileError(f"{path} does not exist.", remedy="Check the input path.") from error
        if error.errno == errno.ELOOP:
            raise InputFileError(
                f"{path} cannot be opened: it is a link, which is not followed here.",
                remedy="Name the file it leads to.",
            ) from error
        remedy = error.remedy if isinstance(error, RefusedPathError) else "Check its permissions."
        raise InputFileError(f"{path} cannot be opened: {error.strerror}.", remedy=remedy) from error
    try:
        _require_rows(path, os.fstat(descriptor), confined=folder.confined)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_rows(path: Path, status: os.stat_result, *, confined: bool) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))  # as opening it says
    if not stat.S_ISREG(status.st_mode):
        raise InputFileError(f"{path} is not a regular file.", remedy="Name a file of rows.")
    if confined and status.st_nlink > 1:
        raise InputFileError(
            f"{path} has {status.st_nlink} names (hard links), expected one: who may read it by another name"
            " cannot be told.",
            remedy="Copy it, and name the copy.",
        )
    if status.st_size == 0:
        raise no_rows(path)


def no_rows(path: Path) -> InputFileError:
    """Return the error for an input that holds nothing to answer."""
    return InputFileError(f"{path} is empty: it holds no row.", remedy="At least one row is expected.")


class DescriptorFile(io.RawIOBase):
    """An open file as Python's own readers want it; the descriptor's position is neither used nor moved.

    Parameters
    ----------
    descriptor
        A regular file open for reading; it stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether places in it can be named: yes."""
        return True

    def tell(self) -> int:
        """Return where the next read starts."""
        return self._offset

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Say where the next read starts."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset}.get(whence)
        self._offset = offset + (os.fstat(self._descriptor).st_size if origin is None else origin)
        return self._offset

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # wants what only 3.12 can name
        """Fill a buffer with the next bytes and return how many there were."""
        count = os.preadv(self._descriptor, [buffer], self._offset)
        self._offset += count
        return count


def require_same_file(
    path: Path,
    descriptor: int,
    fingerprint: InputFingerprint,
    open_folder: OpenFolder = open_freely,
) -> None:
    """Check that the open input is what it was, and is still what the path names.

    Raises
    ------
    InputFileError
        Size, time of change or identity differ.
    """
    require_unchanged(path, descriptor, fingerprint)
    try:
        with open_folder(path.parent) as folder:
            same = fingerprint.agrees_with(folder.entry(path.name).target_status())
    except OSError as error:
        raise InputFileError(
            f"input changed: {path} is gone ({error.strerror}).", remedy=_RESUBMIT, code=INPUT_CHANGED
        ) from error
    if not same:
        raise InputFileError(
            f"input changed: {path} was replaced by another file.", remedy=_RESUBMIT, code=INPUT_CHANGED
        )


def require_unchanged(path: Path, descriptor: int, fingerprint: InputFingerprint) -> None:
    """Check that the open input is what it was; one system call."""
    status = os.fstat(descriptor)
    if not fingerprint.agrees_with(status):
        raise InputFileError(
            f"input changed: {path} was written to during the batch"
            f" ({fingerprint.size_bytes} bytes before, {status.st_size} now).",
            remedy=_RESUBMIT,
            code=INPUT_CHANGED,
        )
