"""A linear map that does not extrapolate: beyond the training rows it returns to the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.decoders.base import require_shape
from embup_core.decoders.standard_units import Reach
from embup_core.dims import INPUT_DIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fit_ridge(
    projected: NDArray[np.float32], targets: NDArray[np.float32], alpha: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ridge regression with an unpenalised intercept (scikit-learn's `Ridge`).

    Returns
    -------
    weights
        float32, shape (32, d).
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
        float32, shape (32, d).
    intercept
        float32, shape (d,).
    reach
        Where it is asked about rows beyond the training rows.
    """

    weights: NDArray[np.float32]
    intercept: NDArray[np.float32]
    reach: Reach

    @classmethod
    def fit(cls, standardised: NDArray[np.float32], targets: NDArray[np.float32], alpha: float) -> Self:
        """Learn from z in standard units, float32 (n, 32), and targets, float32 (n, d)."""
        return cls(*fit_ridge(standardised, targets, alpha), Reach.of(standardised))

    def __call__(self, standardised: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict: float32 (n, 32) -> float32 (n, d)."""
        predicted: NDArray[np.float32] = self.reach(standardised) @ self.weights
        predicted += self.intercept
        return predicted

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned: ``weights``, ``intercept`` and ``reach``."""
        return {"weights": self.weights, "intercept": self.intercept, **self.reach.arrays()}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]], dims: int) -> Self:
        """Take up what `arrays` gave, for d = dims; ValueError where shapes or numbers do not fit."""
        return cls(
            require_shape(arrays, "weights", INPUT_DIMS, dims),
            require_shape(arrays, "intercept", dims),
            Reach.restore(arrays),
        )
