"""The simplest decoder: ridge regression from z to the coordinates, then made unit length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
from annotated_types import Ge

from embup_core.decoders.base import Decoder, padded, unit_rows
from embup_core.decoders.trend import fit_ridge
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape


class LinearDecoder(Decoder):
    """Ridge, then normalise.

    Shown because it is what one tries first. Its cosines are too high throughout: the regression is shorter
    than 1 and normalising stretches it (see `embup_core.decoders.residual`).

    Parameters
    ----------
    alpha
        Ridge penalty on the squared weights, in units of squared z.
    """

    name: ClassVar[str] = "linear"
    summary: ClassVar[str] = "ridge regression, made unit length"
    fitted_with: ClassVar[tuple[str, ...]] = ("scikitlearn",)

    def __init__(self, *, alpha: Annotated[float, Ge(0)] = 0.01) -> None:
        self.alpha = alpha

    def fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> Self:
        """Learn weights; see `Decoder.fit`."""
        self.weights_, self.intercept_ = fit_ridge(projected, padded(coordinates), self.alpha)
        return self

    def predict_with_confidence(
        self, projected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode; see `Decoder.predict_with_confidence`."""
        mean = projected @ self.weights_ + self.intercept_
        confidence = np.minimum(np.vecdot(mean, mean), 1)
        return unit_rows(mean), confidence

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the learned arrays."""
        return {"weights": (INPUT_DIMS, OUTPUT_DIMS), "intercept": (OUTPUT_DIMS,)}
