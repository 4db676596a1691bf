"""Checks of a source that has coordinates instead of the cosine matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.errors import InvalidDataError
from embup_core.sources.npy import read_npy_header
from embup_core.sources.profile import DataProfile

if TYPE_CHECKING:
    import hashlib
    from pathlib import Path

    from embup_core.progress import Progress

UNIT_TOLERANCE: Final = 1e-3
_BLOCK_ROWS: Final = 4096
_SAMPLED_PAIRS: Final = 200_000
_REMEDY: Final = "Write the training set of the drops again."


def scan_coordinates(
    path: Path, rows: int, digest: hashlib._Hash, *, progress: Progress | None = None
) -> DataProfile:
    """Check coordinates in one pass, and measure the cosines that they give.

    The range of the cosines is that of 200,000 random pairs, their mean and deviation are those of all.

    Parameters
    ----------
    path
        ``coordinates.npy``: float32, shape (N, r).
    rows
        How many rows there have to be.
    digest
        Receives all bytes of the file.
    progress
        Called with a label, rows done and rows in all.

    Raises
    ------
    SourceUnavailableError
        The file cannot be read.
    InvalidDataError
        Another dtype, shape or number of rows, a value that is not finite, or a row that is not of length 1.
    """
    header = read_npy_header(path)
    right = header.dtype == np.float32 and len(header.shape) == 2 and not header.fortran_order
    if not right or header.shape[0] != rows:
        raise InvalidDataError(
            f"{path} has shape {header.shape} of {header.dtype}, expected float32 of shape ({rows}, r) in C "
            "order.",
            remedy=_REMEDY,
        )
    with path.open("rb") as file:
        digest.update(file.read(header.offset_bytes))
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    dims = header.shape[1]
    total, gram = np.zeros(dims), np.zeros((dims, dims))
    for place in row_blocks(rows, _BLOCK_ROWS):
        block = np.ascontiguousarray(mapped[place])
        digest.update(block.data)
        lengths = np.linalg.norm(block, axis=1)
        off = np.abs(lengths - 1)  # NaN where a value is not finite
        bad = np.flatnonzero(~(off <= UNIT_TOLERANCE))
        if len(bad):
            raise InvalidDataError(
                f"{path}, row {place.start + bad[0]}: length {lengths[bad[0]]:.6g}, expected 1 within "
                f"{UNIT_TOLERANCE:g}.",
                remedy=_REMEDY,
            )
        total += block.sum(axis=0, dtype=np.float64)
        gram += block.T @ block
        if progress:
            progress("checking the coordinates", place.stop, rows)
    # Sums over all pairs: of cosines |sum of rows|^2, of their squares the squared norm of the Gram matrix.
    pairs = rows * (rows - 1)
    mean = (float(total @ total) - rows) / pairs
    squares = (float(np.vdot(gram, gram)) - rows) / pairs
    left, right_rows = np.random.default_rng(0).integers(0, rows, (2, _SAMPLED_PAIRS))
    left, right_rows = left[left != right_rows], right_rows[left != right_rows]
    low, high = np.inf, -np.inf
    for place in row_blocks(len(left), _BLOCK_ROWS):
        cosines = np.vecdot(mapped[left[place]], mapped[right_rows[place]])
        low, high = min(low, float(cosines.min())), max(high, float(cosines.max()))
    return DataProfile(
        rows=rows,
        fingerprint=digest.hexdigest(),
        mean_cosine=mean,
        cosine_deviation=float(np.sqrt(max(0.0, squares - mean**2))),
        lowest_cosine=low,
        highest_cosine=high,
        cosine_bytes=path.stat().st_size,
    )
