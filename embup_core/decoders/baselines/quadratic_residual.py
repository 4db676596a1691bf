"""Ridge regression on z and all products of two of its numbers, completed to unit length by the complement.

The next Taylor term after `linear_residual`: of 32 numbers, 528 products (scikit-learn's
`PolynomialFeatures` of degree 2), penalised alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from embup_core.decoders.base import Seed
from embup_core.decoders.parts.complemented_decoder import LengthScale, MeanDims
from embup_core.decoders.parts.complemented_regression import ComplementedRegression
from embup_core.decoders.parts.trend import fit_ridge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape


class QuadraticResidual(ComplementedRegression):
    """Ridge regression on quadratic features plus complement.

    Parameters
    ----------
    alpha
        Ridge penalty on the squared weights, in standard units of z and of their products.
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even.
    complement_length_scale
        Distance, in standard units of z, over which two complements stay alike.
    seed
        Of the complement's random frequencies.
    """

    name: ClassVar[str] = "quadratic_residual"
    summary: ClassVar[str] = "ridge regression on quadratic features + orthogonal complement"
    fitted_with: ClassVar[tuple[str, ...]] = ("scikitlearn",)

    def __init__(
        self,
        *,
        alpha: Annotated[float, Ge(0)] = 300.0,
        mean_dims: MeanDims = 256,
        complement_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(mean_dims=mean_dims, complement_length_scale=complement_length_scale, seed=seed)
        self.alpha = alpha

    def fit_mean(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Learn weights."""
        self.weights_, self.intercept_ = fit_ridge(quadratic_features(points), targets, self.alpha)

    def mean(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Ridge regression on quadratic features."""
        return quadratic_features(points) @ self.weights_ + self.intercept_

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the learned arrays."""
        features = self.input_dims_ * (self.input_dims_ + 3) // 2
        return super().array_shapes() | {
            "weights": (features, self.mean_dims_),
            "intercept": (self.mean_dims_,),
        }


def quadratic_features(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each number and all products of two, as `PolynomialFeatures`: float32 (n, d) -> (n, d (d + 3) / 2)."""
    left, right = np.triu_indices(points.shape[1])  # (d (d + 1) / 2,) each
    return np.concatenate([points, points[:, left] * points[:, right]], axis=1)
