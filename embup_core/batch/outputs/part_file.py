"""A file that grows beside its final name: locked, append-only, cut back to a known size on resuming."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from embup_core.errors import JobConflictError, OutputError
from embup_core.files.held_folder import RefusedPathError
from embup_core.files.portable import drop_from_cache, punch_hole, sync_data

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.files.held_folder import FolderEntry

_REMEDIES: Final = {
    errno.ENOSPC: "Free space on that disk and run it again.",
    errno.EDQUOT: "Free space under your quota and run it again.",
    errno.EFBIG: "Raise the limit on file sizes and run it again.",
    errno.EROFS: "Write to a disk that is not read-only.",
    errno.EIO: "Check that disk.",
    errno.ENOENT: "Create the folder first.",
    errno.ENOTDIR: "Name a path inside a folder.",
    errno.EACCES: "Check the folder's permissions.",
    errno.EPERM: "Check the folder's permissions.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EISDIR: "Remove that folder or choose another output.",
    errno.ELOOP: "Remove that link or choose another output.",
}
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCK_POLL_S: Final = 0.02
_WRITTEN_AT_ONCE_BYTES: Final = 8 << 20
_ON_ITS_WAY_BYTES: Final = 64 << 20


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error for an output path that the system refuses to write."""
    remedy = error.remedy if isinstance(error, RefusedPathError) else _REMEDIES.get(error.errno or 0, "")
    return OutputError(
        f"{path} cannot be written: {error.strerror}.",
        remedy=remedy,
        code="no_space" if error.errno in _NO_SPACE else None,
    )


def part_exists(path: Path) -> OutputError:
    """Return the error for a name that a batch needs for a growing file and that is taken."""
    return OutputError(
        f"{path} exists: a file of yours, a leftover of a killed batch, or the part file of a running batch.",
        remedy="Choose another output, or remove that file if it is not needed.",
    )


