"""Ridge regression completed to unit length by an orthogonal complement: the baseline to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from embup_core.decoders.base import Seed
from embup_core.decoders.parts.complemented_decoder import LengthScale, MeanDims
from embup_core.decoders.parts.complemented_regression import ComplementedRegression
from embup_core.decoders.parts.trend import fit_ridge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape


class LinearResidual(ComplementedRegression):
    """Ridge regression plus complement.

    Parameters
    ----------
    alpha
        Ridge penalty on the squared weights, in standard units of z.
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even.
    complement_length_scale
        Distance, in standard units of z, over which two complements stay alike.
    seed
        Of the complement's random frequencies.
    """

    name: ClassVar[str] = "linear_residual"
    summary: ClassVar[str] = "ridge regression + orthogonal complement"
    fitted_with: ClassVar[tuple[str, ...]] = ("scikitlearn",)

    def __init__(
        self,
        *,
        alpha: Annotated[float, Ge(0)] = 1.0,
        mean_dims: MeanDims = 64,  # a linear map of 32 numbers and a constant spans 33 dimensions
        complement_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(mean_dims=mean_dims, complement_length_scale=complement_length_scale, seed=seed)
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
            "weights": (self.input_dims_, self.mean_dims_),
            "intercept": (self.mean_dims_,),
        }
