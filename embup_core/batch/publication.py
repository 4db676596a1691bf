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

from embup_core.batch.folder import open_freely
from embup_core.batch.output_files import OutputFiles
from embup_core.batch.part_file import output_error
from embup_core.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.batch.checkpoint import Checkpoint
    from embup_core.batch.folder import Folder, FolderEntry, OpenFolder
    from embup_core.batch.spec import BatchSpec

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


def finish_publication(
    spec: BatchSpec, checkpoint: Checkpoint, *, open_folder: OpenFolder = open_freely
) -> bool:
    """Tell whether the batch was published by a process that was cut off before it could say so.

    If it was, what is left to do is done. Only the checkpoint taken after the last row can say so; to an
    earlier one the answer is no. Neither the input nor the model is needed.

    Parameters
    ----------
    spec, checkpoint
        The batch, and its last checkpoint.
    open_folder
        How its folder is opened.

    Raises
    ------
    OutputError
        The folder is gone, or cannot be written.
    """
    if not checkpoint.complete:
        return False
    with OutputFiles.open(spec, open_folder) as files:
        return finish_publication_of(files, checkpoint)


def finish_publication_of(files: OutputFiles, checkpoint: Checkpoint) -> bool:
    """Do what `finish_publication` does, in a folder that is open."""
    # A file that was removed gives its inode number to the next new one: the size tells them apart.
    inode, size_bytes = checkpoint.output_inode, checkpoint.output_bytes
    if checkpoint.converted_inode:
        inode, size_bytes = checkpoint.converted_inode, checkpoint.converted_bytes
    if not checkpoint.complete or not has_inode(files.output, inode, size_bytes=size_bytes):
        return False
    # A link of `_rename_without_replacing` that was not yet taken away, or the rows that a file was made of.
    if has_inode(files.part, checkpoint.output_inode):
        remove_file(files.part)
    if has_inode(files.converting, checkpoint.converted_inode):
        remove_file(files.converting)
    sync_output_folder(files.folder)
    return True


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
