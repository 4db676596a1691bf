"""The weighted mean of the nearest training rows plus complement: how far lookup alone gets.

The regression is scikit-learn's `KNeighborsRegressor` with ``weights="distance"`` (Shepard, 1968). There is
nothing to learn but the rows themselves; faiss finds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge

from embup_core.decoders.base import ROWS_AND_ORIGINALS, Seed
from embup_core.decoders.parts.complemented_decoder import LengthScale, MeanDims
from embup_core.decoders.parts.complemented_regression import ComplementedRegression
from embup_core.decoders.parts.neighbours import NearestRows
from embup_core.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape

_AT_A_TRAINING_ROW = 1e-6
"""In standard units: a query nearer than this differs from a training row by rounding only."""


class NearestNeighbours(ComplementedRegression):
    """Inverse-distance weighted nearest neighbours plus complement.

    Parameters
    ----------
    neighbours
        Training rows that a prediction averages.
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even.
    complement_length_scale
        Distance, in standard units of z, over which two complements stay alike.
    seed
        Of the complement's random frequencies.
    """

    name: ClassVar[str] = "nearest_neighbours"
    summary: ClassVar[str] = "weighted mean of the nearest training rows + orthogonal complement"
    stores: ClassVar[str] = ROWS_AND_ORIGINALS

    def __init__(
        self,
        *,
        neighbours: Annotated[int, Ge(1)] = 5,
        mean_dims: MeanDims = 384,
        complement_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(mean_dims=mean_dims, complement_length_scale=complement_length_scale, seed=seed)
        self.neighbours = neighbours

    @property
    def training_rows(self) -> NearestRows | None:
        """The training rows; see `ComplementedDecoder.training_rows`."""
        return self.nearest_

    def fit_mean(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Store the rows.

        Raises
        ------
        TrainingError
            Fewer rows than neighbours.
        """
        if len(points) < self.neighbours:
            raise TrainingError(
                f"{self.name} needs {self.neighbours} neighbours, found {len(points)} rows to fit on.",
                remedy="Provide more rows or set fewer neighbours.",
            )
        self.points_, self.targets_ = points, targets
        self.nearest_ = NearestRows(points)

    def mean(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean of the neighbours, each weighted by 1 / distance."""
        index, _, squared = self.nearest_.query(points, self.neighbours)
        weights = np.reciprocal(np.sqrt(np.maximum(squared, np.float32(_AT_A_TRAINING_ROW**2))))
        weights /= weights.sum(axis=1, keepdims=True)  # (n, neighbours)
        # (n, 1, neighbours) @ (n, neighbours, mean_dims)
        averaged: NDArray[np.float32] = (weights[:, None, :] @ self.targets_[index])[:, 0]
        return averaged

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the learned arrays."""
        return super().array_shapes() | {
            "points": ("rows", self.input_dims_),
            "targets": ("rows", self.mean_dims_),
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays and build the index; see `Decoder.restore`."""
        super().restore(arrays)
        if len(self.points_) < self.neighbours:
            raise ValueError(
                f"tensor points: expected at least {self.neighbours} rows, found {len(self.points_)}"
            )
        self.nearest_ = NearestRows(self.points_)
        return self
