"""The basis of decoded vectors: everything that fixes their axes, kept from one training to the next.

Coordinates are recovered up to a rotation, and a decoder fills what it does not know with a random
complement. Vectors of two trainings that choose both anew cannot be compared. A basis fixes

- landmark rows and their principal coordinates X, shape (L, r). The cosines g of a row with them give its
  coordinates, the least-squares solution of X c = g: the same ones in every training that has these rows;
- the units in which the complement measures z, and the frequencies that it draws.

Landmarks are known by their z, whatever their row numbers are in a later file. Products of X with itself are
their mutual cosines, so a row whose original has changed shows. As long as a tenth more landmarks are left
than there are dimensions, the others are not needed.

X is kept in float32, 12.6 MB for 2,048 landmarks of 1,536 dimensions. In float16 it would take half of that
and miss the cosines by 6e-4, where they are met within 7e-7: the smallest dimensions lose all digits.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as tensors_to_bytes

from embup_core.decoders.parts.complement import complement_frequencies
from embup_core.decoders.parts.standard_units import Standardisation, principal_axes
from embup_core.errors import BasisLostError
from embup_core.geometry.coordinates import LandmarkRows, kernel_noise, recover

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.geometry.noise import MatrixNoise
    from embup_core.sources.cosine_matrix import CosineMatrix

SAME_ROW: Final = 1e-6
"""Largest distance between the z of a landmark in two files: what another way to normalise rows leaves."""
SPARE_LANDMARKS: Final = 1.1
"""Landmarks that are needed, as a multiple of the dimensions."""
LARGEST_COSINE_CHANGE: Final = 1e-3
"""A larger median change of its cosines with the other landmarks means another original, not rounding."""
SPANNED_LENGTH: Final = 0.99
"""Recovered length that all but a twentieth of the other rows must have; 1 where landmarks span them."""
SHORT_SHARE: Final = 0.05
"""The twentieth of the rows that may be shorter."""
_ERRORS: Final = 3.0


@dataclass(frozen=True, eq=False)
class Basis:
    """What must stay the same for vectors of two versions to be comparable.

    Attributes
    ----------
    landmarks
        z of the landmark rows: float32, shape (L, input_dims).
    coordinates
        Of these rows, in principal axes, largest first, not made unit length: float32, shape (L, r).
    output_dims
        Dimensions of decoded vectors.
    standardisation
        Units of z in which the complement measures distances.
    frequencies
        Of the complement at length scale 1; a decoder uses the first ones that it has room for: float32,
        shape (input_dims, output_dims // 2).
    cosine_error
        Root mean square of the landmarks' cosines minus products of their coordinates.

    Notes
    -----
    The length scales that a decoder learns for its complement are not part of it. On ada-002 they came out as
    1.54 and 3.35 with 6,836 rows and 1.71 and 3.38 with 10,311, and a row decoded by both had a median cosine
    of 0.996 with itself. Equal ones changed recall between two such versions by 0.001 at most.
    """

    landmarks: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    output_dims: int
    standardisation: Standardisation
    frequencies: NDArray[np.float32]
    cosine_error: float

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of its content."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    @property
    def dims(self) -> int:
        """Dimensions of coordinates, r."""
        return int(self.coordinates.shape[1])

    @property
    def landmarks_needed(self) -> int:
        """How many landmark rows a source must hold to keep this basis; all, where it has few."""
        return min(math.ceil(SPARE_LANDMARKS * self.dims), len(self.landmarks))

    def complement_frequencies(self, n_frequencies: int, *, length_scale: float) -> NDArray[np.float32]:
        """Frequencies of a complement: float32, shape (input_dims, n_frequencies)."""
        return np.ascontiguousarray(self.frequencies[:, :n_frequencies] / np.float32(length_scale))

    def whitening(self, kept: NDArray[np.int64]) -> NDArray[np.float32]:
        """X (X^T X)^-1 of some landmarks: a row's cosines with them times this are its coordinates.

        Parameters
        ----------
        kept
            Numbers of landmarks: int64, shape (k,) with k >= r.

        Returns
        -------
        float32, shape (k, r)
        """
        from scipy.linalg import cho_factor, cho_solve

        chosen = self.coordinates[kept].astype(np.float64)  # (k, r)
        factor = cho_factor(chosen.T @ chosen, lower=True, overwrite_a=True, check_finite=False)
        solved = cho_solve(factor, chosen.T, check_finite=False)  # (r, k)
        return np.ascontiguousarray(solved.T, np.float32)

    def find_landmarks(self, projected: NDArray[np.float32]) -> NDArray[np.int64]:
        """Row number of each landmark in a source, by its z: int64, shape (L,); -1 where there is none.

        Parameters
        ----------
        projected
            z of the source: float32, shape (N, input_dims).
        """
        found = _equal_rows(self.landmarks, projected)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            from scipy.spatial import KDTree

            distance, row = KDTree(projected).query(
                self.landmarks[missing], distance_upper_bound=np.nextafter(SAME_ROW, 1)
            )
            found[missing] = np.where(np.isfinite(distance), row, -1)
        return found

    def extends(self, earlier: Basis) -> bool:
        """Whether vectors in the earlier basis are valid in this one: the same, or grown from it."""
        if self.id == earlier.id:
            return True
        rows, dims = earlier.coordinates.shape
        same = (
            self.output_dims == earlier.output_dims
            and np.array_equal(self.frequencies, earlier.frequencies)
            and np.array_equal(self.landmarks[:rows], earlier.landmarks)
            and np.array_equal(self.coordinates[:rows, :dims], earlier.coordinates)
        )
        return same and not self.coordinates[:rows, dims:].any()

    def to_bytes(self) -> bytes:
        """All arrays as safetensors; equal ones give equal bytes."""
        arrays: dict[str, NDArray[Any]] = {
            "landmarks": self.landmarks,
            "coordinates": self.coordinates,
            "output_dims": np.array([self.output_dims], np.int64),
            "frequencies": self.frequencies,
            "cosine_error": np.array([self.cosine_error]),
            **self.standardisation.arrays(),
        }
        return tensors_to_bytes({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Rebuild; raises `ValueError` for what is no basis."""
        try:
            arrays = tensors_from_bytes(data)
        except SafetensorError as error:
            raise ValueError(f"expected safetensors ({error})") from error
        expected = _expected_arrays(arrays)
        found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
        if found != expected:
            raise ValueError(f"expected tensors {expected}, found {str(found)[:300]}")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("expected finite numbers in all tensors")
        return cls(
            landmarks=arrays["landmarks"],
            coordinates=arrays["coordinates"],
            output_dims=int(arrays["output_dims"][0]),
            standardisation=Standardisation.restore(arrays, arrays["landmarks"].shape[1]),
            frequencies=arrays["frequencies"],
            cosine_error=float(arrays["cosine_error"][0]),
        )


class RecoveryInBasis(NamedTuple):
    """Coordinates in a basis.

    Attributes
    ----------
    coordinates
        In principal axes: float32, shape (N, r), unit rows.
    noise
        Estimates of the noise of one cosine.
    basis
        The one asked for, or a new one.
    landmarks
        Rows of the source that fixed the coordinates: int64, shape (k,).
    whitening
        A row's cosines with these times this are its coordinates, before they are made unit length: float32,
        shape (k, r).
    """

    coordinates: NDArray[np.float32]
    noise: MatrixNoise
    basis: Basis
    landmarks: NDArray[np.int64]
    whitening: NDArray[np.float32]


def recover_in_new_basis(
    matrix: CosineMatrix,
    projected: NDArray[np.float32],
    *,
    output_dims: int,
    landmarks: int | None = None,
    seed: int = 0,
) -> RecoveryInBasis:
    """Recover coordinates, and make a basis of them.

    Parameters
    ----------
    matrix
        Cosines between N originals.
    projected
        z of the same rows: float32, shape (N, input_dims).
    output_dims, landmarks, seed
        As for `recover`; the seed is that of the frequencies, too.

    Raises
    ------
    InvalidDataError
        As `recover`.
    """
    found = recover(matrix, output_dims=output_dims, landmarks=landmarks, seed=seed)
    axes = principal_axes(found.coordinates, found.coordinates.shape[1]).astype(np.float64)  # (r, r)
    coordinates = (found.landmark_coordinates @ axes).astype(np.float32)  # (L, r)
    basis = Basis(
        landmarks=np.ascontiguousarray(projected[found.landmarks]),
        coordinates=coordinates,
        output_dims=output_dims,
        standardisation=Standardisation.fit(projected),
        frequencies=complement_frequencies(projected.shape[1], output_dims // 2, length_scale=1.0, seed=seed),
        cosine_error=0.0,
    )
    noise, numbers = found.noise, found.landmarks
    del found  # its coordinates are made again, by the same steps as in each training that keeps the basis
    rows = LandmarkRows.read(matrix, numbers)
    off_diagonal = ~np.eye(len(numbers), dtype=bool)
    change = (rows.kernel - coordinates @ coordinates.T)[off_diagonal]
    basis = replace(basis, cosine_error=float(np.sqrt(np.mean(np.square(change)))))
    whitening = basis.whitening(np.arange(len(numbers)))
    recovered = rows.coordinates(whitening, matrix, output_dims=output_dims)
    return RecoveryInBasis(recovered, noise, basis, numbers, whitening)


def recover_in_kept_basis(
    basis: Basis, matrix: CosineMatrix, projected: NDArray[np.float32], *, output_dims: int
) -> RecoveryInBasis:
    """Recover coordinates in the basis of an earlier training.

    Parameters
    ----------
    basis
        To keep.
    matrix
        Cosines between N originals.
    projected
        z of the same rows: float32, shape (N, input_dims).
    output_dims
        Dimensions of the originals.

    Raises
    ------
    BasisLostError
        The source does not hold enough of its landmark rows, or they do not span its originals.
    InvalidDataError
        As `recover`.
    """
    given = (projected.shape[1], output_dims)
    wanted = (basis.landmarks.shape[1], basis.output_dims)
    if given != wanted:
        raise _lost(
            basis,
            f"it is one from {wanted[0]} to {wanted[1]} dimensions, and the source has "
            f"{given[0]} and {given[1]}",
        )
    numbers = basis.find_landmarks(projected)
    present = np.flatnonzero(numbers >= 0)
    _require_enough(basis, len(present), missing=len(numbers) - len(present), changed=0)
    rows = LandmarkRows.read(matrix, numbers[present])
    same = _unchanged(basis, rows, present)
    if not same.all():
        _require_enough(
            basis, int(same.sum()), missing=len(numbers) - len(present), changed=int((~same).sum())
        )
        present = present[same]
        rows = LandmarkRows(
            rows.numbers[same], rows.cosines[same], rows.kernel[np.ix_(same, same)], rows.seen
        )
    eigenvalues = np.linalg.eigvalsh(rows.kernel).astype(np.float64, copy=False)
    of_kernel = kernel_noise(rows, eigenvalues, matrix, output_dims=output_dims)
    whitening = basis.whitening(present)
    _require_spanned(basis, rows, whitening)
    coordinates = rows.coordinates(whitening, matrix, output_dims=output_dims)
    noise = rows.noise(coordinates, of_kernel, matrix)
    return RecoveryInBasis(coordinates, noise, basis, rows.numbers, whitening)


def _equal_rows(wanted: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number of the first row of the same bytes: int64, shape (len(wanted),); -1 where there is none."""
    one = np.dtype((np.void, rows.shape[1] * rows.itemsize))
    keys = np.ascontiguousarray(rows).view(one).ravel()
    distinct, first = np.unique(keys, return_index=True)
    asked = np.ascontiguousarray(wanted).view(one).ravel()
    at = np.minimum(np.searchsorted(distinct, asked), len(distinct) - 1)
    return np.where(distinct[at] == asked, first[at], -1)


def _unchanged(basis: Basis, rows: LandmarkRows, present: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Landmarks whose cosines with the others are what they were: bool, shape (len(present),).

    A changed row spoils one entry of each other row, so medians tell it from the others.
    """
    kept = basis.coordinates[present]
    change = np.abs(rows.kernel - kept @ kept.T)  # (k, k)
    largest = LARGEST_COSINE_CHANGE + _ERRORS * basis.cosine_error
    return np.asarray(np.median(change, axis=1) <= largest)


def _require_enough(basis: Basis, left: int, *, missing: int, changed: int) -> None:
    if left < basis.landmarks_needed:
        raise _lost(
            basis,
            f"it needs {basis.landmarks_needed:,} of its {len(basis.landmarks):,} landmark rows, and "
            f"{left:,} are left in the source ({missing:,} are not there, {changed:,} have other cosines)",
        )


def _require_spanned(basis: Basis, rows: LandmarkRows, whitening: NDArray[np.float32]) -> None:
    """Refuse landmarks that span only a part of the other originals."""
    others = np.setdiff1d(np.arange(rows.cosines.shape[1]), rows.numbers)
    sampled = others[:: max(1, len(others) // 1000)]
    if len(sampled):
        lengths = np.linalg.norm(rows.cosines[:, sampled].T @ whitening, axis=1)
        length = float(np.quantile(lengths, SHORT_SHARE))
        if length < SPANNED_LENGTH:
            raise _lost(
                basis,
                f"its {len(rows.numbers):,} landmark rows span a part of the source's originals only (one "
                f"in twenty is shorter than {length:.3f}, expected 1)",
            )


def _lost(basis: Basis, why: str) -> BasisLostError:
    return BasisLostError(
        f"The basis {basis.id} cannot be kept: {why}.",
        remedy="Train with a new basis (--basis new), and decode stored vectors again; or give the rows of "
        "the earlier training along.",
    )


def _expected_arrays(arrays: dict[str, NDArray[Any]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor, as far as they follow from others; `ValueError` where they do not."""
    try:
        (rows, input_dims), (_, dims) = arrays["landmarks"].shape, arrays["coordinates"].shape
        output_dims = int(arrays["output_dims"][0])
    except (LookupError, ValueError, TypeError) as error:
        raise ValueError(
            f"expected landmarks, coordinates and output_dims, found {sorted(arrays)}"
        ) from error
    if not (0 < dims <= min(rows, output_dims) and input_dims > 0):
        raise ValueError(f"expected at most {output_dims} dimensions and as many landmarks, found {dims}")
    return {
        "landmarks": ("float32", (rows, input_dims)),
        "coordinates": ("float32", (rows, dims)),
        "output_dims": ("int64", (1,)),
        "centre": ("float32", (input_dims,)),
        "scale": ("float64", (1,)),
        "frequencies": ("float32", (input_dims, output_dims // 2)),
        "cosine_error": ("float64", (1,)),
    }
