"""The one moment at which a finished file takes its final name.

Whatever happens, the final path holds nothing, the old file, or the whole new one: the new file is on disk
before it is renamed, and the folder is synced after.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from embup_core import durable
from embup_core.batch.part_file import output_error
from embup_core.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.batch.checkpoint import Checkpoint
    from embup_core.batch.spec import BatchSpec

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_NOT_SUPPORTED: Final = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def move_into_place(part: Path, final: Path, *, overwrite: bool) -> None:
    """Give a synced file its final name, in one step.

    Raises
    ------
    OutputError
        `overwrite` is false and the name is taken, or the system refuses. The final path is as it was.
    """
    try:
        if overwrite:
            part.replace(final)
        else:
            _rename_without_replacing(part, final)
    except FileExistsError as error:
        raise already_exists(final) from error
    except OSError as error:
        raise output_error(final, error) from error


def finish_publication(spec: BatchSpec, checkpoint: Checkpoint) -> bool:
    """Tell whether the batch was published by a process that was cut off before it could say so.

    If it was, what is left to do is done. Only the checkpoint taken after the last row can say so; to an
    earlier one the answer is no. Neither the input nor the model is needed.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    # A file that was removed gives its inode number to the next new one: the size tells them apart.
    inode, size_bytes = checkpoint.output_inode, checkpoint.output_bytes
    if checkpoint.converted_inode:
        inode, size_bytes = checkpoint.converted_inode, checkpoint.converted_bytes
    if not checkpoint.complete or not has_inode(spec.output_path, inode, size_bytes=size_bytes):
        return False
    # A link of `_rename_without_replacing` that was not yet taken away, or the rows that a file was made of.
    if has_inode(spec.part_path, checkpoint.output_inode):
        remove_file(spec.part_path)
    if has_inode(spec.converting_path, checkpoint.converted_inode):
        remove_file(spec.converting_path)
    sync_output_folder(spec.output_path.parent)
    return True


def has_inode(path: Path, inode: int, *, size_bytes: int | None = None) -> bool:
    """Whether the path itself names the file of this identity, and of this size if one is given.

    0 is no file's identity.
    """
    try:
        status = path.lstat()
    except OSError:
        return False
    return inode != 0 and status.st_ino == inode and size_bytes in {None, status.st_size}


def remove_file(path: Path) -> None:
    """Remove a file if it is there.

    Raises
    ------
    OutputError
        The system refuses.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def already_exists(path: Path) -> OutputError:
    """Return the error for an output whose name is taken."""
    return OutputError(f"{path} exists.", remedy="Choose another path or allow overwriting.")


def sync_output_folder(folder: Path) -> None:
    """Return once the folder's entries are on disk.

    Raises
    ------
    OutputError
        They could not be brought there.
    """
    try:
        durable.sync_folder(folder)
    except OSError as error:
        raise output_error(folder, error) from error


def _rename_without_replacing(source: Path, target: Path) -> None:
    """Rename, or raise FileExistsError: no moment lies between the look and the move."""
    renameat2 = _renameat2()
    if renameat2 is not None:
        arguments = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
        if renameat2(*arguments) == 0:
            return
        code = ctypes.get_errno()
        if code not in _NOT_SUPPORTED:
            raise OSError(code, os.strerror(code), os.fspath(target))
    # Not every file system knows the flag. A link refuses a taken name too; a crash between the two calls
    # leaves the whole file under both names, which resuming recognises.
    target.hardlink_to(source)
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
