"""A linear map that does not extrapolate: beyond the training rows it returns to the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.decoders.base import require_shape
from embup_core.decoders.parts.standard_units import RadialClamp

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fit_ridge(
    projected: NDArray[np.float32], targets: NDArray[np.float32], alpha: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ridge regression with an unpenalised intercept (scikit-learn's `Ridge`).

    Returns
    -------
    weights
        float32, shape (input_dims, d).
    intercept
        float32, shape (d,).
    """
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=alpha).fit(projected.astype(np.float64), targets)
    return np.ascontiguousarray(model.coef_.T, dtype=np.float32), model.intercept_.astype(np.float32)


@dataclass(frozen=True)
class Trend:
    """Ridge regression from standard units of z, up to the farthest training row.

    Attributes
    ----------
    weights
        float32, shape (input_dims, d).
    intercept
        float32, shape (d,).
    radial_clamp
        Keeps the line from extrapolating.
    """

    weights: NDArray[np.float32]
    intercept: NDArray[np.float32]
    radial_clamp: RadialClamp

    @classmethod
    def fit(cls, points: NDArray[np.float32], targets: NDArray[np.float32], alpha: float) -> Self:
        """Learn from z in standard units, float32 (n, input_dims), and targets, float32 (n, d)."""
        return cls(*fit_ridge(points, targets, alpha), RadialClamp.fit(points))

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict: float32 (n, input_dims) -> float32 (n, d)."""
        predicted: NDArray[np.float32] = self.radial_clamp(points) @ self.weights
        predicted += self.intercept
        return predicted

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays: ``weights``, ``intercept`` and ``radius``."""
        return {"weights": self.weights, "intercept": self.intercept, **self.radial_clamp.arrays()}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]], input_dims: int, dims: int) -> Self:
        """Load learned arrays for d = dims; ValueError where shapes or numbers do not fit."""
        return cls(
            require_shape(arrays, "weights", input_dims, dims),
            require_shape(arrays, "intercept", dims),
            RadialClamp.restore(arrays),
        )
