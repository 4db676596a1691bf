"""Ridge regression on z and all products of two of its numbers, completed by the residual.

The next Taylor term after `linear_residual`: 32 numbers and their 528 products (scikit-learn's
`PolynomialFeatures` of degree 2), penalised alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from embup_core.decoders.base import Seed
from embup_core.decoders.completed_regression import CompletedRegression, LengthScale, MeanDims
from embup_core.decoders.trend import fit_ridge
from embup_core.dims import INPUT_DIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape

_LEFT, _RIGHT = np.triu_indices(INPUT_DIMS)
FEATURES = INPUT_DIMS + len(_LEFT)
"""The numbers themselves, then the products in the order of `PolynomialFeatures`."""


class QuadraticResidualDecoder(CompletedRegression):
    """Ridge regression on quadratic features plus residual.

    Parameters
    ----------
    alpha
        Ridge penalty on the squared weights, in standard units of z and of their products.
    mean_dims
        Dimensions of the regression; the other 1536 - mean_dims hold the residual. Even.
    residual_length_scale
        Distance, in standard units of z, over which two residuals stay alike.
    seed
        Of the residual's random frequencies.
    """

    name: ClassVar[str] = "quadratic_residual"
    summary: ClassVar[str] = "ridge regression on quadratic features + orthogonal residual"
    fitted_with: ClassVar[tuple[str, ...]] = ("scikitlearn",)

    def __init__(
        self,
        *,
        alpha: Annotated[float, Ge(0)] = 300.0,
        mean_dims: MeanDims = 256,
        residual_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(mean_dims=mean_dims, residual_length_scale=residual_length_scale, seed=seed)
        self.alpha = alpha

    def fit_mean(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Learn weights."""
        self.weights_, self.intercept_ = fit_ridge(quadratic_features(points), targets, self.alpha)

    def mean(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Ridge regression on quadratic features."""
        return quadratic_features(points) @ self.weights_ + self.intercept_

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the learned arrays."""
        return super().array_shapes() | {
            "weights": (FEATURES, self.mean_dims),
            "intercept": (self.mean_dims,),
        }


def quadratic_features(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each number, and the product of each two: float32 (n, 32) -> float32 (n, 560)."""
    return np.concatenate([points, points[:, _LEFT] * points[:, _RIGHT]], axis=1)
