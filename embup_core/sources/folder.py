"""Training data that lies in a folder already. Nothing is copied and nothing is written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from embup_core.errors import SourceUnavailableError
from embup_core.sources.files import COSINES_FILE, GROUPS_FILE, LABELS_FILE, PROJECTED_FILE, SourceFiles

if TYPE_CHECKING:
    from pathlib import Path


def files_in_folder(folder: Path) -> SourceFiles:
    """Find the two files in a folder, and the optional ones where they are.

    Raises
    ------
    SourceUnavailableError
        The folder or one of the files is missing.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise SourceUnavailableError(
            f"source {folder} {what}.",
            remedy=f"Name the folder that holds {PROJECTED_FILE} and {COSINES_FILE}, two URLs, or 'sample'.",
        )
    folder = folder.resolve()
    for name in (PROJECTED_FILE, COSINES_FILE, GROUPS_FILE, LABELS_FILE):
        if os.path.lexists(folder / name) and not (folder / name).is_file():
            raise SourceUnavailableError(
                f"{folder / name} is not a regular file: a folder, a pipe, or a link to nothing.",
                remedy="Put the file itself there.",
            )
    missing = [name for name in (PROJECTED_FILE, COSINES_FILE) if not (folder / name).is_file()]
    if missing:
        found = sorted(path.name for path in folder.glob("*.npy"))
        raise SourceUnavailableError(
            f"folder {folder} has no {' and no '.join(missing)}; "
            f"the .npy files it has: {', '.join(found) or 'none'}.",
            remedy=f"Put {PROJECTED_FILE} and {COSINES_FILE} there, or rename yours to these names.",
        )
    groups, labels = (
        folder / name if (folder / name).is_file() else None for name in (GROUPS_FILE, LABELS_FILE)
    )
    return SourceFiles(folder / PROJECTED_FILE, folder / COSINES_FILE, str(folder), groups, labels)
