"""Standard units of z, in which distances are measured, and the axes along which originals differ most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.decoders.base import require_positive, require_shape
from embup_core.dims import INPUT_DIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Standardisation:
    """Centre and one common scale of the training rows; distances are measured in its units.

    Attributes
    ----------
    centre
        float32, shape (32,).
    scale
        Root of the mean variance of a column.
    """

    centre: NDArray[np.float32]
    scale: float

    @classmethod
    def of(cls, projected: NDArray[np.float32]) -> Self:
        """Learn from z: float32, shape (n, 32)."""
        spread = float(np.sqrt(projected.var(axis=0, dtype=np.float64).mean()))
        return cls(projected.mean(axis=0, dtype=np.float64).astype(np.float32), max(spread, 1e-12))

    def __call__(self, projected: NDArray[np.float32]) -> NDArray[np.float32]:
        """z in standard units: float32, shape (n, 32)."""
        return (projected - self.centre) * np.float32(1 / self.scale)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned: ``centre`` and ``scale``."""
        return {"centre": self.centre, "scale": np.array([self.scale])}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up what `arrays` gave; ValueError where shapes or numbers do not fit."""
        return cls(require_shape(arrays, "centre", INPUT_DIMS), require_positive(arrays, "scale"))


@dataclass(frozen=True)
class Reach:
    """How far from the centre the training rows go, and where a regression is asked about rows beyond.

    No regression extrapolates: beyond the training rows most would soon be longer than the unit vectors they
    predict, and look certain where nothing is known. So at a distance r > distance it is asked at
    distance^2 / r: farther out is nearer to the mean.

    Attributes
    ----------
    distance
        Of the farthest training row from the centre, in standard units.
    """

    distance: float

    @classmethod
    def of(cls, points: NDArray[np.float32]) -> Self:
        """Learn from z in standard units: float32, shape (n, 32)."""
        return cls(float(np.sqrt(np.vecdot(points, points).max())))

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where rows beyond are asked, the others as they are: float32, shape (n, 32)."""
        squared = np.float32(self.distance**2)
        shrink = squared / np.maximum(np.vecdot(points, points), squared)
        within: NDArray[np.float32] = points * shrink[:, None]
        return within

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned: ``reach``."""
        return {"reach": np.array([self.distance])}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up what `arrays` gave; ValueError where its shape or its number does not fit."""
        return cls(require_positive(arrays, "reach"))


def principal_axes(coordinates: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """The directions that hold most of the rows' squared length: float32, shape (r, min(dims, r))."""
    from threadpoolctl import threadpool_limits

    products = (coordinates.T @ coordinates).astype(np.float64)
    with threadpool_limits(1):  # beside other work, threads that wait for each other take many times as long
        _, axes = np.linalg.eigh(products)
    axes = axes[:, ::-1][:, :dims]
    # An axis has no sign of its own; this one makes processors and libraries agree where they can.
    signs = np.where(coordinates.mean(axis=0, dtype=np.float64) @ axes < 0, -1.0, 1.0)
    return np.ascontiguousarray(axes * signs, dtype=np.float32)
