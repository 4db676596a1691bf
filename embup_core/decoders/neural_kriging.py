"""A deep trend, local kriging of what it leaves, and a residual that reaches farther for unknown rows.

Neural network residual kriging (Kanevski et al., 1996): a network learns the large shape, kriging adds what
its nearest training rows say it missed. Rows are near one another in z and in what the network makes of z (a
covariance over learned features: Wilson et al., 2016). Where rows are unlike the training rows, the trend
goes over to a line and the residual's reach grows (see `embup_core.decoders.novelty`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from embup_core.blocks import row_blocks
from embup_core.decoders.base import ROWS_AND_ORIGINALS, Seed, padded, require_shape
from embup_core.decoders.completed_regression import MeanDims
from embup_core.decoders.local_kriging import kriging_weights
from embup_core.decoders.neighbours import NearestRows, Search
from embup_core.decoders.novelty import Novelty, UnseenRows
from embup_core.decoders.regression_by_novelty import RegressionByNovelty
from embup_core.decoders.remainder_table import RemainderTable, Storage
from embup_core.decoders.residual import completed, residual_frequencies
from embup_core.decoders.residual_network import NetworkTraining, ResidualNetwork
from embup_core.decoders.standard_units import Standardisation, principal_axes
from embup_core.decoders.trend import Trend
from embup_core.decoders.uncertainty import DecodedRows, Uncertainty
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS
from embup_core.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_ROWS_A_CLUSTER = 120
_CLUSTER_DIMS = 64
_LEFT_OUT = 0.15
_REHEARSALS = 2
_FEWEST_CLUSTERS = 4 * _REHEARSALS
_KNOWN_PAIRS = 4  # rows like the training rows are what a service mostly meets


class NeuralKrigingDecoder(RegressionByNovelty):
    """Deep trend, local kriging, residual by novelty.

    Parameters
    ----------
    epochs
        Passes over the training rows; half as many in each of two rehearsals, which leave rows out to
        learn what unseen rows are like.
    width
        Of the network.
    blocks
        Of the network.
    batch_rows
        Rows a step.
    learning_rate
        The largest of a one-cycle schedule.
    dropout
        Share of numbers dropped in each block.
    moves
        How far rows are moved by differences of other rows, as a share of the difference.
    neighbours
        Training rows that a prediction looks at.
    length_scale
        Of the Laplacian covariance, in standard units of z.
    nugget
        Variance of the noise, as a share of the covariance at 0; keeps near twins from cancelling.
    feature_dims
        Leading numbers of the network's answer that count in the covariance's distances, beside z itself and
        as much as z on the average number.
    mean_dims
        Dimensions of the regression; the other 1536 - mean_dims hold the residual. Even.
    storage
        Of what the trend leaves at each training row: float32, float16 or int8.
    search
        Of the neighbours: exact, or fast, which misses about one neighbour in a hundred.
    seed
        Of everything drawn at random.
    """

    name: ClassVar[str] = "neural_kriging"
    summary: ClassVar[str] = "deep trend + local kriging + residual by novelty"
    fitted_with: ClassVar[tuple[str, ...]] = ("pytorch", "scikitlearn")
    keeps: ClassVar[str] = ROWS_AND_ORIGINALS

    def __init__(
        self,
        *,
        epochs: Annotated[int, Ge(2)] = 40,
        width: Annotated[int, Ge(8)] = 512,
        blocks: Annotated[int, Ge(1)] = 3,
        batch_rows: Annotated[int, Ge(2)] = 512,
        learning_rate: Annotated[float, Gt(0)] = 4e-3,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
        moves: Annotated[float, Ge(0)] = 0.2,
        neighbours: Annotated[int, Ge(1), Le(256)] = 20,
        length_scale: Annotated[float, Gt(0)] = 16.0,
        nugget: Annotated[float, Gt(0)] = 0.001,
        feature_dims: Annotated[int, Ge(1), Le(OUTPUT_DIMS)] = 32,
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
        self.moves = moves
        self.neighbours = neighbours
        self.length_scale = length_scale
        self.nugget = nugget
        self.feature_dims = feature_dims
        self.mean_dims = mean_dims
        self.storage = storage
        self.search = search
        self.seed = seed

    def fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> Self:
        """Learn what unseen rows are like, then the trend; see `Decoder.fit`.

        Raises
        ------
        TrainingError
            Too few rows to leave some out and still have enough neighbours, or rows that are too much alike.
        """
        self.standardisation_ = Standardisation.of(projected)
        points = self.standardisation_(projected)
        axes = principal_axes(coordinates, OUTPUT_DIMS)
        targets = padded(coordinates @ axes[:, : self.mean_dims], self.mean_dims)
        self.frequencies_ = residual_frequencies(
            OUTPUT_DIMS - self.mean_dims, INPUT_DIMS, length_scale=1.0, seed=self.seed
        )
        rehearsal_epochs = max(self.epochs // 2, 1)
        total = _REHEARSALS * rehearsal_epochs + self.epochs
        done_before = itertools.count(1)

        def epoch_done(_: int, loss: float) -> None:
            self.note_step(next(done_before), total, squared_error=loss)

        known: list[UnseenRows] = []
        new: list[UnseenRows] = []
        for left_out in self._rehearsals(targets):
            kept = ~(left_out.known | left_out.new)
            self._fit_regression(points[kept], targets[kept], rehearsal_epochs, epoch_done)
            for rows, unseen in ((left_out.known, known), (left_out.new, new)):
                unseen.append(self._unseen(points[rows], padded(coordinates[rows] @ axes)))
        self.novelty_ = Novelty.fit(known, new, residual_dims=OUTPUT_DIMS - self.mean_dims, seed=self.seed)
        self.novelty_ = self.novelty_.levelled([self._decoded(rows) for rows in known])
        self.uncertainty_ = Uncertainty.fit(
            [self._decoded(rows) for rows in [*known, *new]],
            [_KNOWN_PAIRS] * len(known) + [1] * len(new),
            seed=self.seed,
        )
        self._fit_regression(points, targets, self.epochs, epoch_done)
        return self

    def _rehearsals(self, targets: NDArray[np.float32]) -> list[_LeftOut]:
        enough = len(targets) >= _FEWEST_CLUSTERS
        rehearsals = _rehearsals(targets, self.seed) if enough else []
        for left_out in rehearsals:
            kept = ~(left_out.known | left_out.new)
            enough &= kept.sum() >= self.neighbours and min(left_out.known.sum(), left_out.new.sum()) >= 2
        if not enough:
            raise TrainingError(
                "neural_kriging leaves rows and whole clusters of them out to learn what unseen rows are "
                f"like, and then looks at {self.neighbours} neighbours: the {len(targets)} rows are too few, "
                "or too much alike.",
                remedy="Provide more rows or set fewer neighbours.",
            )
        return rehearsals

    def _fit_regression(
        self,
        points: NDArray[np.float32],
        targets: NDArray[np.float32],
        epochs: int,
        on_epoch: Callable[[int, float], None],
    ) -> None:
        training = NetworkTraining(
            width=self.width,
            blocks=self.blocks,
            epochs=epochs,
            batch_rows=self.batch_rows,
            learning_rate=self.learning_rate,
            dropout=self.dropout,
            moves=self.moves,
            seed=self.seed,
        )
        self.line_ = Trend.fit(points, targets, alpha=1.0)
        self.network_ = ResidualNetwork.fit(points, targets, training, on_epoch)
        trend = self.network_(points)
        leading = trend[:, : self.feature_dims]
        self.feature_scale_ = np.array([1 / max(float(leading.std(axis=0).mean()), 1e-6)], np.float32)
        self.features_ = leading * self.feature_scale_  # (n, feature_dims)
        self.remainder_ = RemainderTable.of(targets - trend, self.storage)
        self.nearest_ = NearestRows(points, self.search)

    def _unseen(self, points: NDArray[np.float32], coordinates: NDArray[np.float32]) -> UnseenRows:
        """What the fit at hand says about rows that it has not seen, with the memory of one block."""
        parts = []
        for block in row_blocks(len(points)):
            mean, nearest, trend, inner = self._with_network(points[block])
            parts.append((mean, self.line_(inner) - trend, nearest))
        mean, to_line, nearest = (np.concatenate(part) for part in zip(*parts, strict=True))
        return UnseenRows(points, mean, to_line, nearest, coordinates)

    def _decoded(self, rows: UnseenRows) -> DecodedRows:
        """What the novelty fitted last makes of unseen rows."""
        mean, novelty, residual_points = self._with_novelty(
            rows.points, rows.mean, rows.to_line, rows.nearest
        )
        decoded, _ = completed(mean, residual_points, self.frequencies_)
        d = self.mean_dims  # from the unit rows: a mean longer than 1 is shortened
        return DecodedRows(decoded[:, :d], decoded[:, d:], novelty, rows.coordinates)

    def regression(
        self, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Network, kriging, novelty; see `RegressionByNovelty.regression`."""
        mean, nearest, trend, inner = self._with_network(points)
        return self._with_novelty(points, mean, self.line_(inner) - trend, nearest)

    def _with_novelty(
        self,
        points: NDArray[np.float32],
        mean: NDArray[np.float32],
        to_line: NDArray[np.float32],
        nearest: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        novelty = self.novelty_(mean, nearest)
        moved = mean + (novelty * np.float32(self.novelty_.line))[:, None] * to_line
        moved *= np.float32(self.novelty_.level)
        return moved, novelty, points / self.novelty_.reach(novelty)[:, None]

    def _with_network(
        self, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Kriged mean, distance to the nearest row, the network's answer, and where it was asked."""
        inner = self.line_.reach(points)
        trend = self.network_(inner)
        index, offsets, squared = self.nearest_.query(points, self.neighbours)
        features = trend[:, : self.feature_dims] * self.feature_scale_
        of_features = self.features_[index] - features[:, None]
        weights = kriging_weights(
            np.concatenate([offsets, of_features], axis=2),
            squared + np.einsum("nkd,nkd->nk", of_features, of_features),
            length_scale=self.length_scale,
            nugget=self.nugget,
        )
        mean = self.remainder_.weighted(index, weights)  # (n, mean_dims)
        mean += trend
        return mean, np.sqrt(squared[:, 0]), trend, inner

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {
            **super().arrays(),
            **self.line_.arrays(),
            **self.remainder_.arrays(),
            "features": self.features_,
            "feature_scale": self.feature_scale_,
            "points": self.nearest_.points,
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        super().restore(arrays)
        self.line_ = Trend.restore(arrays, self.mean_dims)
        points = require_shape(arrays, "points", None, INPUT_DIMS)
        if len(points) < self.neighbours:
            raise ValueError(f"tensor points: expected at least {self.neighbours} rows, found {len(points)}")
        self.features_ = require_shape(
            arrays, "features", len(points), min(self.feature_dims, self.mean_dims)
        )
        self.feature_scale_ = require_shape(arrays, "feature_scale", 1)
        self.remainder_ = RemainderTable.restore(arrays, len(points), self.mean_dims, self.storage)
        self.nearest_ = NearestRows(points, self.search)
        return self


@dataclass(frozen=True)
class _LeftOut:
    """Rows that one rehearsal does not see: bool, shape (n,) each.

    Attributes
    ----------
    known
        Some rows of clusters that it sees.
    new
        Whole clusters.
    """

    known: NDArray[np.bool_]
    new: NDArray[np.bool_]


def _rehearsals(targets: NDArray[np.float32], seed: int) -> list[_LeftOut]:
    """What each rehearsal leaves out; no row is left out twice for the same reason."""
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    n = len(targets)
    rng = np.random.default_rng(seed)
    clusters = max(n // _ROWS_A_CLUSTER, _FEWEST_CLUSTERS)
    with threadpool_limits(1):  # several threads would add up centres in any order
        model = MiniBatchKMeans(clusters, random_state=seed, n_init=1, batch_size=1024)
        cluster = model.fit_predict(targets[:, :_CLUSTER_DIMS])
    in_cluster = np.bincount(cluster, minlength=clusters)
    part = np.full(clusters, -1)  # which rehearsal leaves the cluster out
    left = np.full(_REHEARSALS, 1.2 * _LEFT_OUT * n)
    for number in rng.permutation(clusters):
        most = int(left.argmax())
        if in_cluster[number] <= left[most]:
            part[number] = most
            left[most] -= in_cluster[number]
    turn = rng.permutation(n) % round(1 / _LEFT_OUT)
    return [
        _LeftOut(known=(turn == number) & (part[cluster] != number), new=part[cluster] == number)
        for number in range(_REHEARSALS)
    ]
