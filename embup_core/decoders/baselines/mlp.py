"""A multilayer perceptron trained on the pairwise cosine loss: the usual approach to this problem.

Fitting needs PyTorch; what it learned are matrices, and predicting is NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Gt

from embup_core.decoders.base import Decoder, Seed, unit_rows
from embup_core.decoders.parts.perceptron import Perceptron, Training

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

HIDDEN = (256, 512, 1024)


class Mlp(Decoder):
    """Layers of 256, 512 and 1024 with ReLU, made unit length.

    The loss is the mean squared difference between the cosines of a batch's decoded rows and the true ones,
    off the diagonal. Adam with a one-cycle learning rate.

    Parameters
    ----------
    epochs
        Passes over the training rows.
    batch_rows
        Rows a step; a step sees batch_rows * (batch_rows - 1) pairs.
    learning_rate
        The largest of the cycle.
    seed
        Of the starting weights and of the order of rows.
    """

    name: ClassVar[str] = "mlp"
    summary: ClassVar[str] = "multilayer perceptron on the pairwise cosine loss"
    fitted_with: ClassVar[tuple[str, ...]] = ("pytorch",)

    def __init__(
        self,
        *,
        epochs: Annotated[int, Ge(1)] = 40,
        batch_rows: Annotated[int, Ge(2)] = 256,
        learning_rate: Annotated[float, Gt(0)] = 1e-3,
        seed: Seed = 0,
    ) -> None:
        self.epochs = epochs
        self.batch_rows = batch_rows
        self.learning_rate = learning_rate
        self.seed = seed

    def _fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> None:
        """Train."""
        centre = projected.mean(axis=0)
        scale = projected.std(axis=0) + np.float32(1e-12)
        network = Perceptron.fit(
            (projected - centre) / scale,
            coordinates,
            self._layers,
            _squared_error_of_cosines,
            Training(self.epochs, self.batch_rows, self.learning_rate, self.seed),
            lambda done, loss: self.report_progress(done, self.epochs, squared_error_of_cosines=loss),
        )
        self.network_ = network.with_inputs_scaled(centre, scale)

    def _predict(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Evaluate the network. It does not estimate its error: the confidence is NaN."""
        return unit_rows(self.network_(projected)), np.full(len(projected), np.nan, np.float32)

    @property
    def _layers(self) -> tuple[int, ...]:
        return (self.input_dims_, *HIDDEN, self.output_dims_)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), **self.network_.arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        self.network_ = Perceptron.restore(arrays, self._layers)
        return self


def _squared_error_of_cosines(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over all pairs of different rows of a batch."""
    import torch
    from torch import nn

    decoded = nn.functional.normalize(outputs)  # (batch, output_dims)
    difference = decoded @ decoded.T - targets @ targets.T  # (batch, batch)
    diagonal = torch.eye(len(outputs), dtype=torch.bool)
    return difference.masked_fill(diagonal, 0).square().sum() / (len(outputs) * (len(outputs) - 1))
