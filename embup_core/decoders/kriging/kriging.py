"""Linear trend, local kriging of its residuals, orthogonal complement.

The trend takes over where no training row is near: on corpora that training does not cover it halves what
plain kriging loses (see `embup_core.decoders.parts.local_kriging`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from annotated_types import Ge, Gt, Le

from embup_core.decoders.base import ROWS_AND_ORIGINALS, Seed, require_shape
from embup_core.decoders.parts.complement import complete_to_unit
from embup_core.decoders.parts.complemented_decoder import ComplementedDecoder, LengthScale, MeanDims
from embup_core.decoders.parts.local_kriging import kriging_weights
from embup_core.decoders.parts.neighbours import NearestRows
from embup_core.decoders.parts.trend import Trend
from embup_core.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Kriging(ComplementedDecoder):
    """Trend, kriging and complement.

    Defaults were chosen on validation rows of real ada-002 embeddings and left alone for other data.

    Parameters
    ----------
    neighbours
        Training rows that a prediction uses. 8 to 32 differ by less than 0.005 in R2.
    length_scale
        Of the Laplacian covariance, in standard units of z. Much longer than the neighbourhood: what counts
        is the covariance's slope at 0, not where it ends.
    nugget
        Variance of the noise, as a share of the covariance at 0; keeps near duplicates from cancelling.
    alpha
        Ridge penalty of the trend, in standard units of z.
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even. More of them rank near neighbours better (recall@10), fewer make the complement's chance dot
        products smaller (R2).
    complement_length_scale
        Distance, in standard units of z, over which two complements stay alike.
    seed
        Of the complement's random frequencies.
    """

    name: ClassVar[str] = "kriging"
    summary: ClassVar[str] = "linear trend + local kriging + orthogonal complement"
    stores: ClassVar[str] = ROWS_AND_ORIGINALS

    def __init__(
        self,
        *,
        neighbours: Annotated[int, Ge(1), Le(256)] = 16,
        length_scale: LengthScale = 16.0,
        nugget: Annotated[float, Gt(0)] = 0.001,
        alpha: Annotated[float, Ge(0)] = 1.0,
        mean_dims: MeanDims = 384,
        complement_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        self.neighbours = neighbours
        self.length_scale = length_scale
        self.nugget = nugget
        self.alpha = alpha
        self.mean_dims = mean_dims
        self.complement_length_scale = complement_length_scale
        self.seed = seed

    @property
    def training_rows(self) -> NearestRows | None:
        """The training rows; see `ComplementedDecoder.training_rows`."""
        return self.nearest_

    def _fit_principal(self, projected: NDArray[np.float32], principal: NDArray[np.float32]) -> None:
        """Learn the trend and store its residual at each training row.

        Raises
        ------
        TrainingError
            Fewer rows than neighbours.
        """
        if len(projected) < self.neighbours:
            raise TrainingError(
                f"{self.name} needs {self.neighbours} neighbours, found {len(projected)} rows to fit on.",
                remedy="Provide more rows or set fewer neighbours.",
            )
        points = self._fit_units(projected, length_scale=self.complement_length_scale)
        targets = self._targets(principal)
        self.trend_ = Trend.fit(points, targets, self.alpha)
        self.residuals_ = targets - self.trend_(points)  # (n, mean_dims)
        self._fit_metric(points, targets)
        self.points_ = self._in_metric(points)
        self.nearest_ = NearestRows(self.points_)

    def _fit_metric(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Learn where the covariance is isotropic; here it is so in standard units."""

    def _in_metric(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points where the covariance is isotropic: float32, shape (n, input_dims)."""
        return points

    def _predict(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Add the kriged residual to the trend, complete."""
        points = self.standardisation_(projected)
        index, offsets, squared = self.nearest_.query(self._in_metric(points), self.neighbours)
        weights = kriging_weights(offsets, squared, length_scale=self.length_scale, nugget=self.nugget)
        kriged = weights[:, None, :] @ self.residuals_[index]  # (n, 1, k) @ (n, k, mean_dims)
        mean = self.trend_(points) + kriged[:, 0]  # (n, mean_dims)
        return complete_to_unit(mean, points, self.frequencies_, self.output_dims_)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {
            **super().arrays(),
            **self.trend_.arrays(),
            "points": self.points_,
            "residuals": self.residuals_,
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        self.trend_ = Trend.restore(arrays, self.input_dims_, self.mean_dims_)
        self.points_ = require_shape(arrays, "points", None, self.input_dims_)
        if len(self.points_) < self.neighbours:
            raise ValueError(
                f"tensor points: expected at least {self.neighbours} rows, found {len(self.points_)}"
            )
        self.residuals_ = require_shape(arrays, "residuals", len(self.points_), self.mean_dims_)
        self.nearest_ = NearestRows(self.points_)
        return self
