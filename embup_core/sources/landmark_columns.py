"""Cosines of all rows with some of them, the landmarks: N x L numbers instead of N x N."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.errors import InvalidDataError
from embup_core.sources.files import LANDMARK_ROWS_FILE
from embup_core.sources.npy import Accepted, read_npy_header
from embup_core.sources.profile import DataProfile
from embup_core.sources.row_list import require_distinct_rows

if TYPE_CHECKING:
    import hashlib
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.progress import Progress
    from embup_core.sources.files import SourceFiles

FEWEST_LANDMARKS: Final = 3
"""Two give the coordinates of a plane, and one more checks them."""
UNIT_TOLERANCE: Final = 5e-3
RANGE_TOLERANCE: Final = 5e-3
SYMMETRY_TOLERANCE: Final = 5e-3
"""Rounding to bfloat16 makes differences of up to 4e-3; another row's cosines differ by more."""
_BLOCK_BYTES: Final = 32 * 2**20
_SAVE_ROWS_REMEDY: Final = (
    f"numpy.save('{LANDMARK_ROWS_FILE}', rows), the row number of each column's landmark."
)
_COSINES_REMEDY: Final = "Give cosines, the dot products of vectors of length 1."
ROW_NUMBERS: Final = Accepted("integers", _SAVE_ROWS_REMEDY, lambda dtype: dtype.kind in "iu")


