"""The originals up to a rotation, recovered from the cosine matrix through landmark rows.

The rank r of the matrix G of cosines is at most the originals' dimensions, so r independent rows fix
everything. With L landmark rows, K = G[L, L] = V w V^T over its r largest eigenvalues, C = G[:, L] V w^(-1/2)
satisfies C C^T = G: the Nystroem approximation (Williams & Seeger, 2000), exact here because L >= r. Decoding
then is a regression from z to C, and any rotation of the answer has the same cosines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.errors import InvalidDataError
from embup_core.geometry.noise import KernelNoise, MatrixNoise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.sources.cosine_matrix import CosineMatrix


NOISE_FACTOR = 0.6
"""Eigenvalues above this many s sqrt(L) are kept, s being the noise of a cosine.

Independent errors spread zero eigenvalues over 2 s sqrt(L), but weak dimensions below that are worth keeping:
on real embeddings R2 is best near 0.5 for matrices rounded to float16 or bfloat16, near 1 for gross noise.
"""
_LARGEST_MEAN_BEYOND: Final = 1.2e-3
"""Largest mean of the eigenvalues beyond the output dimensions, where all together have the mean 1.

Rounding to float16 leaves it below 0, and real embeddings of twice the dimensions have 7e-3 or more.
"""
EXACT_DIAGONAL = 1e-5
"""A diagonal within this of 1 is what products in float32 leave; it is taken as it is."""


class Recovery(NamedTuple):
    """Coordinates, and the noise of the matrix they come from.

    Attributes
    ----------
    coordinates
        float32, shape (N, r), unit rows.
    noise
        Estimates of the noise of one cosine.
    landmarks
        Row numbers: int64, shape (L,), sorted.
    landmark_coordinates
        Of these rows, not made unit length: their dot products are the nearest to the kernel that r
        dimensions have. float64, shape (L, r).
    """

    coordinates: NDArray[np.float32]
    noise: MatrixNoise
    landmarks: NDArray[np.int64]
    landmark_coordinates: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LandmarkRows:
    """Some rows of the matrix, in memory.

    Attributes
    ----------
    numbers
        Which rows: int64, shape (L,).
    cosines
        With all rows: float32, shape (L, N).
    kernel
        Cosines among them, symmetric: float64, shape (L, L).
    seen
        Noise that the kernel shows without its eigenvalues.
    """

    numbers: NDArray[np.int64]
    cosines: NDArray[np.float32]
    kernel: NDArray[np.float64]
    seen: KernelNoise

    @classmethod
    def read(cls, matrix: CosineMatrix, numbers: NDArray[np.int64]) -> Self:
        """Read rows, and set the diagonal to 1 where it is not."""
        cosines = np.empty((len(numbers), matrix.n_rows), np.float32)  # (L, N)
        for block in row_blocks(len(numbers)):
            cosines[block] = matrix.rows(numbers[block])
        measured = cosines[:, numbers]  # (L, L)
        seen = KernelNoise.from_kernel(measured)
        if np.abs(np.diag(measured) - 1).max() > EXACT_DIAGONAL:
            np.fill_diagonal(measured, 1)
            cosines[np.arange(len(numbers)), numbers] = 1
        kernel = measured.astype(np.float64)
        return cls(numbers, cosines, (kernel + kernel.T) / 2, seen)

    def coordinates(
        self, whitening: NDArray[np.float32], matrix: CosineMatrix, *, output_dims: int
    ) -> NDArray[np.float32]:
        """Coordinates of all rows, by their cosines with these: float32, shape (N, r), unit rows.

        Raises
        ------
        InvalidDataError
            A row's cosines with all landmarks are about 0.
        """
        coordinates = self.cosines.T @ whitening  # (N, r)
        norms = np.linalg.norm(coordinates, axis=1, keepdims=True)
        weakest = int(np.argmin(norms))
        if norms[weakest, 0] < 0.5:
            raise InvalidDataError(
                f"{matrix.path}: row {matrix.row_number(weakest)} is not spanned by the "
                f"{len(self.numbers)} landmark rows (its recovered length is {norms[weakest, 0]:.3f}, "
                "expected 1).",
                remedy=f"Use more landmarks, or check that the matrix holds cosines of {output_dims}-d "
                "vectors.",
            )
        return np.ascontiguousarray(coordinates / norms, dtype=np.float32)

    def noise(
        self, coordinates: NDArray[np.float32], of_kernel: MatrixNoise, matrix: CosineMatrix
    ) -> MatrixNoise:
        """The kernel's noise with the residual of other rows' cosines; raises `InvalidDataError` for more."""
        others = np.setdiff1d(np.arange(matrix.n_rows), self.numbers)
        residual = reconstruction_residual(coordinates, matrix, rows=others if len(others) > 1 else None)
        found = replace(of_kernel, residual=residual)
        found.require_trainable(matrix.path)
        return found


def recover_coordinates(
    matrix: CosineMatrix,
    *,
    output_dims: int = DEFAULT_OUTPUT_DIMS,
    landmarks: int | None = None,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Unit rows whose dot products are the matrix's cosines: float32, shape (N, r).

    Parameters and errors are those of `recover`.
    """
    return recover(matrix, output_dims=output_dims, landmarks=landmarks, seed=seed).coordinates


