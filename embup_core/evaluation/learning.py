"""What more rows would bring: the same decoder fitted on a part of them (a learning curve)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.errors import TrainingError
from embup_core.evaluation.cosines import Comparison, DotProducts, true_cosines
from embup_core.evaluation.held_out import predict_in_blocks
from embup_core.evaluation.scores import pair_scores_within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embup_core.decoders.base import Decoder
    from embup_core.geometry.basis import Basis
    from embup_core.sources.cosine_matrix import CosineMatrix

FEWEST_ROWS = 100


@dataclass(frozen=True)
class LearningPoint:
    """R2 of cosines between validation rows after a fit on so many train rows."""

    rows: int
    r2: float


def learning_curve(
    make: Callable[[], Decoder],
    projected: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    output_dims: int,
    basis: Basis | None = None,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    shares: Sequence[float],
    seed: int = 0,
) -> tuple[LearningPoint, ...]:
    """Fit on growing parts of the train rows, each part inside the next.

    Parts of fewer than 100 rows, and those on which the decoder says that they are too few, are left out.

    Parameters
    ----------
    make
        Gives an unfitted decoder.
    projected, coordinates, matrix
        z, float32 (N, d), c, float32 (N, r), and the true cosines of all sample rows.
    output_dims
        Dimensions of the originals.
    basis
        That the coordinates are in; None leaves the axes to the decoder.
    train, validation
        Disjoint row numbers.
    shares
        Of the train rows, above 0 and at most 1.
    seed
        Which rows come first.
    """
    order = np.random.default_rng(seed).permutation(train)
    true = true_cosines(matrix, validation, validation)
    points = []
    for count in sorted(round(share * len(train)) for share in shares):
        if count < FEWEST_ROWS:
            continue
        rows = np.sort(order[:count])
        try:
            decoder = make().fit(projected[rows], coordinates[rows], output_dims=output_dims, basis=basis)
        except TrainingError:
            continue
        decoded = predict_in_blocks(decoder, projected[validation])
        scores = pair_scores_within(Comparison(DotProducts(decoded, decoded), true))
        points.append(LearningPoint(count, scores.r2))
    return tuple(points)
