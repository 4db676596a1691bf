"""The originals up to a rotation, recovered from the cosine matrix through landmark rows.

The matrix G of cosines has rank r <= 1536, so r independent rows fix everything. With L landmark rows,
K = G[L, L] = V w V^T over its r largest eigenvalues, C = G[:, L] V w^(-1/2) satisfies C C^T = G: the Nystroem
approximation (Williams & Seeger, 2000), exact here because L >= r. Decoding then is a regression from z to C,
and any rotation of the answer has the same cosines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.dims import OUTPUT_DIMS
from embup_core.errors import InvalidDataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.cosine_matrix import CosineMatrix


def recover_coordinates(
    matrix: CosineMatrix, *, rank: int = OUTPUT_DIMS, landmarks: int = 2048, seed: int = 0
) -> NDArray[np.float32]:
    """Unit rows whose dot products are the matrix's cosines.

    Parameters
    ----------
    matrix
        Cosines between N originals.
    rank
        Most dimensions to keep; the originals' own number of dimensions.
    landmarks
        Rows of the matrix to read; at least `rank` of them are needed for an exact answer.
    seed
        Which rows become landmarks.

    Returns
    -------
    float32, shape (N, r) with r <= rank, unit rows.

    Raises
    ------
    InvalidDataError
        A row cannot be made from the landmarks: its cosines with them are all about 0.
    """
    n_rows = matrix.n_rows
    chosen = np.sort(np.random.default_rng(seed).permutation(n_rows)[:landmarks])
    landmark_rows = np.empty((len(chosen), n_rows), np.float32)  # (L, N)
    for block in row_blocks(len(chosen)):
        landmark_rows[block] = matrix.rows(chosen[block])
    kernel = landmark_rows[:, chosen].astype(np.float64)
    eigenvalues, eigenvectors = np.linalg.eigh((kernel + kernel.T) / 2)
    # Rounding a cosine to float32 spreads the zero eigenvalues over about eps * sqrt(L); below twice that
    # there is only noise, which the inverse square root would blow up.
    noise = 2 * np.finfo(np.float32).eps * np.sqrt(len(chosen))
    kept = np.flatnonzero(eigenvalues > noise)[-rank:][::-1]
    whitening = (eigenvectors[:, kept] / np.sqrt(eigenvalues[kept])).astype(np.float32)  # (L, r)
    coordinates = landmark_rows.T @ whitening  # (N, r)
    norms = np.linalg.norm(coordinates, axis=1, keepdims=True)
    weakest = int(np.argmin(norms))
    if norms[weakest, 0] < 0.5:
        raise InvalidDataError(
            f"{matrix.path}: row {weakest} is not spanned by the {len(chosen)} landmark rows (its recovered "
            f"length is {norms[weakest, 0]:.3f}, expected 1).",
            remedy="Use more landmarks, or check that the matrix holds cosines of 1536-d vectors.",
        )
    return np.ascontiguousarray(coordinates / norms, dtype=np.float32)


def reconstruction_error(
    coordinates: NDArray[np.float32], matrix: CosineMatrix, *, pairs: int = 10_000, seed: int = 0
) -> float:
    """Largest absolute difference between a sampled cosine and the dot product of its coordinates.

    Parameters
    ----------
    coordinates
        float32, shape (N, r), unit rows.
    matrix
        The cosines they were recovered from.
    pairs
        How many random pairs to compare.
    seed
        Which pairs.
    """
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, matrix.n_rows, (2, pairs))
    dots = np.einsum("ij,ij->i", coordinates[left], coordinates[right])
    return float(np.abs(dots - matrix.pairs(left, right)).max())
