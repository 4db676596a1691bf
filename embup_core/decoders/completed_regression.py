"""What every regression that is completed by a residual shares: only the regression itself differs.

z goes into standard units; the regression answers the leading principal coordinates mu(z); the residual fills
the rest of the length (see `embup_core.decoders.residual`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

import numpy as np
from annotated_types import Ge, Gt, Le, MultipleOf

from embup_core.decoders.base import Decoder, padded
from embup_core.decoders.residual import completed, residual_frequencies
from embup_core.decoders.standard_units import Standardisation, principal_axes
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape

MeanDims: TypeAlias = Annotated[int, Ge(2), Le(OUTPUT_DIMS - 2), MultipleOf(2)]
LengthScale: TypeAlias = Annotated[float, Gt(0)]


class CompletedRegression(Decoder):
    """A regression and the residual that completes it; a decoder gives `fit_mean` and `mean`.

    No regression extrapolates. Beyond the training rows most would soon be longer than the unit vectors they
    predict, and look certain where nothing is known. So at a distance r > reach from the centre, `mean` is
    asked at reach^2 / r: farther out is nearer to the mean.

    Parameters
    ----------
    mean_dims
        Dimensions of the regression; the other 1536 - mean_dims hold the residual. Even.
    residual_length_scale
        Distance, in standard units of z, over which two residuals stay alike.
    seed
        Of the residual's random frequencies.
    """

    def __init__(self, *, mean_dims: MeanDims, residual_length_scale: LengthScale, seed: int) -> None:
        self.mean_dims = mean_dims
        self.residual_length_scale = residual_length_scale
        self.seed = seed

    @abstractmethod
    def fit_mean(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Learn the regression.

        Parameters
        ----------
        points
            z in standard units: float32, shape (n, 32).
        targets
            Leading principal coordinates: float32, shape (n, mean_dims).
        """

    @abstractmethod
    def mean(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """mu(z), the regression's answer: float32 (n, 32) -> float32 (n, mean_dims)."""

    def fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> Self:
        """Learn standard units, principal axes and the regression; see `Decoder.fit`."""
        self.standardisation_ = Standardisation.of(projected)
        points = self.standardisation_(projected)
        self.reach_ = np.sqrt(np.vecdot(points, points).max(keepdims=True))  # (1,)
        self.frequencies_ = residual_frequencies(
            OUTPUT_DIMS - self.mean_dims, INPUT_DIMS, length_scale=self.residual_length_scale, seed=self.seed
        )
        axes = principal_axes(coordinates, self.mean_dims)
        self.fit_mean(points, padded(coordinates @ axes, self.mean_dims))
        return self

    def predict_with_confidence(
        self, projected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode; see `Decoder.predict_with_confidence`."""
        points = self.standardisation_(projected)
        reach_squared = np.square(self.reach_, dtype=np.float32)
        shrink = reach_squared / np.maximum(np.vecdot(points, points), reach_squared)
        return completed(self.mean(points * shrink[:, None]), points, self.frequencies_)

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the learned arrays beside the standard units; decoders add their own."""
        return {"reach": (1,), "frequencies": (INPUT_DIMS, (OUTPUT_DIMS - self.mean_dims) // 2)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**self.standardisation_.arrays(), **super().arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        self.standardisation_ = Standardisation.restore(arrays)
        return super().restore(arrays)
