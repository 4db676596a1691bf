"""The simplest decoder: ridge regression from z to the coordinates, then made unit length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from embup_core.decoders.base import Decoder, padded, unit_rows
from embup_core.decoders.parts.trend import fit_ridge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape


class Linear(Decoder):
    """Ridge, then normalise.

    The obvious first try, kept for comparison. Its cosines are too high throughout: the regression is shorter
    than 1 and normalising stretches it (see `embup_core.decoders.parts.complement`).

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

    def _fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> None:
        """Learn weights."""
        targets = padded(coordinates, self.output_dims_)
        self.weights_, self.intercept_ = fit_ridge(projected, targets, self.alpha)

    def _predict(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Regress, then normalise."""
        mean = projected @ self.weights_ + self.intercept_  # (n, output_dims)
        confidence = np.minimum(np.vecdot(mean, mean), 1)
        return unit_rows(mean), confidence

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the learned arrays."""
        return {"weights": (self.input_dims_, self.output_dims_), "intercept": (self.output_dims_,)}
