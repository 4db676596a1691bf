"""Training data in a local folder, which is only read."""

from __future__ import annotations

import os
from pathlib import Path

from embup_core.errors import SourceUnavailableError
from embup_core.sources.anchors import AnchorFiles
from embup_core.sources.archive import ARCHIVE_SUFFIX
from embup_core.sources.files import (
    ANCHOR_ROWS_FILE,
    ANCHORS_FILE,
    COORDINATES_FILE,
    COSINES_FILE,
    DROP_OF_ROW_FILE,
    GROUPS_FILE,
    HELD_OUT_FILE,
    LABELS_FILE,
    LANDMARK_COSINES_FILE,
    LANDMARK_ROWS_FILE,
    PROJECTED_FILE,
    SourceFiles,
)


def files_in_folder(folder: Path) -> SourceFiles:
    """Find the two files in a folder, ``.npy`` or ``.npz``, and the optional ones.

    A folder without the matrix may hold coordinates in its place, as a training set of drops does, or
    landmark columns.

    Raises
    ------
    SourceUnavailableError
        The folder or one of the files is missing, a file is there under both names or beside one that takes
        its place, or only one of the two files of anchors, or of landmarks, is there.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise SourceUnavailableError(
            f"source {folder} {what}.",
            remedy=f"Name the folder that holds {PROJECTED_FILE} and {COSINES_FILE}, two URLs, or 'sample'.",
        )
    folder = folder.resolve()
    optional = (GROUPS_FILE, LABELS_FILE, ANCHORS_FILE, ANCHOR_ROWS_FILE, HELD_OUT_FILE, DROP_OF_ROW_FILE)
    instead = (COORDINATES_FILE, LANDMARK_COSINES_FILE)  # of the matrix
    for name in (
        *_either(PROJECTED_FILE),
        *_either(COSINES_FILE),
        *instead,
        LANDMARK_ROWS_FILE,
        *optional,
    ):
        if os.path.lexists(folder / name) and not (folder / name).is_file():
            raise SourceUnavailableError(
                f"{folder / name} is not a regular file: a folder, a pipe, or a link to nothing.",
                remedy="Put the file itself there.",
            )
    projected, cosines = (_find(folder, name) for name in (PROJECTED_FILE, COSINES_FILE))
    given = [
        *([cosines] if cosines else []),
        *(folder / name for name in instead if (folder / name).is_file()),
    ]
    if len(given) > 1:
        raise _one_of(folder, given)
    cosines = given[0] if given else None
    if projected is None or cosines is None:
        missing = [name for name, path in ((PROJECTED_FILE, projected), (COSINES_FILE, cosines)) if not path]
        found = sorted(path.name for path in folder.glob("*.np[yz]"))
        raise SourceUnavailableError(
            f"folder {folder} has no {' and no '.join(missing)}; "
            f"the .npy and .npz files it has: {', '.join(found) or 'none'}.",
            remedy=f"Put {PROJECTED_FILE} and {COSINES_FILE} there (.npz works too), or rename yours.",
        )
    groups, labels, originals, rows, held_out, drops = (
        folder / name if (folder / name).is_file() else None for name in optional
    )
    if (originals is None) != (rows is None):
        there, gone = (ANCHORS_FILE, ANCHOR_ROWS_FILE)[:: 1 if rows is None else -1]
        raise SourceUnavailableError(
            f"folder {folder} has {there} and no {gone}, expected both or neither.",
            remedy=f"{ANCHORS_FILE} holds originals, {ANCHOR_ROWS_FILE} the row number of each.",
        )
    landmark_rows = None
    if cosines.name == LANDMARK_COSINES_FILE:
        landmark_rows = folder / LANDMARK_ROWS_FILE
        if not landmark_rows.is_file():
            raise SourceUnavailableError(
                f"folder {folder} has {LANDMARK_COSINES_FILE} and no {LANDMARK_ROWS_FILE}, expected both.",
                remedy=f"{LANDMARK_ROWS_FILE} holds the row number of the landmark of each column.",
            )
    anchors = None if originals is None or rows is None else AnchorFiles(originals, rows)
    return SourceFiles(
        projected, cosines, str(folder), groups, labels, anchors, held_out, drops, landmark_rows
    )


def _either(name: str) -> tuple[str, str]:
    """A file's two names: ``.npy`` and ``.npz``."""
    return name, str(Path(name).with_suffix(ARCHIVE_SUFFIX))


def _find(folder: Path, name: str) -> Path | None:
    """The file of either name; raises `SourceUnavailableError` where both exist."""
    found = [folder / one for one in _either(name) if (folder / one).is_file()]
    if len(found) > 1:
        raise _one_of(folder, found)
    return found[0] if found else None


def _one_of(folder: Path, found: list[Path]) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"folder {folder} has both {found[0].name} and {found[1].name}, expected one of them.",
        remedy="Remove the one not to train on.",
    )
