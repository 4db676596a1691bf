"""A multilayer perceptron trained on the coordinates themselves, completed to unit length by the complement.

With squared error a perceptron learns the regression E[c | z], which is what the complement fills up; `mlp`
learns unit rows by their cosines instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from annotated_types import Ge, Gt

from embup_core.decoders.base import Seed
from embup_core.decoders.parts.complemented_decoder import LengthScale, MeanDims
from embup_core.decoders.parts.complemented_regression import ComplementedRegression
from embup_core.decoders.parts.perceptron import Perceptron, Training
from embup_core.decoders.parts.standard_units import Standardisation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

HIDDEN = (1024, 512)


class MlpCoordinates(ComplementedRegression):
    """Layers of 1024 and 512 with ReLU, plus complement.

    Parameters
    ----------
    epochs
        Passes over the training rows.
    batch_rows
        Rows a step.
    learning_rate
        The largest of a one-cycle schedule.
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even.
    complement_length_scale
        Distance, in standard units of z, over which two complements stay alike.
    seed
        Of the starting weights, of the order of rows, and of the complement's random frequencies.
    """

    name: ClassVar[str] = "mlp_coordinates"
    summary: ClassVar[str] = "multilayer perceptron on the coordinates + orthogonal complement"
    fitted_with: ClassVar[tuple[str, ...]] = ("pytorch",)

    def __init__(
        self,
        *,
        epochs: Annotated[int, Ge(1)] = 20,
        batch_rows: Annotated[int, Ge(1)] = 256,
        learning_rate: Annotated[float, Gt(0)] = 4e-3,
        mean_dims: MeanDims = 384,
        complement_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(mean_dims=mean_dims, complement_length_scale=complement_length_scale, seed=seed)
        self.epochs = epochs
        self.batch_rows = batch_rows
        self.learning_rate = learning_rate

    def fit_mean(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Train."""
        units = Standardisation.fit(targets)
        network = Perceptron.fit(
            points,
            units(targets),
            self._layers,
            _squared_error,
            Training(self.epochs, self.batch_rows, self.learning_rate, self.seed),
            lambda done, loss: self.report_progress(done, self.epochs, squared_error=loss),
        )
        self.network_ = network.with_outputs_scaled(units.centre, units.scale)

    def mean(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Evaluate the perceptron."""
        return self.network_(points)

    @property
    def _layers(self) -> tuple[int, ...]:
        return (self.input_dims_, *HIDDEN, self.mean_dims_)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), **self.network_.arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        self.network_ = Perceptron.restore(arrays, self._layers)
        return self


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows and coordinates; 1 is no better than predicting the mean."""
    return (outputs - targets).square().mean()
