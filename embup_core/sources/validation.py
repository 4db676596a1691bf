"""Whether training data is what it should be. Each failure names the file, the row, the value and a remedy.

The matrix is read once, as a stream through one buffer: the same pass makes the fingerprint and finds what is
not finite, out of range, not 1 on the diagonal or not symmetric.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from embup_core.errors import InvalidDataError
from embup_core.sources.files import INPUT_DIMS, SourceFiles
from embup_core.sources.npy_header import NpyHeader, read_npy_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Floats: TypeAlias = npt.NDArray[np.floating]

UNIT_TOLERANCE = 1e-3
DIAGONAL_TOLERANCE = 1e-3
RANGE_TOLERANCE = 1e-3
SYMMETRY_TOLERANCE = 3e-4
MIN_ROWS = 100
BUFFER_BYTES = 32 * 2**20

LEAST_SPREAD = 1e-6
SAME_ORDER_REMEDY = "Both files must come from the same originals, rows in the same order."


@dataclass(frozen=True)
class DataProfile:
    """What validation learned about a pair of files.

    Parameters
    ----------
    rows
        N.
    fingerprint
        SHA-256 over the bytes of both files, projected embeddings first, in hexadecimal.
    mean_cosine, cosine_deviation
        Mean and standard deviation of the cosines off the diagonal.
    lowest_cosine, highest_cosine
        Their range, off the diagonal.
    cosine_bytes
        Size of the matrix file.
    """

    rows: int
    fingerprint: str
    mean_cosine: float
    cosine_deviation: float
    lowest_cosine: float
    highest_cosine: float
    cosine_bytes: int


def load_projected(path: Path) -> npt.NDArray[np.float32]:
    """Load the projected embeddings.

    Returns
    -------
    float32, shape (N, 32), rows unit within 1e-3, C order

    Raises
    ------
    SourceUnavailableError
        The file cannot be read.
    InvalidDataError
        Wrong shape or dtype, a value that is not finite, or a row that is not a unit vector.
    """
    header = read_npy_header(path)
    if len(header.shape) != 2 or header.shape[1] != INPUT_DIMS:
        raise InvalidDataError(
            f"{path} has shape {header.shape}, expected (N, {INPUT_DIMS}).",
            remedy=f"Give one row of {INPUT_DIMS} numbers for each original.",
        )
    if header.shape[0] < MIN_ROWS:
        raise InvalidDataError(
            f"{path} has {header.shape[0]} rows, expected at least {MIN_ROWS}.",
            remedy="A decoder cannot be learned from so few; give more rows.",
        )
    z = np.load(path, allow_pickle=False)
    refuse_non_finite(path, z, 0)
    lengths = np.linalg.norm(z.astype(np.float64), axis=1)
    row = int(np.abs(lengths - 1).argmax())
    if abs(lengths[row] - 1) > UNIT_TOLERANCE:
        bad = int((np.abs(lengths - 1) > UNIT_TOLERANCE).sum())
        raise InvalidDataError(
            f"{path}, row {row}: length {lengths[row]:.6g}, expected 1 within {UNIT_TOLERANCE:g} "
            f"({bad} of {len(z)} rows are off).",
            remedy="Divide each row by its length.",
        )
    return np.ascontiguousarray(z, np.float32)


def validate_pair(
    files: SourceFiles, *, progress: Callable[[str, int, int | None], None] | None = None
) -> DataProfile:
    """Check both files against each other and against what training needs.

    Memory is bounded by the projected embeddings and one buffer of 32 MiB (or one row of the matrix).

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
    header = _square_header(files, projected_rows)
    digest = hashlib.sha256()
    with files.projected.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    profile = _scan_cosines(files.cosines, header, digest, progress)
    if profile.highest_cosine - profile.lowest_cosine < LEAST_SPREAD:
        raise InvalidDataError(
            f"{files.cosines}: all cosines off the diagonal are {profile.mean_cosine:.6g}, "
            "expected cosines that differ: there is nothing to learn.",
            remedy="Give the cosine of every pair of originals.",
        )
    return profile


def check_cosines(
    files: SourceFiles, rows: int, *, progress: Callable[[str, int, int | None], None] | None = None
) -> None:
    """Check a matrix of cosines alone, as `validate_pair` does; it must have as many rows as are given."""
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
    if header.fortran_order:
        raise InvalidDataError(
            f"{files.cosines} is in Fortran order, which makes each row {rows} separate reads.",
            remedy="Write it again, its transpose being itself: "
            "m = numpy.load(path, mmap_mode='r'); numpy.save(other, m.T).",
        )
    return header


def _row_blocks(path: Path, header: NpyHeader, digest: hashlib._Hash) -> Iterator[tuple[int, Floats]]:
    """Stream the matrix through one buffer, hashing every byte: (first row, block of whole rows)."""
    rows, columns = header.shape
    rows_in_buffer = max(1, min(rows, BUFFER_BYTES // (columns * header.dtype.itemsize)))
    buffer = np.empty((rows_in_buffer, columns), header.dtype)
    with path.open("rb") as file:
        digest.update(file.read(header.offset_bytes))
        for start in range(0, rows, rows_in_buffer):
            block = buffer[: min(rows_in_buffer, rows - start)]
            view = block.data.cast("B")
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
            yield start, block


def _scan_cosines(
    path: Path,
    header: NpyHeader,
    digest: hashlib._Hash,
    progress: Callable[[str, int, int | None], None] | None,
) -> DataProfile:
    n = header.shape[0]
    # Symmetry of the whole in one pass (Freivalds): G v equals G^T v for random signs v only if G equals G^T,
    # and both products grow block by block. The row with the largest difference is where it is broken.
    signs = np.random.default_rng(0).choice(np.array([-1, 1], header.dtype), n)
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
    pairs = n * (n - 1)
    mean = total / pairs
    return DataProfile(
        rows=n,
        fingerprint=digest.hexdigest(),
        mean_cosine=mean,
        cosine_deviation=float(np.sqrt(max(0.0, squares / pairs - mean**2))),
        lowest_cosine=low,
        highest_cosine=high,
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
    # n independent differences of one size add up to sqrt(n) times that size under random signs.
    row = int(np.abs(difference).argmax())
    if abs(difference[row]) <= SYMMETRY_TOLERANCE * np.sqrt(len(difference)):
        return
    matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    gap = np.abs(matrix[row].astype(np.float64) - matrix[:, row])
    column = int(gap.argmax())
    raise InvalidDataError(
        f"{path} is not symmetric: row {row}, column {column} is {matrix[row, column]:.6g} and "
        f"row {column}, column {row} is {matrix[column, row]:.6g}.",
        remedy=SAME_ORDER_REMEDY,
    )
