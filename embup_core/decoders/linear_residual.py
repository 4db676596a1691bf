"""Ridge regression completed to unit length by an orthogonal residual: what a good decoder must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from embup_core.decoders.base import Decoder, padded, require_shape
from embup_core.decoders.residual import completed, residual_frequencies
from embup_core.decoders.standard_units import STANDARDISATION_ARRAYS, Standardisation, principal_axes
from embup_core.decoders.trend import TREND_ARRAYS, Trend
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LinearResidualDecoder(Decoder):
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

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        mean_dims: int = 64,  # a linear map of 32 numbers and a constant spans 33 dimensions
        residual_length_scale: float = 1.5,
        seed: int = 0,
    ) -> None:
        self.alpha = alpha
        self.mean_dims = mean_dims
        self.residual_length_scale = residual_length_scale
        self.seed = seed

    def fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> Self:
        """Learn weights; see `Decoder.fit`."""
        self.standardisation_ = Standardisation.of(projected)
        axes = principal_axes(coordinates, self.mean_dims)
        targets = padded(coordinates @ axes, self.mean_dims)
        self.trend_ = Trend.fit(self.standardisation_(projected), targets, self.alpha)
        self.frequencies_ = residual_frequencies(
            OUTPUT_DIMS - self.mean_dims, INPUT_DIMS, length_scale=self.residual_length_scale, seed=self.seed
        )
        return self

    def predict_with_confidence(
        self, projected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode; see `Decoder.predict_with_confidence`."""
        standardised = self.standardisation_(projected)
        return completed(self.trend_(standardised), standardised, self.frequencies_)

    def settings(self) -> dict[str, Any]:
        """Hyper-parameters."""
        return {
            "alpha": self.alpha,
            "mean_dims": self.mean_dims,
            "residual_length_scale": self.residual_length_scale,
            "seed": self.seed,
        }

    @classmethod
    def array_names(cls, settings: dict[str, Any]) -> frozenset[str]:  # noqa: ARG003  the same for all settings
        """Names of the learned arrays."""
        return STANDARDISATION_ARRAYS | TREND_ARRAYS | {"frequencies"}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {
            **self.standardisation_.arrays(),
            **self.trend_.arrays(),
            "frequencies": self.frequencies_,
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        self.standardisation_ = Standardisation.restore(arrays)
        self.trend_ = Trend.restore(arrays, self.mean_dims)
        self.frequencies_ = require_shape(
            arrays, "frequencies", INPUT_DIMS, (OUTPUT_DIMS - self.mean_dims) // 2
        )
        return self
