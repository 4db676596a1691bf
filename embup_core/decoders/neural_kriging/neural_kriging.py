"""A deep trend, local kriging of its residuals, and a complement by out-of-distribution score.

Neural network residual kriging (Kanevski et al., 1996); see `embup_core.decoders.parts.kriged_trend`. The
broad regression, towards which out-of-distribution rows move, has a line in place of the network.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from annotated_types import Ge, Gt, Le, Lt

from embup_core.decoders.base import ROWS_AND_ORIGINALS, Seed
from embup_core.decoders.neural_kriging.network import NetworkTraining, ResidualNetwork
from embup_core.decoders.parts.complemented_decoder import MeanDims
from embup_core.decoders.parts.kriged_trend import CALIBRATION_FOLDS, KrigedTrend
from embup_core.decoders.parts.neighbours import Search  # noqa: TC001  settings' types are read
from embup_core.decoders.parts.quantized_residuals import Storage  # noqa: TC001  as above
from embup_core.decoders.parts.trend import Trend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class NeuralKriging(KrigedTrend):
    """Deep trend, local kriging, complement by out-of-distribution score.

    Parameters
    ----------
    epochs
        Passes over the training rows; half as many in each of two calibration folds, which leave rows out to
        simulate unseen ones.
    width
        Of the network.
    blocks
        Of the network.
    batch_rows
        Rows a step.
    learning_rate
        The maximum of a one-cycle schedule.
    dropout
        Share of numbers dropped in each block.
    augmentation_scale
        How far training rows are shifted along differences of other rows, as a share of the difference
        (standard deviation).
    neighbours
        Training rows that a prediction uses.
    length_scale
        Of the Laplacian covariance, in standard units of z.
    nugget
        Variance of the noise, as a share of the covariance at 0; keeps near duplicates from cancelling.
    feature_dims
        Leading dimensions of the network's output that count in the covariance's distances, beside z itself
        and as much as z on average.
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even.
    storage
        Of the kriging residuals at the training rows: float32, float16 or int8.
    search
        Of the neighbours: exact, or fast, which misses about one neighbour in a hundred.
    seed
        Of everything drawn at random.
    """

    name: ClassVar[str] = "neural_kriging"
    summary: ClassVar[str] = "deep trend + local kriging + complement by out-of-distribution score"
    fitted_with: ClassVar[tuple[str, ...]] = ("pytorch", "scikitlearn")
    stores: ClassVar[str] = ROWS_AND_ORIGINALS

    def __init__(
        self,
        *,
        epochs: Annotated[int, Ge(2)] = 40,
        width: Annotated[int, Ge(8)] = 512,
        blocks: Annotated[int, Ge(1)] = 3,
        batch_rows: Annotated[int, Ge(2)] = 512,
        learning_rate: Annotated[float, Gt(0)] = 4e-3,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
        augmentation_scale: Annotated[float, Ge(0)] = 0.2,
        neighbours: Annotated[int, Ge(1), Le(256)] = 20,
        length_scale: Annotated[float, Gt(0)] = 16.0,
        nugget: Annotated[float, Gt(0)] = 0.001,
        feature_dims: Annotated[int, Ge(1)] = 32,
        mean_dims: MeanDims = 384,
        storage: Storage = "int8",
        search: Search = "fast",
        seed: Seed = 0,
    ) -> None:
        self.epochs = epochs
        self.width = width
        self.blocks = blocks
        self.batch_rows = batch_rows
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.augmentation_scale = augmentation_scale
        self.neighbours = neighbours
        self.length_scale = length_scale
        self.nugget = nugget
        self.feature_dims = feature_dims
        self.mean_dims = mean_dims
        self.storage = storage
        self.search = search
        self.seed = seed

    def _fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> None:
        """Fit, and count epochs and calibrations over all fits; see `KrigedTrend._fit`."""
        self._done = itertools.count(1)
        self._calibrations = itertools.count(1)
        super()._fit(projected, coordinates)

    def _fit_trend(self, points: NDArray[np.float32], targets: NDArray[np.float32], *, in_fold: bool) -> None:
        """Train the network; see `KrigedTrend._fit_trend`."""
        fold_epochs = max(self.epochs // 2, 1)
        total = CALIBRATION_FOLDS * fold_epochs + self.epochs
        training = NetworkTraining(
            width=self.width,
            blocks=self.blocks,
            epochs=fold_epochs if in_fold else self.epochs,
            batch_rows=self.batch_rows,
            learning_rate=self.learning_rate,
            dropout=self.dropout,
            augmentation_scale=self.augmentation_scale,
            seed=self.seed,
        )
        fit = f"calibration {next(self._calibrations)}" if in_fold else "all rows"
        self.linear_trend_ = Trend.fit(points, targets, alpha=1.0)
        self.network_ = ResidualNetwork.fit(
            points,
            targets,
            training,
            lambda _, loss: self.report_progress(next(self._done), total, fit=fit, squared_error=loss),
        )

    def _trend(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.network_(points)

    def _to_broad(
        self,
        points: NDArray[np.float32],
        trend: NDArray[np.float32],
        mean: NDArray[np.float32],  # noqa: ARG002  the line replaces the network only
    ) -> NDArray[np.float32]:
        return self.linear_trend_(points) - trend

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), **self.network_.arrays(), **self.linear_trend_.arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        d = self.mean_dims_
        self.network_ = ResidualNetwork.restore(
            arrays, inputs=self.input_dims_, width=self.width, blocks=self.blocks, outputs=d
        )
        self.linear_trend_ = Trend.restore(arrays, self.input_dims_, d)
        return self
