"""A multilayer perceptron trained on the pairwise cosine loss: what others publish for this problem.

Fitting needs PyTorch; what it learned are matrices, and predicting is NumPy.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from embup_core.decoders.base import Decoder, require_shape, unit_rows
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LAYERS = (INPUT_DIMS, 256, 512, 1024, OUTPUT_DIMS)


class MlpDecoder(Decoder):
    """32-256-512-1024-1536 with ReLU, made unit length.

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
    on_epoch
        Called with the epochs done, for progress bars; not a setting.
    """

    name: ClassVar[str] = "mlp"
    summary: ClassVar[str] = "multilayer perceptron on the pairwise cosine loss"

    def __init__(
        self,
        *,
        epochs: int = 40,
        batch_rows: int = 256,
        learning_rate: float = 1e-3,
        seed: int = 0,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        self.epochs = epochs
        self.batch_rows = batch_rows
        self.learning_rate = learning_rate
        self.seed = seed
        self.on_epoch = on_epoch

    def fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> Self:
        """Train; see `Decoder.fit`."""
        import torch
        from torch import nn

        generator = torch.Generator().manual_seed(self.seed)
        centre = projected.mean(axis=0)
        scale = projected.std(axis=0) + np.float32(1e-12)
        inputs = torch.from_numpy((projected - centre) / scale)
        targets = torch.from_numpy(np.ascontiguousarray(coordinates))
        modules: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(LAYERS):
            layer = nn.Linear(n_in, n_out)
            with torch.no_grad():  # the layer's own start, drawn from our generator instead of the global one
                bound = n_in**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
            modules += [layer, nn.ReLU()]
        network = nn.Sequential(*modules[:-1])
        batch_rows = min(self.batch_rows, len(inputs))
        steps = len(inputs) // batch_rows  # a last, smaller batch would weigh its pairs more
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=self.learning_rate, total_steps=max(self.epochs * steps, 1)
        )
        diagonal = torch.eye(batch_rows, dtype=torch.bool)
        pairs = batch_rows * (batch_rows - 1)
        self.losses_: list[float] = []
        for epoch in range(self.epochs):
            order = torch.randperm(len(inputs), generator=generator)
            total = 0.0
            for step in range(steps):
                rows = order[step * batch_rows : (step + 1) * batch_rows]
                decoded = nn.functional.normalize(network(inputs[rows]))
                difference = decoded @ decoded.T - targets[rows] @ targets[rows].T
                loss = difference.masked_fill(diagonal, 0).square().sum() / pairs
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                total += loss.item()
            self.losses_.append(total / steps)
            if self.on_epoch is not None:
                self.on_epoch(epoch + 1)
        linear = [module for module in network if isinstance(module, nn.Linear)]
        self.weights_ = [np.ascontiguousarray(layer.weight.detach().numpy().T) for layer in linear]
        self.biases_ = [layer.bias.detach().numpy().copy() for layer in linear]
        # The first layer takes over the scaling of the inputs.
        self.biases_[0] = self.biases_[0] - (centre / scale) @ self.weights_[0]
        self.weights_[0] = self.weights_[0] / scale[:, None]
        return self

    def predict_with_confidence(
        self, projected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode; a perceptron has no confidence, so that is NaN. See `Decoder.predict_with_confidence`."""
        hidden = projected
        last = len(self.weights_) - 1
        for number, (weights, bias) in enumerate(zip(self.weights_, self.biases_, strict=True)):
            hidden = hidden @ weights + bias
            if number < last:
                np.maximum(hidden, 0, out=hidden)
        return unit_rows(hidden), np.full(len(projected), np.nan, np.float32)

    def settings(self) -> dict[str, Any]:
        """Hyper-parameters."""
        return {
            "epochs": self.epochs,
            "batch_rows": self.batch_rows,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
        }

    @classmethod
    def array_names(cls, settings: dict[str, Any]) -> frozenset[str]:  # noqa: ARG003  the same for all settings
        """Names of the learned arrays."""
        layers = range(len(LAYERS) - 1)
        return frozenset(f"{kind}_{layer}" for kind in ("weights", "bias") for layer in layers)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        named: dict[str, NDArray[Any]] = {f"weights_{i}": w for i, w in enumerate(self.weights_)}
        return named | {f"bias_{i}": b for i, b in enumerate(self.biases_)}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        sizes = list(enumerate(itertools.pairwise(LAYERS)))
        self.weights_ = [require_shape(arrays, f"weights_{i}", n_in, n_out) for i, (n_in, n_out) in sizes]
        self.biases_ = [require_shape(arrays, f"bias_{i}", n_out) for i, (_, n_out) in sizes]
        return self
