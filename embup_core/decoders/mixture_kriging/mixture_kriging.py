"""A mixture of Gaussians as trend, local kriging of its residuals, and a complement.

The trend is that of `embup_core.decoders.mixture_kriging.mixture`; for the rest see
`embup_core.decoders.parts.kriged_trend`. The broad regression, towards which out-of-distribution rows move,
is a mixture of fewer, wider components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Gt, Le

from embup_core.decoders.base import ROWS_AND_ORIGINALS, Seed, require_shape
from embup_core.decoders.mixture_kriging.kernel import Kernel, fits
from embup_core.decoders.mixture_kriging.mixture import Mixture, MixtureSettings, cluster_rows
from embup_core.decoders.parts.complemented_decoder import MeanDims
from embup_core.decoders.parts.kriged_trend import KrigedTrend
from embup_core.decoders.parts.neighbours import Search  # noqa: TC001  settings' types are read
from embup_core.decoders.parts.quantized_residuals import QuantizedResiduals, Storage
from embup_core.decoders.parts.trend import fit_ridge

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_CLUSTERS = 800
_BROAD = MixtureSettings(
    clusterings=1,
    rows_a_cluster=90,
    most_clusters=200,
    shrinkage=75.0,
    spread=2.0,
    temperature=0.5,
    components=6,
)


class MixtureKriging(KrigedTrend):
    """Mixture of Gaussians, local kriging, complement by out-of-distribution score.

    Parameters
    ----------
    clusterings
        Of the rows, all in one mixture.
    rows_a_cluster
        On average; with many rows more.
    shrinkage
        Weight of the pooled covariance in a component's, in rows.
    spread
        Factor of the components' covariances.
    temperature
        Exponent of the components' probabilities.
    components
        Most probable components that a row uses.
    trend_dims
        Leading dimensions that the mixture predicts; a line has the others. At most ``mean_dims``.
    neighbours
        Training rows whose residuals a prediction uses.
    length_scale
        Of the Laplacian covariance, in standard units of z.
    nugget
        Variance of the noise, as a share of the covariance at 0; keeps near duplicates from cancelling.
    feature_dims
        Leading dimensions of the trend that count in the covariance's distances, beside z itself and as much
        as z on average.
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

    name: ClassVar[str] = "mixture_kriging"
    summary: ClassVar[str] = "mixture of Gaussians + local kriging + complement by out-of-distribution score"
    fitted_with: ClassVar[tuple[str, ...]] = ("scikitlearn",)
    stores: ClassVar[str] = ROWS_AND_ORIGINALS

    kernel_: Kernel | None = None

    def __init__(
        self,
        *,
        clusterings: Annotated[int, Ge(1), Le(64)] = 3,
        rows_a_cluster: Annotated[int, Ge(2)] = 20,
        shrinkage: Annotated[float, Gt(0)] = 50.0,
        spread: Annotated[float, Gt(0)] = 1.2,
        temperature: Annotated[float, Gt(0)] = 0.6,
        components: Annotated[int, Ge(1), Le(256)] = 10,
        trend_dims: Annotated[int, Ge(2)] = 128,
        neighbours: Annotated[int, Ge(1), Le(256)] = 12,
        length_scale: Annotated[float, Gt(0)] = 16.0,
        nugget: Annotated[float, Gt(0)] = 0.001,
        feature_dims: Annotated[int, Ge(1)] = 32,
        mean_dims: MeanDims = 384,
        storage: Storage = "int8",
        search: Search = "fast",
        seed: Seed = 0,
    ) -> None:
        self.clusterings = clusterings
        self.rows_a_cluster = rows_a_cluster
        self.shrinkage = shrinkage
        self.spread = spread
        self.temperature = temperature
        self.components = components
        self.trend_dims = trend_dims
        self.neighbours = neighbours
        self.length_scale = length_scale
        self.nugget = nugget
        self.feature_dims = feature_dims
        self.mean_dims = mean_dims
        self.storage = storage
        self.search = search
        self.seed = seed

    @property
    def trend_dims_(self) -> int:
        """Dimensions that the mixture predicts."""
        return min(self.trend_dims, self.mean_dims_)

    @property
    def _mixture_settings(self) -> MixtureSettings:
        return MixtureSettings(
            clusterings=self.clusterings,
            rows_a_cluster=self.rows_a_cluster,
            most_clusters=_MOST_CLUSTERS,
            shrinkage=self.shrinkage,
            spread=self.spread,
            temperature=self.temperature,
            components=self.components,
        )

    def _fit_trend(
        self,
        points: NDArray[np.float32],
        targets: NDArray[np.float32],
        *,
        in_fold: bool,  # noqa: ARG002  all fits are alike
    ) -> None:
        """Cluster, and learn the line; see `KrigedTrend._fit_trend`."""
        d = self.trend_dims_
        self.labels_ = cluster_rows(targets, self._mixture_settings, self.seed)
        self.broad_labels_ = cluster_rows(targets, _BROAD, self.seed)
        self.target_mean_ = targets[:, :d].mean(axis=0, dtype=np.float64).astype(np.float32)
        self.targets_ = QuantizedResiduals.from_rows(targets[:, :d] - self.target_mean_, "int8")
        self.weights_, self.intercept_ = (
            fit_ridge(points, targets[:, d:], alpha=1.0)
            if d < self.mean_dims_
            else (
                np.empty((points.shape[1], 0), np.float32),
                np.empty(0, np.float32),
            )
        )
        self._derive(points)

    def _derive(self, points: NDArray[np.float32]) -> None:
        """The mixtures, from the rows as they are stored."""
        targets = self.targets_.numbers * self.targets_.scale + self.target_mean_
        self.mixture_ = Mixture(targets, points, self.labels_, self._mixture_settings)
        self.broad_ = Mixture(targets, points, self.broad_labels_, _BROAD)
        self.kernel_ = None

    @property
    def mixtures(self) -> tuple[Mixture, Mixture]:
        """The trend's, and the broad one."""
        return self.mixture_, self.broad_

    def set_params(self, **params: Any) -> Self:
        """See `Decoder.set_params`; the extension's tables are laid out again where one is changed."""
        self.kernel_ = None
        return super().set_params(**params)

    def _compile(self) -> None:
        if self.kernel_ is None and fits(self):
            self.kernel_ = Kernel(self)

    def _predict(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """In one call where the extension is there, else as `CalibratedRegression` does."""
        self._compile()
        if self.kernel_ is None:
            return super()._predict(projected)
        points = self.standardisation_(projected)
        return self.kernel_(points, self.nearest_.candidates(points, self.neighbours))

    def _trend(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        d = self.trend_dims_
        trend = np.empty((len(points), self.mean_dims_), np.float32)
        trend[:, :d] = self.mixture_(points)
        np.matmul(points, self.weights_, out=trend[:, d:])
        trend[:, d:] += self.intercept_
        return trend

    def _to_broad(
        self, points: NDArray[np.float32], trend: NDArray[np.float32], mean: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        step: NDArray[np.float32] = trend - mean
        d = self.trend_dims_
        step[:, :d] = self.broad_(points) - mean[:, :d]
        return step

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {
            **super().arrays(),
            "labels": self.labels_,
            "broad_labels": self.broad_labels_,
            "targets": self.targets_.numbers,
            "target_scale": self.targets_.scale,
            "target_mean": self.target_mean_,
            "weights": self.weights_,
            "intercept": self.intercept_,
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        n, d, rest = len(self.nearest_.points), self.trend_dims_, self.mean_dims_ - self.trend_dims_
        self.labels_ = _require_labels(arrays, "labels", self.clusterings, n)
        self.broad_labels_ = _require_labels(arrays, "broad_labels", 1, n)
        self.target_mean_ = require_shape(arrays, "target_mean", d)
        self.targets_ = QuantizedResiduals(
            require_shape(arrays, "targets", n, d), require_shape(arrays, "target_scale", d)
        )
        self.weights_ = require_shape(arrays, "weights", self.input_dims_, rest)
        self.intercept_ = require_shape(arrays, "intercept", rest)
        self._derive(self.nearest_.points)
        self._compile()
        return self


def _require_labels(
    arrays: dict[str, NDArray[Any]], name: str, clusterings: int, rows: int
) -> NDArray[np.int32]:
    """Clusters of rows, numbered from 0 without gaps, and no more than a fit makes; ValueError otherwise.

    A cluster takes 17 kB and more once the mixture is derived, so their number must be bounded.
    """
    labels = require_shape(arrays, name, clusterings, rows)
    if labels.dtype != np.int32 or any(
        one.min() < 0 or one.max() >= min(rows, _MOST_CLUSTERS) or not np.bincount(one).all()
        for one in labels
    ):
        raise ValueError(f"tensor {name}: expected clusters numbered from 0 without gaps")
    return labels
