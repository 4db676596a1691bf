"""Linear trend and kriging with an anisotropic, learned covariance: between one scale and a network.

`kriging` treats all directions of z alike. Here a linear map brings points to where the covariance is
isotropic (geometric anisotropy: Chilès & Delfiner, 1999). It is learned from the training rows: by gradient
on the squared error of each row predicted from its neighbours without itself (metric learning for kernel
regression: Weinberger & Tesauro, 2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Gt, Le

from embup_core.decoders.base import Seed, require_shape
from embup_core.decoders.kriging.kriging import Kriging
from embup_core.decoders.parts.complemented_decoder import LengthScale, MeanDims
from embup_core.decoders.parts.neighbours import NearestRows

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_LEAST_SQUARED = 1e-6
"""The root of a smaller squared distance, as between duplicates, has no usable gradient."""


class MetricKriging(Kriging):
    """Trend, kriging with a learned metric, complement.

    Parameters
    ----------
    steps
        Of the gradient; the map starts at the identity.
    step_rows
        Rows a step, each predicted from its neighbours.
    learning_rate
        The maximum of a one-cycle schedule.
    neighbours
        Training rows that a prediction uses.
    length_scale
        Of the Laplacian covariance, in standard units of z where the map starts.
    nugget
        Variance of the noise, as a share of the covariance at 0; keeps near duplicates from cancelling.
    alpha
        Ridge penalty of the trend, in standard units of z.
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even.
    complement_length_scale
        Distance, in standard units of z, over which two complements stay alike.
    seed
        Of the rows of each step and of the complement's random frequencies.
    """

    name: ClassVar[str] = "metric_kriging"
    summary: ClassVar[str] = "linear trend + local kriging with a learned metric + orthogonal complement"
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
        complement_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(
            neighbours=neighbours,
            length_scale=length_scale,
            nugget=nugget,
            alpha=alpha,
            mean_dims=mean_dims,
            complement_length_scale=complement_length_scale,
            seed=seed,
        )
        self.steps = steps
        self.step_rows = step_rows
        self.learning_rate = learning_rate

    @property
    def training_rows(self) -> None:
        """None: they are held in the metric."""
        return

    def _fit_metric(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Learn the map for the trend's residuals.

        An error along coordinate d changes cosines in proportion to E[c_d^2], so it is weighted by that.
        """
        import torch

        self.metric_ = np.eye(points.shape[1], dtype=np.float32)
        importance = np.square(targets).mean(axis=0, dtype=np.float64)  # (mean_dims,)
        importance /= importance @ targets.var(axis=0, dtype=np.float64)  # a loss of 1 is that of the mean
        weighted = torch.from_numpy(self.residuals_ * np.sqrt(importance).astype(np.float32))
        places = torch.from_numpy(points)
        metric = torch.nn.Parameter(torch.from_numpy(self.metric_.copy()))  # (input_dims, input_dims)
        optimiser = torch.optim.Adam([metric])
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            self.learning_rate,
            total_steps=max(self.steps, 2),
            pct_start=0.21,  # 0.2 of 5 steps is one, and PyTorch divides by 0
        )
        rng = np.random.default_rng(self.seed)
        for step in range(self.steps):
            rows = rng.choice(len(points), min(self.step_rows, len(points)), replace=False)  # (b,)
            others = self._nearest_others(points, rows)  # (b, k)
            offsets = (places[others] - places[rows][:, None]) @ metric  # (b, k, input_dims)
            weights = self._weights(offsets)  # (b, k)
            error = (weights[:, None] @ weighted[others])[:, 0] - weighted[rows]  # (b, mean_dims)
            loss = error.square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            self.metric_ = metric.detach().numpy().copy()
            self.report_progress(step + 1, self.steps, squared_error=loss.item())

    def _nearest_others(self, points: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The nearest rows by the current metric, without the row itself: int64, shape (len(rows), k)."""
        k = min(self.neighbours, len(points) - 1)
        places = self._in_metric(points)
        found, _, _ = NearestRows(places).query(places[rows], k + 1)  # (b, k + 1)
        others = found != rows[:, None]
        others[others.all(axis=1), -1] = False  # a row with many duplicates may not be among its nearest
        nearest: NDArray[np.int64] = found[others].reshape(len(rows), k)  # each row drops exactly one
        return nearest

    def _weights(self, offsets: torch.Tensor) -> torch.Tensor:
        """`kriging_weights` with a gradient: offsets (n, k, d) -> (n, k)."""
        import torch

        squared = offsets.square().sum(dim=2)  # (n, k)
        between = squared[:, :, None] + squared[:, None, :] - 2 * offsets @ offsets.transpose(1, 2)
        itself = torch.eye(offsets.shape[1])
        distance = between.clamp(min=_LEAST_SQUARED).sqrt() * (1 - itself)  # (n, k, k)
        covariance = torch.exp(distance / -self.length_scale) + self.nugget * itself
        to_row = torch.exp(squared.clamp(min=_LEAST_SQUARED).sqrt() / -self.length_scale)
        weights: torch.Tensor = torch.linalg.solve(covariance, to_row)
        return weights

    def _in_metric(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points where the covariance is isotropic: float32, shape (n, input_dims)."""
        return points @ self.metric_

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), "metric": self.metric_}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        self.metric_ = require_shape(arrays, "metric", self.input_dims_, self.input_dims_)
        return self
