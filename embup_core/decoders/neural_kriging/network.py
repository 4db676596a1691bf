"""A deep regression from z to coordinates, regularised so that kriging can correct its residuals.

Residual blocks (He et al., 2016) with layer normalisation (Ba et al., 2016) and dropout (Srivastava et al.,
2014), fitted by AdamW (Loshchilov & Hutter, 2019) with a one-cycle learning rate (Smith & Topin, 2019).
Kriging assumes that residuals at training rows look like residuals at new rows, so the network must not
overfit. Two things prevent it: dropout and difference augmentation. z is, but for its length, an affine image
of the original. So an original shifted by t (x_j - x_k) has its z shifted by about t (z_j - z_k). Each row of
a batch is shifted so by the difference of two other rows: a new, nearly true example, without limit in
number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.decoders.base import require_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_NORM_EPSILON = 1e-5
_WEIGHT_DECAY = 0.3


@dataclass(frozen=True)
class NetworkTraining:
    """Settings of a residual network's fit.

    Attributes
    ----------
    width, blocks
        Of the network.
    epochs
        Passes over the training rows.
    batch_rows
        Rows a step.
    learning_rate
        The maximum of the cycle.
    dropout
        Share of numbers dropped in each block.
    augmentation_scale
        Standard deviation of t.
    seed
        Of the starting weights, the order of rows, dropout and augmentation.
    """

    width: int
    blocks: int
    epochs: int
    batch_rows: int
    learning_rate: float
    dropout: float
    augmentation_scale: float
    seed: int


@dataclass(frozen=True)
class ResidualNetwork:
    """The fitted network, evaluated in NumPy.

    Attributes
    ----------
    first, first_bias
        Input layer: float32, shapes (inputs, width) and (width,).
    blocks, block_biases
        h + relu(normalised(h) @ block + bias): float32, shapes (blocks, width, width) and (blocks, width).
    last, last_bias
        Output layer: float32, shapes (width, d) and (d,).
    skip
        Linear map from input to output: float32, shape (inputs, d).
    """

    first: NDArray[np.float32]
    first_bias: NDArray[np.float32]
    blocks: NDArray[np.float32]
    block_biases: NDArray[np.float32]
    last: NDArray[np.float32]
    last_bias: NDArray[np.float32]
    skip: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        points: NDArray[np.float32],
        targets: NDArray[np.float32],
        training: NetworkTraining,
        on_epoch: Callable[[int, float], None],
    ) -> Self:
        """Train.

        Parameters
        ----------
        points
            z in standard units: float32, shape (n, inputs).
        targets
            Leading principal coordinates, not centred: float32, shape (n, d).
        training
            Settings of the fit.
        on_epoch
            Called after each epoch with the epochs done and the mean loss; 1 is no better than the mean.

        Notes
        -----
        An error along coordinate d changes cosines in proportion to E[c_d^2]: the first coordinate, along the
        mean original, would outweigh all others. Errors, in units of var(c_d), are weighted by
        sqrt(E[c_d^2] var(c_d)): half way between the weights of cosines and equal weights, from which the
        shared layers learn most.
        """
        import torch
        from torch import nn
        from torch.nn import functional

        n, inputs = points.shape
        centre = targets.mean(axis=0, dtype=np.float64).astype(np.float32)
        scale = np.maximum(targets.std(axis=0, dtype=np.float64), 1e-6).astype(np.float32)
        importance = scale * np.sqrt(np.square(targets).mean(axis=0, dtype=np.float64))
        importance = torch.from_numpy((importance / importance.sum()).astype(np.float32))  # (d,)
        x, y = torch.from_numpy(points), torch.from_numpy((targets - centre) / scale)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            first = nn.Linear(inputs, training.width)
            blocks = [nn.Linear(training.width, training.width) for _ in range(training.blocks)]
            last = nn.Linear(training.width, targets.shape[1])
            skip = nn.Linear(inputs, targets.shape[1], bias=False)
            parts = nn.ModuleList([first, *blocks, last, skip])

            def forward(rows: torch.Tensor) -> torch.Tensor:
                hidden = torch.relu(first(rows))  # (b, width)
                for block in blocks:
                    normalised = functional.layer_norm(hidden, (training.width,), eps=_NORM_EPSILON)
                    hidden = hidden + functional.dropout(torch.relu(block(normalised)), training.dropout)
                output: torch.Tensor = last(functional.dropout(hidden, training.dropout)) + skip(rows)
                return output  # (b, d)

            batch_rows = min(training.batch_rows, n)
            steps = n // batch_rows  # a last, smaller batch would weigh its rows more
            optimiser = torch.optim.AdamW(
                parts.parameters(), lr=training.learning_rate, weight_decay=_WEIGHT_DECAY, fused=True
            )
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser,
                max_lr=training.learning_rate,
                total_steps=max(training.epochs * steps, 2),
                pct_start=0.15,
            )
            for epoch in range(training.epochs):
                order = torch.randperm(n)
                total = 0.0
                for step in range(steps):
                    rows = order[step * batch_rows : (step + 1) * batch_rows]  # (b,)
                    one, other = torch.randint(n, (2, batch_rows))  # (b,) each
                    t = torch.randn(batch_rows, 1) * training.augmentation_scale
                    shifted_x = x[rows] + t * (x[one] - x[other])  # (b, inputs)
                    shifted_y = y[rows] + t * (y[one] - y[other])  # (b, d)
                    loss = ((forward(shifted_x) - shifted_y).square() * importance).sum(dim=1).mean()
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                    schedule.step()
                    total += loss.item()
                on_epoch(epoch + 1, total / steps)

        def learned(parameter: torch.Tensor) -> NDArray[np.float32]:
            return np.ascontiguousarray(parameter.detach().numpy().T)  # torch has (outputs, inputs)

        # The targets' scale and centre go into the output layer: predicting needs neither.
        return cls(
            first=learned(first.weight),
            first_bias=learned(first.bias),
            blocks=np.stack([learned(block.weight) for block in blocks]),
            block_biases=np.stack([learned(block.bias) for block in blocks]),
            last=learned(last.weight) * scale,
            last_bias=learned(last.bias) * scale + centre,
            skip=learned(skip.weight) * scale,
        )

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict: float32 (n, inputs) -> float32 (n, d)."""
        hidden: NDArray[np.float32] = points @ self.first  # (n, width)
        hidden += self.first_bias
        np.maximum(hidden, 0, out=hidden)
        width = np.float32(hidden.shape[1])
        for block, bias in zip(self.blocks, self.block_biases, strict=True):
            normalised = hidden - (hidden.sum(axis=1) / width)[:, None]  # layer normalisation
            variance = np.vecdot(normalised, normalised) / width  # (n,)
            normalised *= (1 / np.sqrt(variance + np.float32(_NORM_EPSILON)))[:, None]
            added = normalised @ block
            added += bias
            hidden += np.maximum(added, 0, out=added)
        predicted: NDArray[np.float32] = hidden @ self.last  # (n, d)
        predicted += points @ self.skip
        predicted += self.last_bias
        return predicted

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays: ``network_`` and the attribute's name."""
        return {f"network_{name}": getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def restore(
        cls, arrays: dict[str, NDArray[Any]], *, inputs: int, width: int, blocks: int, outputs: int
    ) -> Self:
        """Load learned arrays; ValueError where shapes do not fit."""
        shapes = {
            "first": (inputs, width),
            "first_bias": (width,),
            "blocks": (blocks, width, width),
            "block_biases": (blocks, width),
            "last": (width, outputs),
            "last_bias": (outputs,),
            "skip": (inputs, outputs),
        }
        return cls(
            **{name: require_shape(arrays, f"network_{name}", *shape) for name, shape in shapes.items()}
        )