@dataclass(frozen=True, eq=False)
class LandmarkColumns:
    """Memory-mapped landmark columns.

    Attributes
    ----------
    path
        The ``.npy`` file of the cosines.
    memory_map
        Entry (i, k) is the cosine of row i with row `landmarks[k]`: floats, shape (N, L), C or Fortran order.
    landmarks
        Row numbers, distinct, in the order of the columns: int64, shape (L,).
    landmarks_path
        The ``.npy`` file that they are from.
    """

    path: Path
    memory_map: NDArray[np.floating]
    landmarks: NDArray[np.int64]
    landmarks_path: Path

    @classmethod
    def open(cls, files: SourceFiles, rows: int) -> Self:
        """Map the columns without looking at their values, and load the landmarks.

        Parameters
        ----------
        files
            A source of landmark columns.
        rows
            How many rows there have to be.

        Raises
        ------
        SourceUnavailableError
            A file cannot be read.
        InvalidDataError
            Another shape or dtype, or landmarks that are not `rows` distinct rows.
        """
        path = files.cosines
        header = read_npy_header(path)
        if len(header.shape) != 2 or header.shape[1] < FEWEST_LANDMARKS:
            raise InvalidDataError(
                f"{path} has shape {header.shape}, expected (N, L) with L at least {FEWEST_LANDMARKS}.",
                remedy="Save a row for each original: its cosines with the landmarks.",
            )
        if header.shape[0] != rows:
            raise InvalidDataError(
                f"{path} has {header.shape[0]} rows and {files.projected} has {rows}; "
                "expected the same number.",
                remedy="Both files must come from the same originals, rows in the same order.",
            )
        landmarks_path = files.landmark_rows or path.with_name(LANDMARK_ROWS_FILE)
        expected = (header.shape[1],)
        found = read_npy_header(landmarks_path, ROW_NUMBERS).shape
        if found != expected:
            raise InvalidDataError(
                f"{landmarks_path} has shape {found}, expected {expected}: a row number for each column of "
                f"{path.name}.",
                remedy=_SAVE_ROWS_REMEDY,
            )
        landmarks = np.load(landmarks_path, allow_pickle=False)
        require_distinct_rows(landmarks_path, landmarks, rows)
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        return cls(path, mapped, landmarks.astype(np.int64), landmarks_path)

    def read(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosines of some rows with all landmarks: float32, shape (b, L), a copy."""
        return np.array(self.memory_map[rows], dtype=np.float32)


def scan_landmark_columns(
    columns: LandmarkColumns, digest: hashlib._Hash, *, progress: Progress | None = None
) -> DataProfile:
    """Check the values in one pass, and measure the cosines; memory is bounded by a block of 32 MiB.

    Mean, deviation and range are those of all cosines with landmarks, but for those of landmarks with
    themselves.

    Parameters
    ----------
    columns
        From `LandmarkColumns.open`.
    digest
        Receives all bytes of both files.
    progress
        Called with a label, rows done and rows in all.

    Raises
    ------
    InvalidDataError
        A value that is not finite or not within [-1, 1]; a landmark whose cosine with itself is not 1; or two
        landmarks whose cosine differs from its mirror image: the columns are others than the row numbers say.
    """
    _check_kernel(columns)
    path, landmarks = columns.path, columns.landmarks
    digest.update(columns.landmarks_path.read_bytes())
    with path.open("rb") as file:
        digest.update(file.read(read_npy_header(path).offset_bytes))
    n_rows, n_columns = columns.memory_map.shape
    column_of = np.full(n_rows, -1, np.int64)
    column_of[landmarks] = np.arange(n_columns)
    total = squares = 0.0
    low, high = np.inf, -np.inf
    for place in row_blocks(n_rows, max(1, _BLOCK_BYTES // (4 * n_columns))):
        stored = np.ascontiguousarray(columns.memory_map[place])
        digest.update(stored.data.cast("B"))
        block = stored.astype(np.float32)
        _refuse_values(path, block, place.start)
        own = np.flatnonzero(column_of[place] >= 0)
        block[own, column_of[place][own]] = np.nan
        others = block[np.isfinite(block)] if len(own) else block
        total += float(others.sum(dtype=np.float64))
        squares += float(np.vdot(others, others))
        low, high = min(low, float(others.min())), max(high, float(others.max()))
        if progress:
            progress("checking the landmark columns", place.stop, n_rows)
    return DataProfile.of_sums(
        rows=n_rows,
        pairs=n_columns * (n_rows - 1),
        fingerprint=digest.hexdigest(),
        total=total,
        squares=squares,
        range_=(low, high),
        cosine_bytes=path.stat().st_size,
    )


def _refuse_values(path: Path, block: NDArray[np.float32], first_row: int) -> None:
    """Raise `InvalidDataError` for a value that is not finite or not within [-1, 1]."""
    # NaN fails both comparisons.
    if float(block.min()) >= -1 - RANGE_TOLERANCE and float(block.max()) <= 1 + RANGE_TOLERANCE:
        return
    bad = ~(np.abs(block) <= 1 + RANGE_TOLERANCE)
    row, column = (int(k) for k in np.argwhere(bad)[0])
    raise InvalidDataError(
        f"{path}, row {first_row + row}, column {column}: {block[row, column]:.6g}, expected a finite cosine "
        f"within [-1, 1] (tolerance {RANGE_TOLERANCE:g}; {int(bad.sum())} such values among rows {first_row} "
        f"to {first_row + len(block) - 1}).",
        remedy=_COSINES_REMEDY,
    )


def _check_kernel(columns: LandmarkColumns) -> None:
    """The cosines of the landmarks with each other: 1 on the diagonal, and symmetric."""
    path, landmarks = columns.path, columns.landmarks
    kernel = columns.read(landmarks)  # (L, L)
    off = np.abs(np.diag(kernel) - 1)
    if not (off <= UNIT_TOLERANCE).all():
        worst = int(np.nan_to_num(off, nan=np.inf).argmax())
        row = landmarks[worst]
        raise InvalidDataError(
            f"{path}, row {row}, column {worst}: {kernel[worst, worst]:.6g}, expected 1 within "
            f"{UNIT_TOLERANCE:g}, the cosine of landmark row {row} with itself "
            f"({int((~(off <= UNIT_TOLERANCE)).sum())} of {len(landmarks)} landmarks are off).",
            remedy=f"Check that {columns.landmarks_path.name} names the row of each column, in their order, "
            "counted from 0.",
        )
    for place in row_blocks(len(kernel)):
        gap = np.abs(kernel[place] - kernel[:, place].T)
        if not (gap <= SYMMETRY_TOLERANCE).all():
            left, right = divmod(int(np.nan_to_num(gap, nan=np.inf).argmax()), len(kernel))
            left += place.start
            raise InvalidDataError(
                f"{path} is not symmetric among landmarks: row {landmarks[left]}, column {right} is "
                f"{kernel[left, right]:.6g}, and row {landmarks[right]}, column {left} is "
                f"{kernel[right, left]:.6g}.",
                remedy=f"Check that {columns.landmarks_path.name} names the row of each column, in their "
                "order.",
            )
