"""A trend, local kriging of its residuals, and a complement by out-of-distribution score.

Residual kriging (Kanevski et al., 1996): a trend has the large-scale shape, kriging adds what the nearest
training rows say it missed. Distances are measured in z and in the trend's leading dimensions (a covariance
over learned features: Wilson et al., 2016). For rows unlike the training rows the regression moves towards a
broader one and the complement's length scale grows (see `embup_core.decoders.parts.out_of_distribution`).

Corpus labels are unavailable, so out-of-distribution rows are simulated by leaving whole clusters out. Each
of two calibration folds leaves out some clusters and some rows of the others, and fits the trend to the rest;
on the rows left out the score, the length scales and the error model are fitted. Then all rows are fitted.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.decoders.base import padded, require_shape
from embup_core.decoders.parts.calibrated_regression import CalibratedRegression
from embup_core.decoders.parts.complement import complete_to_unit
from embup_core.decoders.parts.error_model import DecodedRows, ErrorModel
from embup_core.decoders.parts.local_kriging import kriging_weights
from embup_core.decoders.parts.neighbours import NearestRows, Search
from embup_core.decoders.parts.out_of_distribution import HeldOutRows, OutOfDistribution
from embup_core.decoders.parts.quantized_residuals import QuantizedResiduals, Storage
from embup_core.decoders.parts.standard_units import RadialClamp
from embup_core.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_A_CLUSTER = 400
_CLUSTER_DIMS = 64
_HELD_OUT_SHARE = 0.15
CALIBRATION_FOLDS = 2
_FEWEST_CLUSTERS = 4 * CALIBRATION_FOLDS
_IN_DISTRIBUTION_WEIGHT = 4  # of the error model's pairs: a service mostly meets in-distribution rows
LEAST_SHARE = np.float32(0.05)
"""A smaller share of the broad regression is not worth its time."""


class KrigedTrend(CalibratedRegression):
    """Base class: a decoder implements `_fit_trend`, `_trend` and `_to_broad`.

    Attributes
    ----------
    neighbours, length_scale, nugget, feature_dims, storage, search
        Settings; see `NeuralKriging`.
    """

    neighbours: int
    length_scale: float
    nugget: float
    feature_dims: int
    storage: Storage
    search: Search

    radial_clamp_: RadialClamp
    features_: NDArray[np.float32]
    feature_scale_: NDArray[np.float32]
    residuals_: QuantizedResiduals
    nearest_: NearestRows

    @property
    def training_rows(self) -> NearestRows | None:
        """The training rows; see `ComplementedDecoder.training_rows`."""
        return self.nearest_

    @abstractmethod
    def _fit_trend(self, points: NDArray[np.float32], targets: NDArray[np.float32], *, in_fold: bool) -> None:
        """Fit the trend to z in standard units and its targets; ``in_fold`` where it only calibrates."""

    @abstractmethod
    def _trend(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """The trend at z in standard units, within the training rows' radius."""

    @abstractmethod
    def _to_broad(
        self, points: NDArray[np.float32], trend: NDArray[np.float32], mean: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """What to add to the kriged mean so that it is the broad regression: float32, shape (n, d)."""

    def _fit_principal(self, projected: NDArray[np.float32], principal: NDArray[np.float32]) -> None:
        """Calibrate on rows left out, then fit all rows.

        Raises
        ------
        TrainingError
            Too few rows to leave some out and still have enough neighbours, or rows that are too similar.
        """
        # Length scale 1: points are divided by their own one before (see `regression`).
        points = self._fit_units(projected, length_scale=1.0)
        targets = self._targets(principal)
        in_distribution: list[HeldOutRows] = []
        out_of_distribution: list[HeldOutRows] = []
        for fold in self._calibration_folds(targets):
            self._fit_regression(points[fold.fitted], targets[fold.fitted], in_fold=True)
            for rows, held_out in (
                (fold.in_distribution, in_distribution),
                (fold.out_of_distribution, out_of_distribution),
            ):
                held_out.append(self._held_out(points[rows], padded(principal[rows], self.output_dims_)))
        self.ood_ = OutOfDistribution.fit(
            in_distribution, out_of_distribution, complement_dims=2 * self._n_frequencies, seed=self.seed
        )
        self.ood_ = self.ood_.bias_corrected([self._decoded(rows) for rows in in_distribution])
        self.error_model_ = ErrorModel.fit(
            [self._decoded(rows) for rows in [*in_distribution, *out_of_distribution]],
            [_IN_DISTRIBUTION_WEIGHT] * len(in_distribution) + [1] * len(out_of_distribution),
            seed=self.seed,
        )
        self._fit_regression(points, targets, in_fold=False)

    def _calibration_folds(self, targets: NDArray[np.float32]) -> list[_CalibrationFold]:
        enough = len(targets) >= _FEWEST_CLUSTERS
        folds = _calibration_folds(targets, self.seed) if enough else []
        for fold in folds:
            fewest = min(fold.in_distribution.sum(), fold.out_of_distribution.sum())
            enough &= fold.fitted.sum() >= self.neighbours and fewest >= 2
        if not enough:
            raise TrainingError(
                f"{self.name} leaves out rows and whole clusters to simulate unseen rows, and needs "
                f"{self.neighbours} neighbours among the others: the {len(targets)} rows are too few or too "
                "similar.",
                remedy="Provide more rows or set fewer neighbours.",
            )
        return folds

    def _fit_regression(
        self, points: NDArray[np.float32], targets: NDArray[np.float32], *, in_fold: bool
    ) -> None:
        self.radial_clamp_ = RadialClamp.fit(points)
        self._fit_trend(points, targets, in_fold=in_fold)
        trend = np.concatenate([self._trend(points[block]) for block in row_blocks(len(points))])
        leading = trend[:, : self.feature_dims]
        # Features get the average standard deviation 1, as z has in standard units.
        self.feature_scale_ = np.array([1 / max(float(leading.std(axis=0).mean()), 1e-6)], np.float32)
        self.features_ = leading * self.feature_scale_  # (n, feature_dims)
        self.residuals_ = QuantizedResiduals.from_rows(targets - trend, self.storage)
        self.nearest_ = NearestRows(points, self.search)

    def _held_out(self, points: NDArray[np.float32], coordinates: NDArray[np.float32]) -> HeldOutRows:
        """What the current fit predicts for rows held out of it, a block at a time to bound memory."""
        parts = []
        for block in row_blocks(len(points)):
            mean, trend, nearest = self._kriged(points[block])
            clamped = self.radial_clamp_(points[block])
            parts.append((mean, self._to_broad(clamped, trend, mean), nearest))
        mean, to_broad, nearest = (np.concatenate(part) for part in zip(*parts, strict=True))
        return HeldOutRows(points, mean, to_broad, nearest, coordinates)

    def _decoded(self, rows: HeldOutRows) -> DecodedRows:
        """Held-out rows decoded with the current out-of-distribution score."""
        ood_score = self.ood_(rows.mean, rows.nearest)
        share = self._broad_share(ood_score)
        mean = self._moved(rows.mean, share[:, None] * rows.to_broad)
        complement_points = rows.points / self.ood_.length_scale(ood_score)[:, None]
        decoded, _ = complete_to_unit(mean, complement_points, self.frequencies_, self.output_dims_)
        d = self.mean_dims_  # from the unit rows: a mean longer than 1 has been shortened
        return DecodedRows(decoded[:, :d], decoded[:, d:], ood_score, rows.coordinates)

    def regression(
        self, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Trend, kriging, out-of-distribution score; see `CalibratedRegression.regression`."""
        mean, trend, nearest = self._kriged(points)
        ood_score = self.ood_(mean, nearest)  # (n,)
        share = self._broad_share(ood_score)
        moved = np.flatnonzero(share)
        if len(moved):
            clamped = self.radial_clamp_(points[moved])
            mean[moved] += share[moved, None] * self._to_broad(clamped, trend[moved], mean[moved])
        mean *= np.float32(self.ood_.mean_scale)
        return mean, ood_score, points / self.ood_.length_scale(ood_score)[:, None]

    def _broad_share(self, ood_score: NDArray[np.float32]) -> NDArray[np.float32]:
        share = ood_score * np.float32(self.ood_.broad_share)
        share[share < LEAST_SHARE] = 0
        return share

    def _moved(self, mean: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
        moved: NDArray[np.float32] = (mean + step) * np.float32(self.ood_.mean_scale)
        return moved

    def _kriged(
        self, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Kriged mean (n, d), trend (n, d), distance to the nearest row (n,)."""
        trend = self._trend(self.radial_clamp_(points))
        index, offsets, squared = self.nearest_.query(points, self.neighbours)
        features = trend[:, : self.feature_dims] * self.feature_scale_  # (n, feature_dims)
        feature_offsets = self.features_[index] - features[:, None]  # (n, k, feature_dims)
        weights = kriging_weights(
            np.concatenate([offsets, feature_offsets], axis=2),
            squared + np.einsum("nkd,nkd->nk", feature_offsets, feature_offsets),
            length_scale=self.length_scale,
            nugget=self.nugget,
        )
        mean = self.residuals_.weighted(index, weights)  # (n, mean_dims)
        mean += trend
        return mean, trend, np.sqrt(squared[:, 0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {
            **super().arrays(),
            **self.radial_clamp_.arrays(),
            **self.residuals_.arrays(),
            "features": self.features_,
            "feature_scale": self.feature_scale_,
            "points": self.nearest_.points,
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        d = self.mean_dims_
        self.radial_clamp_ = RadialClamp.restore(arrays)
        points = require_shape(arrays, "points", None, self.input_dims_)
        if len(points) < self.neighbours:
            raise ValueError(f"tensor points: expected at least {self.neighbours} rows, found {len(points)}")
        self.features_ = require_shape(arrays, "features", len(points), min(self.feature_dims, d))
        self.feature_scale_ = require_shape(arrays, "feature_scale", 1)
        self.residuals_ = QuantizedResiduals.restore(arrays, len(points), d, self.storage)
        self.nearest_ = NearestRows(points, self.search)
        return self


@dataclass(frozen=True)
class _CalibrationFold:
    """Rows that one fit leaves out: bool, shape (n,) each.

    Attributes
    ----------
    in_distribution
        Some rows of clusters whose other rows are fitted.
    out_of_distribution
        Whole clusters.
    """

    in_distribution: NDArray[np.bool_]
    out_of_distribution: NDArray[np.bool_]

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """The other rows."""
        return ~(self.in_distribution | self.out_of_distribution)


def _calibration_folds(targets: NDArray[np.float32], seed: int) -> list[_CalibrationFold]:
    """Leave clusters out; no row is left out twice for the same reason."""
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    n = len(targets)
    rng = np.random.default_rng(seed)
    n_clusters = max(n // _ROWS_A_CLUSTER, _FEWEST_CLUSTERS)
    with threadpool_limits(1):  # several threads would add up centres in any order
        model = MiniBatchKMeans(n_clusters, random_state=seed, n_init=1, batch_size=1024)
        cluster = model.fit_predict(targets[:, :_CLUSTER_DIMS])  # (n,)
    in_cluster = np.bincount(cluster, minlength=n_clusters)
    fold_of_cluster = np.full(n_clusters, -1)  # -1: never left out
    # Greedy bin packing: each cluster, in random order, goes to the fold with the most room left. Folds may
    # exceed the share by a fifth, as whole clusters rarely fill it exactly.
    room = np.full(CALIBRATION_FOLDS, 1.2 * _HELD_OUT_SHARE * n)
    for number in rng.permutation(n_clusters):
        fold = int(room.argmax())
        if in_cluster[number] <= room[fold]:
            fold_of_cluster[number] = fold
            room[fold] -= in_cluster[number]
    turn = rng.permutation(n) % round(1 / _HELD_OUT_SHARE)
    return [
        _CalibrationFold(
            in_distribution=(turn == fold) & (fold_of_cluster[cluster] != fold),
            out_of_distribution=fold_of_cluster[cluster] == fold,
        )
        for fold in range(CALIBRATION_FOLDS)
    ]
