"""The noise of a cosine matrix, estimated from the kernel of its landmark rows.

Matrix products on a GPU and storage in half precision round the cosines. The size of the errors is estimated
in four ways, each of which sees another kind of noise:

- asymmetry: entry (i, j) against entry (j, i);
- the spread of the diagonal, which should be 1;
- rounding: mantissa bits that are zero in all entries;
- the negative eigenvalues, of which a Gram matrix has none. Independent errors of standard deviation s turn
  2m zero eigenvalues into a semicircle of radius 2 s sqrt(2m) around 0 (Wigner, 1955). Its negative half has
  m members of mean square 2 m s^2, so s = sqrt(sum of squares / 2) / m.

The largest of them is compared with the spread of the cosines, which is what decoders learn.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.errors import InvalidDataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WARNING_SHARE = 0.001
LARGEST_SHARE = 0.05
LARGEST_AMPLIFICATION = 20
"""Residual over noise. Measured on rows outside the landmarks: 3 to 10."""
EXACT_RESIDUAL = 2.5e-5
_SMALLEST_DEVIATION = 1e-7
MANTISSA_BITS = 23


@dataclass(frozen=True)
class MatrixNoise:
    """Standard deviations of the error of one cosine, by how each was estimated.

    Attributes
    ----------
    asymmetry, diagonal, rounding, spectrum
        The estimates from the matrix itself.
    residual
        Root mean square of what the recovered coordinates miss, on pairs of rows outside the landmarks where
        there are any.
    deviation
        Standard deviation of the cosines off the diagonal.
    """

    asymmetry: float
    diagonal: float
    rounding: float
    spectrum: float
    residual: float
    deviation: float

    @property
    def std(self) -> float:
        """The largest of the estimates from the matrix itself."""
        return max(self.asymmetry, self.diagonal, self.rounding, self.spectrum)

    @property
    def share(self) -> float:
        """Noise variance over the variance of the cosines; the residual counts as noise."""
        error, deviation = max(self.std, self.residual), max(self.deviation, _SMALLEST_DEVIATION)
        return (error / deviation) ** 2

    @property
    def figures(self) -> str:
        """The estimates in words."""
        return (
            f"asymmetry {self.asymmetry:.1e}, diagonal {self.diagonal:.1e}, rounding {self.rounding:.1e}, "
            f"negative eigenvalues {self.spectrum:.1e}, reconstruction {self.residual:.1e}; the cosines' own "
            f"standard deviation is {self.deviation:.1e}"
        )

    def warning(self) -> str | None:
        """A sentence where noise is above 0.1 % of the variance of the cosines."""
        if self.share <= WARNING_SHARE:
            return None
        return (
            f"the cosine matrix is noisy: {self.share:.2%} of the variance of its cosines, expected at most "
            f"{WARNING_SHARE:.1%} ({self.figures})."
        )

    def to_json(self) -> dict[str, float]:
        """The estimates, the largest of them, and the share of the variance."""
        return asdict(self) | {"std": self.std, "share_of_variance": self.share}

    def require_trainable(self, path: Path) -> None:
        """Raise `InvalidDataError` for a matrix to which coordinates cannot be fitted.

        Noise is above 5 % of the variance of the cosines, or the coordinates miss cosines by far more than
        the noise explains.
        """
        expected = max(EXACT_RESIDUAL, LARGEST_AMPLIFICATION * self.std)
        if self.residual > expected:
            raise InvalidDataError(
                f"{path}: the recovered coordinates miss its cosines by {self.residual:.1e} (root mean "
                f"square), expected at most {expected:.1e} ({self.figures}).",
                remedy="Use more landmarks, or check that these are cosines of vectors with no more "
                "dimensions than are set for the originals.",
            )
        if self.share > LARGEST_SHARE:
            raise InvalidDataError(
                f"{path} is too noisy: {self.share:.1%} of the variance of its cosines, expected at most "
                f"{LARGEST_SHARE:.0%} ({self.figures}).",
                remedy="Compute the cosines in float32 or better, and check that they are dot products of "
                "unit vectors with no more dimensions than are set for the originals.",
            )


@dataclass(frozen=True)
class KernelNoise:
    """Noise seen in the kernel of the landmark rows before its eigenvalues are known."""

    asymmetry: float
    diagonal: float
    rounding: float
    deviation: float

    @classmethod
    def from_kernel(cls, kernel: NDArray[np.float32]) -> KernelNoise:
        """Estimate from the landmarks' cosines, float32, shape (L, L)."""
        off_diagonal = ~np.eye(len(kernel), dtype=bool)
        values = kernel[off_diagonal]
        return cls(
            asymmetry=_std(kernel[off_diagonal] - kernel.T[off_diagonal]) / np.sqrt(2),  # of two errors
            diagonal=float(np.diag(kernel).std()),
            rounding=_rounding(values),
            deviation=_std(values),
        )

    def complete(self, eigenvalues: NDArray[np.float64], residual: float) -> MatrixNoise:
        """Add what the kernel's eigenvalues and the recovered coordinates say."""
        return MatrixNoise(
            self.asymmetry,
            self.diagonal,
            self.rounding,
            noise_of_spectrum(eigenvalues),
            residual,
            self.deviation,
        )


def noise_of_spectrum(eigenvalues: NDArray[np.float64]) -> float:
    """Standard deviation of independent errors that explain the negative eigenvalues of a Gram matrix."""
    negative = eigenvalues[eigenvalues < 0]
    return float(np.sqrt(np.square(negative).sum() / 2) / max(1, len(negative)))


def _std(values: NDArray[np.float32]) -> float:
    return float(values.std(dtype=np.float64)) if values.size else 0.0


def _rounding(values: NDArray[np.float32]) -> float:
    """Standard deviation of the rounding that left the last mantissa bits of all values zero."""
    bits = int(np.bitwise_or.reduce(np.ascontiguousarray(values).view(np.uint32), initial=0))
    mantissa = bits & (2**MANTISSA_BITS - 1)
    if not mantissa:
        return 0.0
    zero_bits = (mantissa & -mantissa).bit_length() - 1
    spacing = np.spacing(np.abs(values)).astype(np.float64) * 2**zero_bits
    return float(np.sqrt(np.mean(spacing**2) / 12))
