"""Checks of training data, file by file. Errors name the file, the row, the value and the fix.

The matrix is read once, as a stream through one buffer. The same pass computes the fingerprint and finds
values that are not finite, outside [-1, 1], not 1 on the diagonal, or far from their mirror image.
`embup_core.geometry` measures the noise of the matrix as a whole, and whether rows belong together.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from embup_core.errors import InvalidDataError
from embup_core.sources.coordinates import scan_coordinates
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.sources.landmark_columns import LandmarkColumns, scan_landmark_columns
from embup_core.sources.npy import read_npy_header
from embup_core.sources.profile import DataProfile
from embup_core.sources.row_ranges import describe_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.files.npy_header import NpyHeader
    from embup_core.progress import Progress
    from embup_core.sources.files import SourceFiles

Floats: TypeAlias = npt.NDArray[np.floating]

UNIT_TOLERANCE = 1e-3
DIAGONAL_TOLERANCE = 5e-3
RANGE_TOLERANCE = 5e-3
SYMMETRY_TOLERANCE = 3e-4
OUTLIER_DEVIATIONS = 8
"""Random errors of n rows stay within 5 standard deviations; a row beyond 8 has an entry of its own fault."""
MIN_ROWS = 100
LEAST_DIMS = 2
BUFFER_BYTES = 32 * 2**20

LEAST_SPREAD = 1e-6
SAME_ORDER_REMEDY = "Both files must come from the same originals, rows in the same order."


def load_projected(path: Path) -> npt.NDArray[np.float32]:
    """Load the projected embeddings.

    Returns
    -------
    float32, shape (N, d), rows unit within 1e-3, C order

    Raises
    ------
    SourceUnavailableError
        The file cannot be read.
    InvalidDataError
        Wrong shape or dtype, a value that is not finite, a row of zeros, or a row that is not a unit vector.
    """
    header = read_npy_header(path)
    if len(header.shape) != 2 or header.shape[1] < LEAST_DIMS:
        raise InvalidDataError(
            f"{path} has shape {header.shape}, expected (N, d) with d at least {LEAST_DIMS}.",
            remedy="Give one row for each original: its projected embedding.",
        )
    if header.shape[0] < MIN_ROWS:
        raise InvalidDataError(
            f"{path} has {header.shape[0]} rows, expected at least {MIN_ROWS}.",
            remedy="A decoder cannot be learned from so few; give more rows.",
        )
    z = np.load(path, allow_pickle=False)
    _refuse_rows_without_direction(path, z)
    lengths = np.linalg.norm(z.astype(np.float64), axis=1)
    row = int(np.abs(lengths - 1).argmax())
    if abs(lengths[row] - 1) > UNIT_TOLERANCE:
        bad = int((np.abs(lengths - 1) > UNIT_TOLERANCE).sum())
        raise InvalidDataError(
            f"{path}, row {row}: length {lengths[row]:.6g}, expected 1 within {UNIT_TOLERANCE:g} "
            f"({bad} of {len(z)} rows are off).",
            remedy="If only directions matter, normalise: "
            "z /= numpy.linalg.norm(z, axis=1, keepdims=True). embup learns from directions alone, so "
            "anything that the lengths say is lost.",
        )
    return np.ascontiguousarray(z, np.float32)


def _refuse_rows_without_direction(path: Path, z: Floats) -> None:
    """Raise `InvalidDataError` for rows of zeros and for rows with a NaN or an infinity."""
    finite = np.isfinite(z).all(axis=1)
    for bad, found in ((~finite, "not finite (NaN or infinity)"), (finite & ~z.any(axis=1), "all zeros")):
        rows = np.flatnonzero(bad)
        if len(rows):
            raise InvalidDataError(
                f"{path}: expected rows with a direction, found rows that are {found}: "
                f"{describe_rows(rows)}.",
                remedy="Drop the rows from both files: "
                "keep = numpy.isfinite(z).all(axis=1) & z.any(axis=1); z[keep], g[keep][:, keep].",
            )


def validate_pair(files: SourceFiles, *, progress: Progress | None = None) -> DataProfile:
    """Check both files against each other and against what training needs.

    A source's coordinates or landmark columns are checked in the place of the matrix. Of coordinates that
    were recovered from landmark columns the record is returned, as the columns were checked before. Memory is
    bounded by the projected embeddings and one buffer of 32 MiB (or one row of the matrix).

    Raises
    ------
    SourceUnavailableError
        A file cannot be read.
    InvalidDataError
        With file, row, column and value where there are any.
    """
    projected = load_projected(files.projected)
    projected_rows = len(projected)
    if float(np.ptp(projected, axis=0).max()) < LEAST_SPREAD:
        raise InvalidDataError(
            f"{files.projected}: all rows are equal, expected rows that differ.", remedy=SAME_ORDER_REMEDY
        )
    if files.recovery is not None:
        return DataProfile(**json.loads(files.recovery.read_bytes())["profile"])
    columns = LandmarkColumns.open(files, projected_rows) if files.has_landmark_columns else None
    header = None if files.has_coordinates or columns else _square_header(files, projected_rows)
    digest = hashlib.sha256()
    with files.projected.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    if columns is not None:
        profile = scan_landmark_columns(columns, digest, progress=progress)
    elif header is None:
        profile = scan_coordinates(files.cosines, projected_rows, digest, progress=progress)
    else:
        profile = _scan_cosines(files.cosines, header, digest, progress)
    if profile.highest_cosine - profile.lowest_cosine < LEAST_SPREAD:
        raise InvalidDataError(
            f"{files.cosines}: all cosines off the diagonal are {profile.mean_cosine:.6g}, "
            "expected cosines that differ: there is nothing to learn.",
            remedy="Give the cosine of every pair of originals.",
        )
    return profile


def check_cosines(files: SourceFiles, rows: int, *, progress: Progress | None = None) -> None:
    """Check a cosine matrix alone, as `validate_pair` does; it must have `rows` rows."""
    _scan_cosines(files.cosines, _square_header(files, rows), hashlib.sha256(), progress)


def _square_header(files: SourceFiles, rows: int) -> NpyHeader:
    header = read_npy_header(files.cosines)
    if len(header.shape) != 2 or header.shape[0] != header.shape[1]:
        raise InvalidDataError(
            f"{files.cosines} has shape {header.shape}, expected a square matrix (N, N).",
            remedy="Give the cosine of every pair of originals.",
        )
    if header.shape[0] != rows:
        raise InvalidDataError(
            f"{files.cosines} has {header.shape[0]} rows and {files.projected} has {rows}; "
            "expected the same number.",
            remedy=SAME_ORDER_REMEDY,
        )
    return header


def _row_blocks(path: Path, header: NpyHeader, digest: hashlib._Hash) -> Iterator[tuple[int, Floats]]:
    """Stream the matrix through one buffer, hashing every byte: (first row, block of whole rows).

    Blocks are float32 or float64 of this machine's byte order. In Fortran order they are columns, which a
    symmetric matrix does not tell from rows.
    """
    rows, columns = header.shape
    computed = np.dtype(np.float64 if header.dtype.itemsize > 4 else np.float32)
    rows_in_buffer = max(1, min(rows, BUFFER_BYTES // (columns * max(header.dtype.itemsize, 4))))
    buffer = np.empty((rows_in_buffer, columns), header.dtype)
    with path.open("rb") as file:
        digest.update(file.read(header.offset_bytes))
        for start in range(0, rows, rows_in_buffer):
            block = buffer[: min(rows_in_buffer, rows - start)]
            view = block.view(np.uint8).data.cast("B")
            filled = 0
            while filled < len(view):
                got = file.readinto(view[filled:])
                if not got:
                    raise InvalidDataError(
                        f"{path} became shorter while it was read, at row {start}.",
                        remedy="Train from a copy that nothing writes to.",
                    )
                filled += got
            digest.update(view)
            yield start, block.astype(computed, copy=False)


def _scan_cosines(
    path: Path,
    header: NpyHeader,
    digest: hashlib._Hash,
    progress: Progress | None,
) -> DataProfile:
    n = header.shape[0]
    # Symmetry of the whole in one pass (Freivalds): G v equals G^T v for random signs v only if G equals G^T,
    # and both products grow block by block. The row with the largest difference is where it is broken.
    signs = np.random.default_rng(0).choice(
        np.array([-1, 1], np.float64 if header.dtype.itemsize > 4 else np.float32), n
    )
    along_rows = np.empty(n, np.float64)
    along_columns = np.zeros(n, np.float64)
    total = squares = 0.0
    low, high = np.inf, -np.inf
    for start, block in _row_blocks(path, header, digest):
        stop = start + len(block)
        refuse_non_finite(path, block, start)
        diagonal = block[np.arange(len(block)), np.arange(start, stop)]
        _refuse_diagonal(path, diagonal, start)
        along_rows[start:stop] = block @ signs
        along_columns += signs[start:stop] @ block
        total += float(block.sum(dtype=np.float64)) - float(diagonal.sum(dtype=np.float64))
        squares += float(np.vdot(block, block)) - float(np.vdot(diagonal, diagonal))
        block[np.arange(len(block)), np.arange(start, stop)] = block[0, 0 if start else 1]  # off the diagonal
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if max(high, -low) > 1 + RANGE_TOLERANCE:
            refuse_out_of_range(path, block, start)
        if progress:
            progress("checking the cosine matrix", stop, n)
    _refuse_asymmetry(path, along_rows - along_columns)
    return DataProfile.of_sums(
        rows=n,
        pairs=n * (n - 1),
        fingerprint=digest.hexdigest(),
        total=total,
        squares=squares,
        range_=(low, high),
        cosine_bytes=path.stat().st_size,
    )


def refuse_non_finite(path: Path, block: Floats, first_row: int) -> None:
    """Raise `InvalidDataError` for a NaN or an infinity in a block of rows that starts at `first_row`."""
    # One sum says it for a whole block, without a mask of its size; only a suspect block is
    # looked at closely.
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = not np.isfinite(block.sum())
    if not suspect:
        return
    bad = ~np.isfinite(block)
    if not bad.any():
        return  # finite values, and a sum beyond the dtype's range: the range check names it
    row, column = (int(k) for k in np.argwhere(bad)[0])
    raise InvalidDataError(
        f"{path}, row {first_row + row}, column {column}: {block[row, column]}, expected a finite number "
        f"({int(bad.sum())} such values among rows {first_row} to {first_row + len(block) - 1}).",
        remedy="Leave out the rows that have none, in both files, or compute them again.",
    )


def _refuse_diagonal(path: Path, diagonal: Floats, first_row: int) -> None:
    off = np.abs(diagonal - 1)
    row = int(off.argmax())
    if off[row] > DIAGONAL_TOLERANCE:
        raise InvalidDataError(
            f"{path}, row {first_row + row}, column {first_row + row}: {diagonal[row]:.6g} on the diagonal, "
            f"expected 1 within {DIAGONAL_TOLERANCE:g}.",
            remedy="Give cosines, the dot products of vectors of length 1.",
        )


def refuse_out_of_range(path: Path, block: Floats, first_row: int) -> None:
    """Raise `InvalidDataError` that names the value of a block that is farthest from 0."""
    flat = int(np.abs(block).argmax())
    row, column = divmod(flat, block.shape[1])
    raise InvalidDataError(
        f"{path}, row {first_row + row}, column {column}: {block[row, column]:.6g}, "
        f"expected a cosine within [-1, 1] (tolerance {RANGE_TOLERANCE:g}).",
        remedy="Give cosines, the dot products of vectors of length 1.",
    )


def _refuse_asymmetry(path: Path, difference: npt.NDArray[np.float64]) -> None:
    # n independent differences of one size add up to sqrt(n) times that size under random signs. The median
    # says how large they are; single wrong entries, which it does not notice, stand out from it.
    row = int(np.abs(difference).argmax())
    common = 1.4826 * float(np.median(np.abs(difference)))
    if abs(difference[row]) <= max(
        SYMMETRY_TOLERANCE * np.sqrt(len(difference)), OUTLIER_DEVIATIONS * common
    ):
        return
    matrix = CosineMatrix.open(path).memory_map
    gap = np.abs(matrix[row].astype(np.float64) - matrix[:, row])
    column = int(gap.argmax())
    raise InvalidDataError(
        f"{path} is not symmetric: row {row}, column {column} is {matrix[row, column]:.6g} and "
        f"row {column}, column {row} is {matrix[column, row]:.6g}.",
        remedy=SAME_ORDER_REMEDY,
    )
