"""How well fresh originals find decoded rows once anchors have fixed the rotation: cross-validated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from embup_core.evaluation.ranking import shared_nearest
from embup_core.geometry.anchors import AnchorScores, OriginalBasis, procrustes, require_anchors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embup_core.sources.cosine_matrix import CosineMatrix

FOLDS: Final = 5
QUERIES_A_FOLD: Final = 1_000
"""More anchors than that are not asked: the figures no longer change."""
NEAREST: Final = 10
FEWEST_DOCUMENTS: Final = 100
"""Among fewer rows, ten of them are found by chance too often."""


class _Fold(NamedTuple):
    """Fresh originals (q, D), decoded rows (t, D), and their cosines and which not to count, both (q, t)."""

    queries: NDArray[np.float32]
    documents: NDArray[np.float32]
    true: NDArray[np.float32]
    excluded: NDArray[np.bool_]


def score_among_anchors(
    decoded: NDArray[np.float32], originals: NDArray[np.float32], *, mean_dims: int, seed: int = 0
) -> AnchorScores:
    """Score by the anchors alone: those of a fold search each other.

    Where the decoder was trained on anchors, it knows them, and the scores are too good.

    Parameters
    ----------
    decoded
        The anchors, decoded: float32, shape (m, D), unit rows.
    originals
        The anchors: float32, shape (m, D), unit rows.
    mean_dims
        Leading dimensions of `decoded` that are the regression's.
    seed
        Of the division into folds.

    Raises
    ------
    InvalidArgumentError
        As `fit_rotation`.
    """
    means = np.ascontiguousarray(decoded[:, :mean_dims])
    require_anchors(means, originals)

    def fold(held_out: NDArray[np.int64]) -> _Fold:
        fresh = originals[held_out]
        return _Fold(fresh, decoded[held_out], fresh @ fresh.T, np.eye(len(held_out), dtype=np.bool_))

    folds = ((fit, fold(held_out)) for fit, held_out in _folds(len(originals), seed))
    return _scores(means, originals, folds)


def score_against_rows(
    coordinates: NDArray[np.float32],
    originals: NDArray[np.float32],
    decoded: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    anchor_rows: NDArray[np.int64],
    rows: NDArray[np.int64],
    seed: int = 0,
) -> AnchorScores:
    """Score by rows of the sample that the decoder was not fitted on: held-out anchors search them.

    Parameters
    ----------
    coordinates
        The anchors in the regression's dimensions: float32, shape (m, d).
    originals
        The anchors: float32, shape (m, D), unit rows.
    decoded
        Unseen rows, decoded: float32, shape (t, D), unit rows.
    matrix
        True cosines of all sample rows.
    anchor_rows, rows
        Row numbers of the anchors and of the unseen rows: int64, shapes (m,) and (t,).
    seed
        Of the division into folds.

    Raises
    ------
    InvalidArgumentError
        As `fit_rotation`.
    """
    require_anchors(coordinates, originals)

    def fold(held_out: NDArray[np.int64]) -> _Fold:
        of_queries = anchor_rows[held_out]
        true = np.ascontiguousarray(matrix.block(of_queries, rows))
        return _Fold(originals[held_out], decoded, true, of_queries[:, None] == rows[None, :])

    folds = ((fit, fold(held_out)) for fit, held_out in _folds(len(originals), seed))
    return _scores(coordinates, originals, folds)


def _folds(count: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Anchors to fit to and anchors to ask, for each fold."""
    parts = np.array_split(np.random.default_rng(seed).permutation(count), FOLDS)
    for place, part in enumerate(parts):
        others = np.concatenate([one for other, one in enumerate(parts) if other != place])
        yield np.sort(others), part[:QUERIES_A_FOLD]


def _scores(
    means: NDArray[np.float32],
    originals: NDArray[np.float32],
    folds: Iterator[tuple[NDArray[np.int64], _Fold]],
) -> AnchorScores:
    error = total = squares = 0.0
    pairs = queries = found = 0
    documents: list[int] = []
    for fit, fold in folds:
        basis = OriginalBasis.from_rotation(procrustes(means[fit], originals[fit]))
        predicted, counted = fold.queries @ basis(fold.documents).T, ~fold.excluded
        true = fold.true[counted].astype(np.float64)
        error += float(np.square(predicted[counted] - true).sum())
        total, squares, pairs = total + float(true.sum()), squares + float(true @ true), pairs + len(true)
        documents.append(int(counted.sum(axis=1).min()))
        if documents[-1] >= FEWEST_DOCUMENTS:
            true_cosines = np.where(counted, fold.true, -np.inf).astype(np.float32)
            ranked = np.where(counted, predicted, -np.inf).astype(np.float32)
            found += int(shared_nearest(ranked, true_cosines, [NEAREST]).sum())
            queries += len(predicted)
    variance = squares / pairs - (total / pairs) ** 2
    return AnchorScores(
        anchors=len(originals),
        documents=min(documents),
        r2=1 - error / pairs / variance if variance > 0 else float("-inf"),
        recall_at_10=found / (NEAREST * queries) if queries else None,
    )
