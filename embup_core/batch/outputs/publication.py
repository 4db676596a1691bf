"""Publish a finished file under its final name, in one rename.

At any time the final path holds nothing, the old file, or the whole new one: the new file is on disk before
the rename, and the folder is synced after it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from embup_core.batch.outputs.part_file import output_error
from embup_core.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.files.held_folder import Folder, FolderEntry

_RENAME_NOREPLACE: Final = 1
_NOT_SUPPORTED: Final = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def move_into_place(part: FolderEntry, final: FolderEntry, *, overwrite: bool) -> None:
    """Give a synced file its final name, in one step.

    Raises
    ------
    OutputError
        `overwrite` is false and the name is taken, or the system refuses. The final path is as it was.
    """
    try:
        if overwrite:
            os.rename(
                part.name,
                final.name,
                src_dir_fd=part.folder.descriptor,
                dst_dir_fd=final.folder.descriptor,
            )
        else:
            _rename_without_replacing(part, final)
    except FileExistsError as error:
        raise already_exists(final.path) from error
    except OSError as error:
        raise output_error(final.path, error) from error


def has_inode(entry: FolderEntry, inode: int, *, size_bytes: int | None = None) -> bool:
    """Whether the name itself is that of the file of this identity, and of this size if one is given.

    0 is no file's identity.
    """
    try:
        status = entry.status()
    except OSError:
        return False
    return inode != 0 and status.st_ino == inode and size_bytes in {None, status.st_size}


def remove_file(entry: FolderEntry) -> None:
    """Remove a file if it is there.

    Raises
    ------
    OutputError
        The system refuses.
    """
    try:
        entry.unlink()
    except OSError as error:
        raise output_error(entry.path, error) from error


def already_exists(path: Path) -> OutputError:
    """Return the error for an output whose name is taken."""
    return OutputError(f"{path} exists.", remedy="Choose another path or allow overwriting.")


def sync_output_folder(folder: Folder) -> None:
    """Return once the folder's entries are on disk.

    Raises
    ------
    OutputError
        They could not be brought there.
    """
    try:
        folder.sync()
    except OSError as error:
        raise output_error(folder.path, error) from error


def _rename_without_replacing(source: FolderEntry, target: FolderEntry) -> None:
    """Rename, or raise FileExistsError: no moment lies between the look and the move."""
    renameat2 = _renameat2()
    here, there = source.folder.descriptor, target.folder.descriptor
    if renameat2 is not None:
        names = os.fsencode(source.name), os.fsencode(target.name)
        if renameat2(here, names[0], there, names[1], _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _NOT_SUPPORTED:
            raise OSError(code, os.strerror(code), target.name)
    # Not every file system knows the flag. A link refuses a taken name too; a crash between the two calls
    # leaves the whole file under both names, which resuming recognises.
    os.link(source.name, target.name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
    source.unlink()


@cache
def _renameat2() -> Any:
    """Return the C library's renameat2, or None where it has none."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    return function