def recover(
    matrix: CosineMatrix,
    *,
    output_dims: int = DEFAULT_OUTPUT_DIMS,
    landmarks: int | None = None,
    seed: int = 0,
) -> Recovery:
    """Recover coordinates, keeping as many dimensions as the noise of the matrix leaves.

    Parameters
    ----------
    matrix
        Cosines between N originals.
    output_dims
        Dimensions of the originals, which the files do not state: no smaller than the matrix's rank.
    landmarks
        Rows of the matrix to read; at least `output_dims` of them are needed for an exact answer. None reads
        a third more.
    seed
        Which rows become landmarks.

    Returns
    -------
    Recovery
        Coordinates of shape (N, r) with r <= output_dims, and the noise found.

    Raises
    ------
    InvalidDataError
        The matrix's rank is above `output_dims`; a row's cosines with all landmarks are about 0, so it cannot
        be recovered from them; or noise is above 5 % of the variance of the cosines.
    """
    if landmarks is None:
        landmarks = default_landmarks(output_dims)
    chosen = matrix.landmarks(landmarks, seed=seed)
    rows = LandmarkRows.read(matrix, chosen)
    eigenvalues, eigenvectors = np.linalg.eigh(rows.kernel)
    # Rounding a cosine to float32 spreads the zero eigenvalues over about eps * sqrt(L); below twice that
    # there is only noise, which the inverse square root would blow up.
    exact = 2 * np.finfo(np.float32).eps
    of_kernel = kernel_noise(rows, eigenvalues, matrix, output_dims=output_dims)
    noise = max(exact, NOISE_FACTOR * of_kernel.std) * np.sqrt(len(chosen))
    kept = np.flatnonzero(eigenvalues > noise)[-output_dims:][::-1]
    root = np.sqrt(eigenvalues[kept])
    whitening = (eigenvectors[:, kept] / root).astype(np.float32)  # (L, r)
    coordinates = rows.coordinates(whitening, matrix, output_dims=output_dims)
    found = rows.noise(coordinates, of_kernel, matrix)
    return Recovery(coordinates, found, chosen, eigenvectors[:, kept] * root)


def kernel_noise(
    rows: LandmarkRows, eigenvalues: NDArray[np.float64], matrix: CosineMatrix, *, output_dims: int
) -> MatrixNoise:
    """The noise that a kernel of these eigenvalues, ascending, shows: float64, shape (L,).

    Raises
    ------
    InvalidDataError
        The matrix's rank is above `output_dims`, or the noise is too large.
    """
    _require_rank(matrix, eigenvalues, output_dims)
    found = rows.seen.complete(eigenvalues, residual=0)
    found.require_trainable(matrix.path)
    return found


def default_landmarks(output_dims: int) -> int:
    """Rows of the matrix to read: a third more than there are dimensions, so that a larger rank shows."""
    return output_dims + output_dims // 3


def _require_rank(matrix: CosineMatrix, eigenvalues: NDArray[np.float64], output_dims: int) -> None:
    """Refuse a matrix that `output_dims` dimensions cannot hold; `eigenvalues` ascend."""
    beyond = eigenvalues[:-output_dims]
    if beyond.size and beyond.mean() > _LARGEST_MEAN_BEYOND * eigenvalues.mean():
        raise InvalidDataError(
            f"{matrix.path}: expected cosines of vectors of at most {output_dims} dimensions, found a matrix "
            f"of a higher rank ({beyond.sum() / eigenvalues.sum():.1%} of the squared length lies beyond).",
            remedy="Set the dimensions of the originals: --output-dims, EMBUP_OUTPUT_DIMS, or in Dagster's "
            "launchpad the resource `originals`.",
        )


def reconstruction_residual(
    coordinates: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    rows: NDArray[np.integer] | None = None,
    pairs: int = 10_000,
    seed: int = 0,
) -> float:
    """Root mean square of sampled cosines minus the dot products of their coordinates, off the diagonal.

    0 where no cosine of two of these rows is known.

    Parameters
    ----------
    coordinates
        float32, shape (N, r), unit rows.
    matrix
        The cosines they were recovered from.
    rows
        Rows to draw from, at least two; None draws from all.
    pairs
        How many random pairs to compare.
    seed
        Which pairs.
    """
    rows = np.arange(matrix.n_rows) if rows is None else rows
    left, right = matrix.random_pairs(rows, pairs, seed=seed)
    if not len(left):
        return 0.0
    dots = np.einsum("ij,ij->i", coordinates[left], coordinates[right])
    return float(np.sqrt(np.mean((dots - matrix.pairs(left, right)) ** 2)))
