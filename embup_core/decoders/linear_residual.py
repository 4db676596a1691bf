"""Ridge regression completed to unit length by an orthogonal residual: what a good decoder must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from embup_core.decoders.base import Seed
from embup_core.decoders.completed_regression import CompletedRegression, LengthScale, MeanDims
from embup_core.decoders.trend import fit_ridge
from embup_core.dims import INPUT_DIMS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape


class LinearResidualDecoder(CompletedRegression):
    """Ridge regression plus residual.

    Parameters
    ----------
    alpha
        Ridge penalty on the squared weights, in standard units of z.
    mean_dims
        Dimensions of the regression; the other 1536 - mean_dims hold the residual. Even.
    residual_length_scale
        Distance, in standard units of z, over which two residuals stay alike.
    seed
        Of the residual's random frequencies.
    """

    name: ClassVar[str] = "linear_residual"
    summary: ClassVar[str] = "ridge regression + orthogonal residual"
    fitted_with: ClassVar[tuple[str, ...]] = ("scikitlearn",)

    def __init__(
        self,
        *,
        alpha: Annotated[float, Ge(0)] = 1.0,
        mean_dims: MeanDims = 64,  # a linear map of 32 numbers and a constant spans 33 dimensions
        residual_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(mean_dims=mean_dims, residual_length_scale=residual_length_scale, seed=seed)
        self.alpha = alpha

    def fit_mean(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Learn weights."""
        self.weights_, self.intercept_ = fit_ridge(points, targets, self.alpha)

    def mean(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Ridge regression."""
        return points @ self.weights_ + self.intercept_

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the learned arrays."""
        return super().array_shapes() | {
            "weights": (INPUT_DIMS, self.mean_dims),
            "intercept": (self.mean_dims,),
        }
