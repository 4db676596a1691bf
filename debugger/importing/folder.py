"""The folder in which a data set is built, under another name until it is whole. No killed import stays."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from debugger.formats.archive import is_zip, unpack
from debugger.store.locking import exclusive
from debugger.store.names import DEBUG_FOLDER, SOURCE_STEM, checked_name
from embup_core.errors import InputError, InputFileError, OutputError
from embup_core.files.atomic import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BEING_IMPORTED: Final = ".importing-"
_COPIED_BYTES: Final = 1 << 20


@contextmanager
def new_dataset_folder(data: Path, name: str) -> Iterator[Path]:
    """Give a folder to build a data set in; it becomes the data set when the block ends without an error.

    Parameters
    ----------
    data
        The data folder.
    name
        Of the data set.

    Raises
    ------
    InputError
        The name is taken, or no data set may have it.
    OutputError
        The folder cannot be written.
    """
    root = data / DEBUG_FOLDER
    target = root / checked_name(name)
    if target.exists():
        raise _taken(target)
    folder = root / f"{_BEING_IMPORTED}{name}-{secrets.token_hex(4)}"
    with ExitStack() as held:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with exclusive(root, wait=True, what="imports"):
                # In one step: whoever looks finds no folder that its import has not locked yet.
                _remove_killed(root)
                folder.mkdir()
                held.enter_context(exclusive(folder, wait=False, what="imports"))
        except OSError as error:
            raise _not_written(root, error) from error
        try:
            yield folder
            sync_folder(folder)
            try:
                folder.rename(target)  # refused where there is a folder with something in it
            except OSError as error:
                raise _taken(target) if target.exists() else _not_written(target, error) from error
            sync_folder(root)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _taken(target: Path) -> InputError:
    return InputError(
        f"There is a data set {target.name!r} already.",
        remedy=f"Choose another name; or remove {target} with the reviews in it first.",
        code="conflict",
    )


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {error.strerror}.", remedy="Check the folder and its disk."
    )


def _remove_killed(root: Path) -> None:
    """Remove what killed imports left: folders whose lock nobody holds."""
    for folder in root.glob(f"{_BEING_IMPORTED}*"):
        with suppress(InputError, OutputError), exclusive(folder, wait=False, what="imports"):
            shutil.rmtree(folder, ignore_errors=True)


def take_in(file: Path, folder: Path) -> tuple[Path, str, str]:
    """Copy a file into a folder, unpacked where it is an archive.

    Parameters
    ----------
    file
        As the user named it.
    folder
        Where the copy goes.

    Returns
    -------
    The copy, the SHA-256 of its bytes, and the name whose ending tells its format.

    Raises
    ------
    InputFileError
        It cannot be read or unpacked.
    OutputError
        The copy cannot be written.
    """
    if not file.is_file():
        what = "is not a regular file" if file.exists() else "does not exist"
        raise InputFileError(f"{file} {what}.", remedy="Check the path.")
    copy = folder / SOURCE_STEM
    try:
        packed = is_zip(file)
        with file.open("rb") as source:
            source.read(1)
    except OSError as error:
        raise InputFileError(f"{file} cannot be read: {error.strerror}.", remedy="Check it.") from error
    try:
        with copy.open("wb") as out:
            called = unpack(file, out) if packed else _copied(file, out)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise _not_written(copy, error) from error
    with copy.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return copy, digest, called


def _copied(file: Path, out: BinaryIO) -> str:
    with file.open("rb") as source:
        shutil.copyfileobj(source, out, _COPIED_BYTES)
    return file.name
