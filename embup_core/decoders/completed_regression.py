"""What every regression that is completed by a residual shares: only the regression itself differs.

z goes into standard units; the regression answers the leading principal coordinates mu(z); the residual fills
the rest of the length (see `embup_core.decoders.residual`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

from annotated_types import Ge, Gt, Le, MultipleOf

from embup_core.decoders.base import Decoder, padded
from embup_core.decoders.residual import completed, residual_frequencies
from embup_core.decoders.standard_units import Reach, Standardisation, principal_axes
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape

MeanDims: TypeAlias = Annotated[int, Ge(2), Le(OUTPUT_DIMS - 2), MultipleOf(2)]
LengthScale: TypeAlias = Annotated[float, Gt(0)]


class CompletedRegression(Decoder):
    """A regression and the residual that completes it; a decoder gives `fit_mean` and `mean`.

    Beyond the training rows `mean` is not asked (see `Reach`).

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
        self.reach_ = Reach.of(points)
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
        return completed(self.mean(self.reach_(points)), points, self.frequencies_)

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the learned arrays beside standard units and reach; decoders add their own."""
        return {"frequencies": (INPUT_DIMS, (OUTPUT_DIMS - self.mean_dims) // 2)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**self.standardisation_.arrays(), **self.reach_.arrays(), **super().arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        self.standardisation_ = Standardisation.restore(arrays)
        self.reach_ = Reach.restore(arrays)
        return super().restore(arrays)
