"""Anchors in a training: the rotation of the published decoder, and how well it would hold for new rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.artifacts.anchors import FittedAnchors, fit_projection, mean_dims
from embup_core.decoders.base import padded
from embup_core.evaluation.anchors import score_against_rows
from embup_core.evaluation.held_out import predict_in_blocks
from embup_core.geometry.anchors import fit_rotation
from embup_core.sources import ANCHORS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embup_core.artifacts.anchors import FittedWith
    from embup_core.decoders import Decoder
    from embup_core.geometry.anchors import AnchorScores
    from embup_core.training.sample import Sample
    from embup_core.training.selection import Evaluation

_SAME_AXES: Final = 0.5
"""Correlation of decoded anchors with their principal coordinates: near 1 where the axes are the same."""


def score_candidate(decoder: Decoder, sample: Sample, decoded: NDArray[np.float32]) -> AnchorScores | None:
    """How fresh originals find test rows: None without anchors, or from a decoder without a regression.

    Parameters
    ----------
    decoder
        Fitted on train and validation rows.
    sample
        Its rows.
    decoded
        Test rows, decoded: float32, shape (t, D).
    """
    anchors, rows = sample.anchors, sample.rows
    if anchors is None or mean_dims(decoder) is None:
        return None
    coordinates, _ = _in_regression_dims(decoder, sample)
    return score_against_rows(
        coordinates,
        anchors.originals,
        decoded,
        sample.matrix,
        anchor_rows=anchors.rows,
        rows=rows.test,
    )


def fit_anchors(decoder: Decoder, sample: Sample, evaluation: Evaluation) -> FittedAnchors | None:
    """The rotation of a decoder that is fitted on all rows, with the champion's scores; None as there."""
    scores = evaluation.anchors.get(evaluation.champion)
    if sample.anchors is None or scores is None:
        return None
    coordinates, fitted_with = _in_regression_dims(decoder, sample)
    anchors = sample.anchors
    rotation = fit_rotation(coordinates, anchors.originals)
    projection = fit_projection(sample.projected[anchors.rows], anchors.originals)
    return FittedAnchors(rotation, scores, fitted_with, projection)


def anchor_warnings(evaluation: Evaluation, *, has_anchors: bool) -> Iterator[str]:
    """What to know of the anchors beside the scores, a sentence each."""
    if has_anchors and evaluation.champion not in evaluation.anchors:
        yield f"{ANCHORS_FILE} was not used: {evaluation.champion} has no regression that could be rotated."


def _in_regression_dims(decoder: Decoder, sample: Sample) -> tuple[NDArray[np.float32], FittedWith]:
    """The anchors in the dimensions of a decoder's regression, float32 (m, mean_dims), and where from.

    They are sample rows, so their principal coordinates are known exactly. A decoder of other axes shows by
    its answers, which then stand for the anchors.

    Parameters
    ----------
    decoder
        With a regression.
    sample
        With anchors.
    """
    dims, anchors = mean_dims(decoder), sample.anchors
    assert dims is not None  # noqa: S101 - the callers have looked
    assert anchors is not None  # noqa: S101
    exact = padded(sample.coordinates[anchors.rows, :dims], dims)
    decoded = np.ascontiguousarray(predict_in_blocks(decoder, sample.projected[anchors.rows])[:, :dims])
    return (exact, "coordinates") if _correlation(exact, decoded) > _SAME_AXES else (decoded, "decoded")


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of all centred entries: the rows' common mean alone would make any axes look alike."""
    left, right = one - one.mean(axis=0), other - other.mean(axis=0)
    return float(np.vdot(left, right) / max(np.linalg.norm(left) * np.linalg.norm(right), 1e-12))
