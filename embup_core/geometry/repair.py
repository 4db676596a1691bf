"""A source written anew with each row of z at the row of the matrix that it belongs to.

The matrix keeps its order, and groups and labels keep theirs with it. Rows of the matrix to which no row of z
belongs are left out of all files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.errors import InputError, InvalidDataError, OutputError
from embup_core.files.atomic import sync_folder
from embup_core.geometry.source_check import judge_rows
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.sources.files import COSINES_FILE, GROUPS_FILE, LABELS_FILE, PROJECTED_FILE
from embup_core.sources.validation import MIN_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.geometry.row_defects import RowDefects
    from embup_core.geometry.source_check import SourceReport
    from embup_core.progress import Progress
    from embup_core.sources.files import SourceFiles

_ONE_ORDER = "Both files must come from the same originals, rows in the same order."


@dataclass(frozen=True, eq=False)
class Repair:
    """What `repair_source` wrote.

    Attributes
    ----------
    folder
        The new source.
    rows
        Rows in it.
    moved
        Rows of z that have another place among the rows of the old matrix than before.
    left_out_projected
        Rows of the old z that belong to no row of the matrix: int64, shape (k,).
    left_out_matrix
        Rows of the old matrix to which no row of z belongs: int64, shape (k,).
    """

    folder: Path
    rows: int
    moved: int
    left_out_projected: NDArray[np.int64]
    left_out_matrix: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "folder": str(self.folder),
            "rows": self.rows,
            "moved": self.moved,
            "left_out": {
                "projected": self.left_out_projected.tolist(),
                "matrix": self.left_out_matrix.tolist(),
            },
        }


def require_free(target: Path) -> None:
    """Raise `OutputError` where a source cannot be written: it exists, or its folder does not."""
    if os.path.lexists(target):
        raise OutputError(
            f"{target} exists, expected a new folder for the repaired source.",
            remedy="Name another folder, or remove this one.",
        )
    if not target.absolute().parent.is_dir():
        raise OutputError(
            f"{target.absolute().parent} is no folder, expected one to write {target.name} in.",
            remedy="Make it first, or name another folder.",
        )


def repair_source(
    files: SourceFiles, report: SourceReport, target: Path, *, progress: Progress | None = None
) -> Repair:
    """Write a source whose rows belong together.

    The result is compared with the matrix once more before it is written. The folder appears whole or not at
    all. Unchanged files are hard links where the file system allows it, else copies.

    Parameters
    ----------
    files
        The source; it is only read.
    report
        What `check_source` found in it.
    target
        The new folder.
    progress
        Called with a label, units done and units in all.

    Raises
    ------
    InputError
        No row is wrong.
    InvalidDataError
        Rows cannot be judged, the files are unrelated, fewer than 100 rows have a place, or some are wrong in
        their new places, too. Nothing is written.
    OutputError
        The folder exists or cannot be written.
    """
    require_free(target)
    defects = report.rows
    _require_repairable(files, defects)
    kept = np.flatnonzero(defects.z_rows >= 0)  # rows of the matrix
    z_rows = defects.z_rows[kept]
    if len(kept) < MIN_ROWS:
        raise InvalidDataError(
            f"{files.name}: {len(kept)} rows of z have a place, expected at least {MIN_ROWS}.",
            remedy=_ONE_ORDER,
        )
    if progress:
        progress("comparing rows in their new places", 0, None)
    again = judge_rows(report.projected[z_rows], report.coordinates[kept], files)
    if len(again.wrong_rows):
        raise InvalidDataError(
            f"{files.name}: {len(again.wrong_rows):,} rows of z are wrong in their new places, too.",
            remedy=_ONE_ORDER,
        )
    try:
        _write(files, target, kept, z_rows, progress)
    except OSError as error:
        raise OutputError(
            f"{target}: the repaired source cannot be written ({error.strerror or error}).",
            remedy="Free space, or name a folder that this user may write.",
        ) from error
    return Repair(
        folder=target,
        rows=len(kept),
        moved=int(np.sum(kept != z_rows)),
        left_out_projected=np.setdiff1d(np.arange(len(defects.z_rows)), z_rows),
        left_out_matrix=np.flatnonzero(defects.z_rows < 0),
    )


def _require_repairable(files: SourceFiles, defects: RowDefects) -> None:
    if files.has_coordinates:
        raise InvalidDataError(
            f"{files.name} has no cosine matrix, and only a source with one is repaired.",
            remedy="Leave the wrong rows out, or correct what it is made of.",
        )
    match defects.verdict:
        case "wrong_rows" | "reordered":
            return
        case "consistent":
            raise InputError(
                f"{files.name} has no wrong rows: there is nothing to repair.", remedy="Train on it as it is."
            )
        case "unrelated":
            raise InvalidDataError(
                f"{files.name} cannot be repaired. {defects.describe()}", remedy=_ONE_ORDER
            )
        case _:
            raise InvalidDataError(
                f"{files.name} cannot be repaired. {defects.describe()}",
                remedy="A repair needs an affine map, and more rows than the originals have dimensions.",
            )


def _write(
    files: SourceFiles,
    target: Path,
    kept: NDArray[np.int64],
    z_rows: NDArray[np.int64],
    progress: Progress | None,
) -> None:
    """Write the files into a folder beside the target, then give it its name."""
    parent = target.absolute().parent
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
    try:
        _save(beside / PROJECTED_FILE, np.load(files.projected, allow_pickle=False)[z_rows])
        matrix = CosineMatrix.open(files.cosines)
        unchanged = len(kept) == matrix.n_rows
        if unchanged:
            _link_or_copy(files.cosines, beside / COSINES_FILE)
        else:
            _save_part(beside / COSINES_FILE, matrix, kept, progress)
        for source, name in ((files.groups, GROUPS_FILE), (files.labels, LABELS_FILE)):
            if source is not None and unchanged:
                _link_or_copy(source, beside / name)
            elif source is not None:
                _save(beside / name, np.load(source, allow_pickle=False)[kept])
        beside.chmod(0o755)  # mkdtemp's folders are private
        sync_folder(beside)
        require_free(target)  # a rename would replace an empty folder made meanwhile
        beside.rename(target)
        sync_folder(parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _save(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _save_part(path: Path, matrix: CosineMatrix, kept: NDArray[np.int64], progress: Progress | None) -> None:
    """Write some rows and columns of a matrix, a block of rows at a time."""
    with path.open("wb") as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(matrix.memory_map.dtype),
            "fortran_order": False,
            "shape": (len(kept), len(kept)),
        }
        np.lib.format.write_array_header_1_0(file, header)
        for block in row_blocks(len(kept)):
            file.write(np.ascontiguousarray(matrix.memory_map[kept[block]][:, kept]).data)
            if progress:
                progress("writing the cosine matrix", block.stop, len(kept))
        file.flush()
        os.fsync(file.fileno())


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        # A hard link, not a symbolic one: it stays when the source is moved or removed.
        os.link(source.resolve(), target)
    except OSError:  # another file system, one without links, or a file of another user
        shutil.copyfile(source, target)
        with target.open("rb+") as file:
            os.fsync(file.fileno())
