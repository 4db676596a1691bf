"""Linear trend and kriging with an anisotropic, learned covariance: the rung between one scale and a network.

`kriging` takes all directions of z for alike. Here a linear map brings rows to where the covariance is the
same in all directions (geometric anisotropy: Chilès & Delfiner, 1999), and is learned from the rows
themselves: by gradient on the squared error of each row predicted from its neighbours without itself
(metric learning for kernel regression: Weinberger & Tesauro, 2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Gt, Le

from embup_core.decoders.base import Seed, require_shape
from embup_core.decoders.completed_regression import LengthScale, MeanDims
from embup_core.decoders.kriging import KrigingDecoder
from embup_core.decoders.neighbours import NearestRows
from embup_core.dims import INPUT_DIMS

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_NEAREST_SQUARED = 1e-6
"""Squared distances below it, between twins, have a root without a usable gradient."""


class MetricKrigingDecoder(KrigingDecoder):
    """Trend, kriging with a learned metric, residual.

    Parameters
    ----------
    steps
        Of the gradient; the map starts at the identity.
    step_rows
        Rows a step, each predicted from its neighbours.
    learning_rate
        The largest of a one-cycle schedule.
    neighbours
        Training rows that a prediction looks at.
    length_scale
        Of the Laplacian covariance, in standard units of z where the map starts.
    nugget
        Variance of the noise, as a share of the covariance at 0; keeps near twins from cancelling.
    alpha
        Ridge penalty of the trend, in standard units of z.
    mean_dims
        Dimensions of the regression; the other 1536 - mean_dims hold the residual. Even.
    residual_length_scale
        Distance, in standard units of z, over which two residuals stay alike.
    seed
        Of the rows a step sees and of the residual's random frequencies.
    """

    name: ClassVar[str] = "metric_kriging"
    summary: ClassVar[str] = "linear trend + local kriging with a learned metric + orthogonal residual"
    fitted_with: ClassVar[tuple[str, ...]] = ("pytorch", "scikitlearn")

    def __init__(
        self,
        *,
        steps: Annotated[int, Ge(1)] = 300,
        step_rows: Annotated[int, Ge(1)] = 256,
        learning_rate: Annotated[float, Gt(0)] = 0.02,
        neighbours: Annotated[int, Ge(1), Le(256)] = 16,
        length_scale: LengthScale = 16.0,
        nugget: Annotated[float, Gt(0)] = 0.001,
        alpha: Annotated[float, Ge(0)] = 1.0,
        mean_dims: MeanDims = 384,
        residual_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(
            neighbours=neighbours,
            length_scale=length_scale,
            nugget=nugget,
            alpha=alpha,
            mean_dims=mean_dims,
            residual_length_scale=residual_length_scale,
            seed=seed,
        )
        self.steps = steps
        self.step_rows = step_rows
        self.learning_rate = learning_rate

    def fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> Self:
        """Learn the trend, then the metric for what it leaves; see `Decoder.fit`.

        Raises
        ------
        TrainingError
            Fewer rows than neighbours.
        """
        self.metric_ = np.eye(INPUT_DIMS, dtype=np.float32)
        super().fit(projected, coordinates)
        points = self.nearest_.points
        self._learn_metric(points, self.remainder_ + self.trend_(points))
        self.nearest_ = NearestRows(self.places(points))
        return self

    def _learn_metric(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """An error along coordinate d moves cosines in proportion to E[c_d^2], which weights it."""
        import torch

        importance = np.square(targets).mean(axis=0, dtype=np.float64)
        importance /= importance @ targets.var(axis=0, dtype=np.float64)  # 1 is no better than the mean
        weighted = torch.from_numpy(self.remainder_ * np.sqrt(importance).astype(np.float32))
        places = torch.from_numpy(points)
        metric = torch.nn.Parameter(torch.from_numpy(self.metric_.copy()))
        optimiser = torch.optim.Adam([metric])
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            self.learning_rate,
            total_steps=max(self.steps, 2),
            pct_start=0.21,  # 0.2 of 5 steps would be one, and PyTorch would divide by 0
        )
        rng = np.random.default_rng(self.seed)
        for step in range(self.steps):
            rows = rng.choice(len(points), min(self.step_rows, len(points)), replace=False)
            others = self._nearest_others(points, rows)
            offsets = (places[others] - places[rows][:, None]) @ metric  # (rows, k, 32)
            weights = self._weights(offsets)
            error = (weights[:, None] @ weighted[others])[:, 0] - weighted[rows]
            loss = error.square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            self.metric_ = metric.detach().numpy().copy()
            self.note_step(step + 1, self.steps, squared_error=loss.item())

    def _nearest_others(self, points: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The nearest rows by the metric at hand, without the row itself: int64, shape (len(rows), k)."""
        k = min(self.neighbours, len(points) - 1)
        places = self.places(points)
        found, _, _ = NearestRows(places).query(places[rows], k + 1)
        others = found != rows[:, None]
        others[others.all(axis=1), -1] = False  # a row with many twins may not be among its nearest
        nearest: NDArray[np.int64] = found[others].reshape(len(rows), k)
        return nearest

    def _weights(self, offsets: torch.Tensor) -> torch.Tensor:
        """`kriging_weights` with a gradient: shape (n, k)."""
        import torch

        squared = offsets.square().sum(dim=2)
        between = squared[:, :, None] + squared[:, None, :] - 2 * offsets @ offsets.transpose(1, 2)
        itself = torch.eye(offsets.shape[1])
        distance = between.clamp(min=_NEAREST_SQUARED).sqrt() * (1 - itself)
        covariance = torch.exp(distance / -self.length_scale) + self.nugget * itself
        to_row = torch.exp(squared.clamp(min=_NEAREST_SQUARED).sqrt() / -self.length_scale)
        weights: torch.Tensor = torch.linalg.solve(covariance, to_row)
        return weights

    def places(self, standardised: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where rows lie for the covariance, which is the same in all directions: float32, shape (n, 32)."""
        return standardised @ self.metric_

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), "metric": self.metric_}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        self.metric_ = require_shape(arrays, "metric", INPUT_DIMS, INPUT_DIMS)
        return super().restore(arrays)