class PartFile:
    """One growing file, held by one process at a time.

    Attributes
    ----------
    entry
        Its name in a folder that the owner of this object holds open.
    size_bytes
        Bytes appended so far, and kept from before.
    inode
        The file's identity.
    """

    def __init__(self, entry: FolderEntry, descriptor: int, size_bytes: int) -> None:
        self.entry = entry
        self.size_bytes = size_bytes
        self.inode = os.fstat(descriptor).st_ino
        self._descriptor = descriptor
        self._uncached_to = size_bytes
        self._started_to = size_bytes

    @property
    def path(self) -> Path:
        """How messages name it."""
        return self.entry.path

    @classmethod
    def create(cls, entry: FolderEntry) -> Self:
        """Start an empty file under a name that is free.

        Raises
        ------
        OutputError
            The name is taken, or the system refuses.
        """
        return cls._open(entry, os.O_CREAT | os.O_EXCL, size_bytes=0, inode=None)

    @classmethod
    def reopen(cls, entry: FolderEntry, *, size_bytes: int, inode: int, patience_s: float = 0.0) -> Self:
        """Open the file that had this size and identity at the last checkpoint.

        Parameters
        ----------
        entry
            Its name.
        size_bytes, inode
            Size and identity; what lies beyond is cut off.
        patience_s
            Seconds to wait for a run that is ending: the kernel may still be busy with its last write.

        Raises
        ------
        OutputError
            It is gone, shorter, or another file.
        JobConflictError
            A live run holds the file.
        """
        return cls._open(entry, 0, size_bytes=size_bytes, inode=inode, patience_s=patience_s)

    @classmethod
    def remove_leftover(cls, entry: FolderEntry, *, patience_s: float = 0.0) -> None:
        """Remove the part file of an ended run, if there is one.

        A file that is linked under another name keeps its content.

        Raises
        ------
        OutputError
            The system refuses, or no regular file stands there.
        JobConflictError
            A live run holds the file.
        """
        try:
            status = entry.status()
        except OSError:
            return
        if entry.folder.confined and stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            raise part_exists(entry.path)  # of whatever file it is another name: it is not even locked
        cls._open(entry, 0, size_bytes=None, inode=None, patience_s=patience_s).remove()

    @classmethod
    def _open(
        cls,
        entry: FolderEntry,
        flags: int,
        *,
        size_bytes: int | None,
        inode: int | None,
        patience_s: float = 0.0,
    ) -> Self:
        try:
            descriptor = entry.open(flags | os.O_RDWR)
        except FileExistsError as error:
            raise part_exists(entry.path) from error
        except OSError as error:
            raise output_error(entry.path, error) from error
        try:
            _lock(entry, descriptor, patience_s)
            status = os.fstat(descriptor)
            _require_kept(entry.path, status, size_bytes or 0, inode)
            if size_bytes is None:
                size_bytes = status.st_size
            elif status.st_size != size_bytes:
                os.ftruncate(descriptor, size_bytes)
            return cls(entry, descriptor, size_bytes)
        except OSError as error:
            os.close(descriptor)
            raise output_error(entry.path, error) from error
        except BaseException:
            os.close(descriptor)
            raise

    def append(self, data: bytes | memoryview) -> None:
        """Write at the end, all of it.

        Raises
        ------
        OutputError
            No space, over quota, read-only, broken disk …, or another program changed the file's size.
        """
        rest = memoryview(data).cast("B")
        offset = self.size_bytes
        # Before the write: one behind the end of a cut file would fill the gap with NUL bytes.
        self.require_own_size()
        try:
            while rest:
                written_bytes = os.pwrite(self._descriptor, rest, offset)
                offset += written_bytes
                rest = rest[written_bytes:]
        except OSError as error:
            raise output_error(self.path, error) from error
        self.size_bytes = offset
        self._start_writing()

    def _start_writing(self) -> None:
        """Have the kernel start to write appended bytes to disk, so that the next sync waits for less."""
        started_bytes = self.size_bytes - self._started_to
        if started_bytes >= _WRITTEN_AT_ONCE_BYTES:
            # The advice is to drop the pages. Those not yet on disk are sent there without waiting; some
            # were sent before and go now: writing is faster into pages that were just given back.
            start = max(0, self._started_to - _ON_ITS_WAY_BYTES)
            with suppress(OSError):
                drop_from_cache(self._descriptor, start, self.size_bytes - start)
            self._started_to = self.size_bytes

    def write_head(self, head: bytes) -> None:
        """Write over the first bytes; raises as `append`."""
        try:
            os.pwrite(self._descriptor, head, 0)
        except OSError as error:
            raise output_error(self.path, error) from error

    def read(self, limit_bytes: int, offset: int = 0) -> bytes:
        """Return bytes from some place on; fewer at the end."""
        return os.pread(self._descriptor, limit_bytes, offset)

    def give_back(self, start: int, size_bytes: int) -> None:
        """Give the disk back what a range of the file takes, which then reads as NUL bytes."""
        with suppress(OSError):  # it only takes more room
            punch_hole(self._descriptor, start, size_bytes)

    def sync(self) -> None:
        """Return once all that was appended is on disk; another thread may append meanwhile.

        Raises
        ------
        OutputError
            It could not be flushed: bytes appended since the last sync may be lost; or another program
            cut the file.
        """
        size_bytes = self.size_bytes
        found_bytes = os.fstat(self._descriptor).st_size
        if found_bytes < size_bytes:
            raise self._not_own_size(size_bytes, found_bytes)
        try:
            sync_data(self._descriptor)
            # Nobody here reads it again: gigabytes of output must not push the model's memory, or other
            # people's files, out of the cache. Writes also go faster into pages that were just given back.
            self._drop_from_cache(size_bytes)
        except OSError as error:
            raise output_error(self.path, error) from error

    def _drop_from_cache(self, size_bytes: int) -> None:
        uncached_bytes = size_bytes - self._uncached_to
        drop_from_cache(self._descriptor, self._uncached_to, uncached_bytes)
        self._uncached_to = size_bytes

    def require_own_size(self) -> None:
        """Check that no other program cut the file or wrote to it; not during `append`.

        Raises
        ------
        OutputError
            Somebody did.
        """
        found_bytes = os.fstat(self._descriptor).st_size
        if found_bytes != self.size_bytes:
            raise self._not_own_size(self.size_bytes, found_bytes)

    def require_own_name(self) -> None:
        """Check that the path still names this file.

        Raises
        ------
        OutputError
            It was removed, moved or replaced.
        """
        if not _names(self.entry, self._descriptor):
            raise OutputError(
                f"{self.path} is gone: it was removed, moved or replaced by another program.",
                remedy="Keep other programs from that file, and start the batch again.",
            )

    def _not_own_size(self, expected_bytes: int, found_bytes: int) -> OutputError:
        what = "cut" if found_bytes < expected_bytes else "written to"
        return OutputError(
            f"{self.path} was {what} by another program: expected {expected_bytes} bytes,"
            f" found {found_bytes}.",
            remedy="Keep other programs from that file, and start the batch again.",
        )

    def close(self) -> None:
        """Close the file, which stays. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Remove the file, and close it.

        Raises
        ------
        OutputError
            The system refuses.
        """
        # Unlinked before the lock is released, so that no other run can have started with it.
        try:
            if self._descriptor >= 0 and _names(self.entry, self._descriptor):
                self.entry.unlink()
        except OSError as error:
            raise output_error(self.path, error) from error
        finally:
            self.close()


def _require_kept(path: Path, status: os.stat_result, size_bytes: int, inode: int | None) -> None:
    """Check that the file is a regular one and, with an inode, that it is the one of a checkpoint."""
    if not stat.S_ISREG(status.st_mode):
        raise OutputError(f"{path} is not a regular file.", remedy="Remove it or choose another output.")
    if inode is not None and (status.st_ino != inode or status.st_size < size_bytes):
        raise OutputError(
            f"{path} is not as the last checkpoint left it: expected at least {size_bytes} bytes,"
            f" found {status.st_size}{'' if status.st_ino == inode else ' in another file'}.",
            remedy="Start the batch again.",
        )


def _lock(entry: FolderEntry, descriptor: int, patience_s: float) -> None:
    """Hold the file, and know that the path still names it."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise JobConflictError(
                    f"another batch is writing {entry.path}.",
                    remedy="Wait for it, cancel it, or choose another output.",
                ) from error
        time.sleep(_LOCK_POLL_S)
    if not _names(entry, descriptor):
        raise JobConflictError(f"another batch has just removed {entry.path}.", remedy="Try again.")


def _names(entry: FolderEntry, descriptor: int) -> bool:
    """Whether the name is that of the open file."""
    try:
        return os.path.samestat(entry.status(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
