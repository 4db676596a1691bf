"""The local folder that stands in for one in a bucket while an output grows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from embup_core.files.held_folder import open_freely
from embup_core.object_store.address import ObjectPath, folder_of

if TYPE_CHECKING:
    from embup_core.files.held_folder import Folder


def open_stand_in(path: ObjectPath, uploads: Path, *, make: bool = True) -> Folder:
    """Open the stand-in for an address.

    Parameters
    ----------
    path
        The address of the folder of an output.
    uploads
        Folder of the stand-ins.
    make
        Whether to make it where it is missing; else what holds stand-ins is opened, which has no file.

    Raises
    ------
    OSError
        It cannot be made.
    """
    folder = folder_of(str(path), uploads.absolute())
    if not make and not folder.exists():
        folder = uploads.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return open_freely(folder)


def open_anywhere(path: Path) -> Folder:
    """Open a folder wherever it is, or the stand-in for an address in the user's cache; raises OSError."""
    return open_stand_in(path, uploads_folder()) if isinstance(path, ObjectPath) else open_freely(path)


def uploads_folder() -> Path:
    """Folder of the stand-ins: EMBUP_UPLOADS, else ``embup/uploads`` in the user's cache."""
    if os.environ.get("EMBUP_UPLOADS"):
        return Path(os.environ["EMBUP_UPLOADS"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embup" / "uploads"
