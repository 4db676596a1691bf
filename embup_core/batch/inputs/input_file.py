"""Open the input of a batch safely, and notice when it changes."""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embup_core.errors import InputFileError
from embup_core.files.held_folder import RefusedPathError, open_freely
from embup_core.files.readable import read_into_at, status_of
from embup_core.object_store.address import ObjectPath

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.batch.checkpoint import InputFingerprint
    from embup_core.files.held_folder import OpenFolder
    from embup_core.files.readable import Readable

INPUT_CHANGED = "input_changed"
_RESUBMIT = "Submit it again when no other program writes to it."


@dataclass(frozen=True, slots=True)
class OpenInput:
    """An input that is open, and how it is to be read.

    Attributes
    ----------
    path
        Its path: the ending names the format, and messages name the path.
    descriptor
        The file; the caller closes it.
    input_dims
        Values of a row.
    chunk_rows
        Rows of a block; only the last one has fewer.
    offset, first_row
        Where to resume: the `end_offset` of a block, and the number of rows before it.
    """

    path: Path
    descriptor: Readable
    input_dims: int
    chunk_rows: int
    offset: int = 0
    first_row: int = 0


def open_input(path: Path, open_folder: OpenFolder = open_freely) -> Readable:
    """Open a regular, non-empty file for reading and return its descriptor; or an object of a bucket.

    Links are not followed: callers resolve the path first, and a link that replaces the file after that is
    refused. In a confined folder a file with several hard links is refused too: another name may lie outside
    the folders that are open to batches.

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
    if isinstance(path, ObjectPath):
        from embup_core.batch.inputs.object_input import ObjectInput

        return ObjectInput(path)
    try:
        with open_folder(path.parent) as folder:
            entry = folder.entry(path.name)
            if folder.confined:  # before opening: a refused file is not even opened, short of a race
                _require_rows(path, entry.status(), confined=True)
            descriptor = entry.open(os.O_RDONLY)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise InputFileError(f"{path} does not exist.", remedy="Check the input path.") from error
        if error.errno == errno.ELOOP:
            raise InputFileError(
                f"{path} cannot be opened: it is a link, which is not followed here.",
                remedy="Name the target of the link.",
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
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))  # as opening a link does
    if not stat.S_ISREG(status.st_mode):
        raise InputFileError(f"{path} is not a regular file.", remedy="Name a file of rows.")
    if confined and status.st_nlink > 1:
        raise InputFileError(
            f"{path} has {status.st_nlink} names (hard links), expected one: another name may lie in a folder"
            " that is closed to batches.",
            remedy="Copy it, and name the copy.",
        )
    if status.st_size == 0:
        raise no_rows(path)


def input_changed(what: str) -> InputFileError:
    """Return the error for an input that another program wrote to."""
    return InputFileError(f"input changed: {what}.", remedy=_RESUBMIT, code=INPUT_CHANGED)


def unreadable(path: Path, offset: int, error: OSError) -> InputFileError:
    """Return the error for an input that the system fails to read."""
    return InputFileError(
        f"{path} cannot be read at byte {offset}: {error.strerror}.", remedy="Check the disk it lies on."
    )


def no_rows(path: Path) -> InputFileError:
    """Return the error for an input without rows."""
    return InputFileError(
        f"{path} is empty: it holds no row.",
        remedy="At least one row is expected. Of a folder, names that begin with an underscore are left out.",
    )


class DescriptorFile(io.RawIOBase):
    """File object over a descriptor, whose own position is neither used nor moved.

    Parameters
    ----------
    descriptor
        A regular file open for reading; the caller closes it.
    """

    def __init__(self, descriptor: Readable) -> None:
        self._descriptor = descriptor
        self._offset = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the offset of the next read."""
        return self._offset

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the offset of the next read."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset}.get(whence)
        self._offset = offset + (status_of(self._descriptor).st_size if origin is None else origin)
        return self._offset

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # wants what only 3.12 can name
        """Fill a buffer with the next bytes and return how many there were."""
        count = read_into_at(self._descriptor, buffer, self._offset)
        self._offset += count
        return count


def require_same_file(
    path: Path,
    descriptor: Readable,
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
    if not isinstance(descriptor, int):
        descriptor.require_same()
        return
    try:
        with open_folder(path.parent) as folder:
            same = fingerprint.agrees_with(folder.entry(path.name).target_status())
    except OSError as error:
        raise input_changed(f"{path} is gone ({error.strerror})") from error
    if not same:
        raise input_changed(f"{path} was replaced by another file")


def require_unchanged(path: Path, descriptor: Readable, fingerprint: InputFingerprint) -> None:
    """Check that the open input is what it was; one system call."""
    status = status_of(descriptor)
    if not fingerprint.agrees_with(status):
        raise input_changed(
            f"{path} was written to during the batch"
            f" ({fingerprint.size_bytes} bytes before, {status.st_size} now)"
        )
