"""Decoders and baselines on rows of the sample that they were not fitted on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.evaluation.calibration import DECILES, ConfidenceDecile, confidence_by_decile
from embup_core.evaluation.cosines import (
    Comparison,
    Cosines,
    DotProducts,
    MatrixCosines,
    OneCosine,
    StandardErrors,
)
from embup_core.evaluation.scores import HELD_ROWS, Scores, measure, pair_scores_within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.cosine_matrix import CosineMatrix
    from embup_core.decoders.base import Decoder
    from embup_core.evaluation.cosines import StandardError


def evaluate_decoder(
    decoder: Decoder,
    projected: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    fit_rows: NDArray[np.int64],
    eval_rows: NDArray[np.int64],
    fit_s: float | None = None,
    intervals: bool = True,
    train_train: bool = False,
    standard_error: StandardError | None = None,
    seed: int = 0,
) -> Scores:
    """Scores of a decoder fitted on `fit_rows`, on the unseen `eval_rows`.

    Parameters
    ----------
    decoder
        Fitted.
    projected
        z of all sample rows: float32, shape (N, 32).
    matrix
        True cosines of all sample rows.
    fit_rows, eval_rows
        Disjoint row numbers.
    fit_s
        Carried into the result.
    intervals
        Whether to add bootstrap intervals.
    train_train
        Whether to add errors over pairs of fitted rows, of at most 2,000 of them.
    standard_error
        The decoder's own word about the errors of its cosines, to be held against them.
    seed
        Of samples and resampling.
    """
    unseen, confidence = _decoded(decoder, projected[eval_rows])
    known = predict_in_blocks(decoder, projected[fit_rows])
    scores = measure(
        Comparison(
            DotProducts(unseen, unseen),
            _true(matrix, eval_rows, eval_rows),
            StandardErrors.where_known(standard_error, unseen, confidence),
        ),
        Comparison(DotProducts(unseen, known), _true(matrix, eval_rows, fit_rows)),
        intervals=intervals,
        seed=seed,
    )
    seen = None
    if train_train:
        some = np.sort(np.random.default_rng(seed).permutation(len(fit_rows))[:HELD_ROWS])
        true = _true(matrix, fit_rows[some], fit_rows[some])
        seen = pair_scores_within(Comparison(DotProducts(known[some], known[some]), true))
    return replace(scores, unit_norm_error=unit_norm_error(unseen), fit_s=fit_s, train_train=seen)


def baselines(
    projected: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    fit_rows: NDArray[np.int64],
    eval_rows: NDArray[np.int64],
    intervals: bool = True,
    seed: int = 0,
) -> dict[str, Scores]:
    """What needs no decoder: the fitted rows' mean cosine for every pair, and the cosines of z themselves."""
    total = coordinates[fit_rows].sum(axis=0, dtype=np.float64)
    n_fit, n_test = len(fit_rows), len(eval_rows)
    mean_cosine = float((total @ total - n_fit) / (n_fit * (n_fit - 1)))
    unseen, known = projected[eval_rows], projected[fit_rows]
    predictions: dict[str, tuple[Cosines, Cosines]] = {
        "constant_mean": (
            OneCosine(mean_cosine, (n_test, n_test)),
            OneCosine(mean_cosine, (n_test, n_fit)),
        ),
        "projected_cosines": (DotProducts(unseen, unseen), DotProducts(unseen, known)),
    }
    return {
        name: measure(
            Comparison(test_test, _true(matrix, eval_rows, eval_rows)),
            Comparison(test_train, _true(matrix, eval_rows, fit_rows)),
            intervals=intervals,
            seed=seed,
        )
        for name, (test_test, test_train) in predictions.items()
    }


def confidence_calibration(
    decoder: Decoder,
    projected: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    fit_rows: NDArray[np.int64],
    eval_rows: NDArray[np.int64],
    seed: int = 0,
) -> tuple[ConfidenceDecile, ...]:
    """Whether rows of less confidence err more: errors of unseen rows' cosines with fitted rows.

    Parameters
    ----------
    decoder
        Fitted on `fit_rows`, of which at most 2,000 random ones are compared with.
    projected, matrix, fit_rows, eval_rows
        As for `evaluate_decoder`.
    seed
        Of the sample.

    Returns
    -------
    Deciles by confidence, the least confident first; empty where the decoder does not know its confidence, or
    where there are fewer than 10 unseen rows.
    """
    unseen, confidence = _decoded(decoder, projected[eval_rows])
    if len(unseen) < DECILES or not np.isfinite(confidence).all():
        return ()
    some = np.sort(np.random.default_rng(seed).permutation(fit_rows)[:HELD_ROWS])
    known, known_confidence = _decoded(decoder, projected[some])
    true = _true(matrix, eval_rows, some)
    squared, predicted = np.empty(len(unseen)), np.empty(len(unseen))
    told = True
    for block in row_blocks(len(unseen)):
        error = unseen[block] @ known.T - true.block(block.start, block.stop)
        squared[block] = np.square(error).mean(axis=1)
        expected = decoder.cosine_standard_error(unseen[block], confidence[block], known, known_confidence)
        if expected is None:
            told = False
        else:
            predicted[block] = np.square(expected).mean(axis=1)
    return confidence_by_decile(confidence, squared, predicted if told else None)


def predict_in_blocks(decoder: Decoder, projected: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decoded rows, float32 (n, 1536), with the working memory of one block."""
    return _decoded(decoder, projected)[0]


def _decoded(
    decoder: Decoder, projected: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    blocks = [decoder.predict_with_confidence(projected[block]) for block in row_blocks(len(projected))]
    rows, confidence = zip(*blocks, strict=True)
    return np.concatenate(rows), np.concatenate(confidence)


def unit_norm_error(rows: NDArray[np.float32]) -> float:
    """Largest distance of a row's length from 1, summed in float64; rows: float32, shape (n, d)."""
    squared = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return float(np.abs(np.sqrt(squared) - 1).max())


def sample_test_pairs(
    decoder: Decoder,
    projected: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    eval_rows: NDArray[np.int64],
    pairs: int = 200_000,
    seed: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """True and predicted cosines of random pairs of unseen rows: float32, shape (<= pairs,) each."""
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, len(eval_rows), (2, pairs))
    left, right = left[left != right], right[left != right]
    decoded = predict_in_blocks(decoder, projected[eval_rows])
    predicted = np.empty(len(left), np.float32)
    for block in row_blocks(len(left), 8192):
        predicted[block] = np.vecdot(decoded[left[block]], decoded[right[block]])
    return matrix.pairs(eval_rows[left], eval_rows[right]), predicted


def _true(matrix: CosineMatrix, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> MatrixCosines:
    return MatrixCosines(matrix.memory_map, rows, columns)
