"""A multilayer perceptron: fitted by PyTorch on a given loss, predicting in NumPy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.decoders.base import require_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Training:
    """How a perceptron is fitted: Adam with a one-cycle learning rate.

    Attributes
    ----------
    epochs
        Passes over the training rows.
    batch_rows
        Rows a step.
    learning_rate
        The largest of the cycle.
    seed
        Of the starting weights and of the order of rows.
    """

    epochs: int
    batch_rows: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Perceptron:
    """Linear layers with ReLU between them.

    Attributes
    ----------
    weights
        Of layer i: float32, shape (n_i, n_i+1).
    biases
        Of layer i: float32, shape (n_i+1,).
    """

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    @classmethod
    def fit(
        cls,
        inputs: NDArray[np.float32],
        targets: NDArray[np.float32],
        layers: Sequence[int],
        loss: Callable[[Tensor, Tensor], Tensor],
        training: Training,
        on_epoch: Callable[[int, float], None],
    ) -> Self:
        """Train.

        Parameters
        ----------
        inputs
            float32, shape (n, layers[0]); best centred with about unit variance.
        targets
            float32, shape (n, d).
        layers
            Widths, from the inputs' to the outputs'.
        loss
            What to minimise: a scalar from outputs (batch, layers[-1]) and targets (batch, d).
        training
            Settings of the fit.
        on_epoch
            Called after each epoch with the epochs done and the mean loss.
        """
        import torch
        from torch import nn

        generator = torch.Generator().manual_seed(training.seed)
        rows_in, rows_out = torch.from_numpy(inputs), torch.from_numpy(np.ascontiguousarray(targets))
        modules: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(layers):
            layer = nn.Linear(n_in, n_out)
            with torch.no_grad():  # PyTorch's default, from our generator instead of the global one
                bound = n_in**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
            modules += [layer, nn.ReLU()]
        network = nn.Sequential(*modules[:-1])
        batch_rows = min(training.batch_rows, len(inputs))
        steps = len(inputs) // batch_rows  # a last, smaller batch would weigh its rows more
        optimiser = torch.optim.Adam(network.parameters(), lr=training.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=training.learning_rate, total_steps=max(training.epochs * steps, 1)
        )
        for epoch in range(training.epochs):
            order = torch.randperm(len(inputs), generator=generator)
            total = 0.0
            for step in range(steps):
                rows = order[step * batch_rows : (step + 1) * batch_rows]  # (batch,)
                found = loss(network(rows_in[rows]), rows_out[rows])
                optimiser.zero_grad()
                found.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                total += found.item()
            on_epoch(epoch + 1, total / steps)
        linear = [module for module in network if isinstance(module, nn.Linear)]
        return cls(
            tuple(np.ascontiguousarray(layer.weight.detach().numpy().T) for layer in linear),
            tuple(layer.bias.detach().numpy().copy() for layer in linear),
        )

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict: float32 (n, n_0) -> float32 (n, n_last)."""
        hidden = inputs
        last = len(self.weights) - 1
        for number, (weights, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weights + bias  # (n, n_i+1)
            if number < last:
                np.maximum(hidden, 0, out=hidden)
        return hidden

    def with_inputs_scaled(self, centre: NDArray[np.float32], scale: NDArray[np.float32]) -> Perceptron:
        """One whose input is x where this one's is (x - centre) / scale: float32, shape (n_0,) each."""
        bias = (self.biases[0] - (centre / scale) @ self.weights[0]).astype(np.float32, copy=False)
        return Perceptron((self.weights[0] / scale[:, None], *self.weights[1:]), (bias, *self.biases[1:]))

    def with_outputs_scaled(self, centre: NDArray[np.float32], scale: float) -> Perceptron:
        """One whose output is centre + scale * y where this one's is y; centre: float32, shape (n_last,)."""
        factor = np.float32(scale)
        return Perceptron(
            (*self.weights[:-1], self.weights[-1] * factor),
            (*self.biases[:-1], self.biases[-1] * factor + centre),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays: ``weights_0``, ``bias_0``, ``weights_1`` and so on."""
        named: dict[str, NDArray[Any]] = {f"weights_{i}": w for i, w in enumerate(self.weights)}
        return named | {f"bias_{i}": b for i, b in enumerate(self.biases)}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]], layers: Sequence[int]) -> Self:
        """Load learned arrays; ValueError where shapes do not fit the layers."""
        sizes = list(enumerate(itertools.pairwise(layers)))
        return cls(
            tuple(require_shape(arrays, f"weights_{i}", n_in, n_out) for i, (n_in, n_out) in sizes),
            tuple(require_shape(arrays, f"bias_{i}", n_out) for i, (_, n_out) in sizes),
        )
