"""Standard units of z, in which distances are measured, and the axes along which originals differ most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.decoders.base import require_positive, require_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Standardisation:
    """Centre and one common scale of the training rows; distances are measured in its units.

    Attributes
    ----------
    centre
        float32, shape (input_dims,).
    scale
        Root of the mean variance of a column.
    """

    centre: NDArray[np.float32]
    scale: float

    @classmethod
    def fit(cls, projected: NDArray[np.float32]) -> Self:
        """Learn from z: float32, shape (n, input_dims)."""
        spread = float(np.sqrt(projected.var(axis=0, dtype=np.float64).mean()))
        return cls(projected.mean(axis=0, dtype=np.float64).astype(np.float32), max(spread, 1e-12))

    def __call__(self, projected: NDArray[np.float32]) -> NDArray[np.float32]:
        """z in standard units: float32, shape (n, input_dims)."""
        return (projected - self.centre) * np.float32(1 / self.scale)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays: ``centre`` and ``scale``."""
        return {"centre": self.centre, "scale": np.array([self.scale])}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]], input_dims: int) -> Self:
        """Load learned arrays; ValueError where shapes or numbers do not fit."""
        return cls(require_shape(arrays, "centre", input_dims), require_positive(arrays, "scale"))


@dataclass(frozen=True)
class RadialClamp:
    """Evaluates a regression within the training rows' radius only.

    Regressions do not extrapolate: beyond the training rows most soon become longer than the unit vectors
    they predict, and look certain where nothing is known. So a point at distance r > radius from the centre
    is evaluated at distance radius^2 / r: the farther out, the nearer to the mean.

    Attributes
    ----------
    radius
        Distance of the farthest training row from the centre, in standard units.
    """

    radius: float

    @classmethod
    def fit(cls, points: NDArray[np.float32]) -> Self:
        """Learn from z in standard units: float32, shape (n, input_dims)."""
        return cls(float(np.sqrt(np.vecdot(points, points).max())))

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points beyond the radius brought within, the others unchanged: float32, shape (n, input_dims)."""
        squared = np.float32(self.radius**2)
        shrink = squared / np.maximum(np.vecdot(points, points), squared)  # (n,)
        within: NDArray[np.float32] = points * shrink[:, None]
        return within

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays: ``radius``."""
        return {"radius": np.array([self.radius])}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; ValueError where the shape or the number does not fit."""
        return cls(require_positive(arrays, "radius"))


def principal_axes(coordinates: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """The directions that hold most of the rows' squared length: float32, shape (r, min(dims, r)).

    Principal component analysis without centring: cosines are dot products about the origin.
    """
    from threadpoolctl import threadpool_limits

    products = (coordinates.T @ coordinates).astype(np.float64)  # (r, r)
    with threadpool_limits(1):  # beside other work, threads that wait for each other take many times as long
        _, axes = np.linalg.eigh(products)
    axes = axes[:, ::-1][:, :dims]  # eigh sorts upwards
    # The sign of an axis is arbitrary; this choice makes processors and libraries agree where they can.
    signs = np.where(coordinates.mean(axis=0, dtype=np.float64) @ axes < 0, -1.0, 1.0)
    return np.ascontiguousarray(axes * signs, dtype=np.float32)
