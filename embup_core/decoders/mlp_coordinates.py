"""A multilayer perceptron trained on the coordinates themselves, completed by the residual.

With squared error a perceptron learns the regression E[c | z], which is what the residual completes; `mlp`
learns unit rows by their cosines instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from annotated_types import Ge, Gt

from embup_core.decoders.base import Seed
from embup_core.decoders.completed_regression import CompletedRegression, LengthScale, MeanDims
from embup_core.decoders.perceptron import Perceptron, Training
from embup_core.decoders.standard_units import Standardisation
from embup_core.dims import INPUT_DIMS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

HIDDEN = (1024, 512)


class MlpCoordinatesDecoder(CompletedRegression):
    """32-1024-512-mean_dims with ReLU plus residual.

    Parameters
    ----------
    epochs
        Passes over the training rows.
    batch_rows
        Rows a step.
    learning_rate
        The largest of a one-cycle schedule.
    mean_dims
        Dimensions of the regression; the other 1536 - mean_dims hold the residual. Even.
    residual_length_scale
        Distance, in standard units of z, over which two residuals stay alike.
    seed
        Of the starting weights, of the order of rows, and of the residual's random frequencies.
    """

    name: ClassVar[str] = "mlp_coordinates"
    summary: ClassVar[str] = "multilayer perceptron on the coordinates + orthogonal residual"
    fitted_with: ClassVar[tuple[str, ...]] = ("pytorch",)

    def __init__(
        self,
        *,
        epochs: Annotated[int, Ge(1)] = 20,
        batch_rows: Annotated[int, Ge(1)] = 256,
        learning_rate: Annotated[float, Gt(0)] = 4e-3,
        mean_dims: MeanDims = 384,
        residual_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(mean_dims=mean_dims, residual_length_scale=residual_length_scale, seed=seed)
        self.epochs = epochs
        self.batch_rows = batch_rows
        self.learning_rate = learning_rate

    def fit_mean(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Train."""
        units = Standardisation.of(targets)
        network = Perceptron.fit(
            points,
            units(targets),
            self._layers,
            _squared_error,
            Training(self.epochs, self.batch_rows, self.learning_rate, self.seed),
            lambda done, loss: self.note_step(done, self.epochs, squared_error=loss),
        )
        self.network_ = network.with_outputs_scaled(units.centre, units.scale)

    def mean(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """The perceptron's answer."""
        return self.network_(points)

    @property
    def _layers(self) -> tuple[int, ...]:
        return (INPUT_DIMS, *HIDDEN, self.mean_dims)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), **self.network_.arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        self.network_ = Perceptron.restore(arrays, self._layers)
        return super().restore(arrays)


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows and coordinates; 1 is no better than always answering the mean."""
    return (outputs - targets).square().mean()
