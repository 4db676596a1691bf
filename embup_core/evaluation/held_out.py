"""Decoders and baselines on rows of the sample that they were not fitted on."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.evaluation.calibration import DECILES, ConfidenceDecile, confidence_by_decile
from embup_core.evaluation.cosines import (
    Comparison,
    Cosines,
    DotProducts,
    OneCosine,
    StandardErrors,
    true_cosines,
)
from embup_core.evaluation.scores import HELD_ROWS, Scores, measure, pair_scores_within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.decoders.base import Decoder
    from embup_core.evaluation.cosines import StandardError
    from embup_core.evaluation.pairs import PairScores
    from embup_core.sources.cosine_matrix import CosineMatrix


@dataclass(frozen=True)
class DecodedRows:
    """What a decoder answers to some rows, decoded once for all that is measured on them.

    Attributes
    ----------
    rows
        float32, shape (n, D), unit rows.
    confidence
        float32, shape (n,); NaN where the decoder does not know.
    quickest_block_s
        Seconds a row in the quickest block of up to 256 rows.
    """

    rows: NDArray[np.float32]
    confidence: NDArray[np.float32]
    quickest_block_s: float

    @classmethod
    def by(cls, decoder: Decoder, projected: NDArray[np.float32]) -> Self:
        """Decode with the working memory of one block.

        Parameters
        ----------
        decoder
            Fitted.
        projected
            z: float32, shape (n, d), unit rows.
        """
        rows = np.empty((len(projected), decoder.output_dims_), np.float32)
        confidence, seconds = np.empty(len(projected), np.float32), []
        for block in row_blocks(len(projected)):
            started_s = time.perf_counter()
            decoded, known = decoder.predict_with_confidence(projected[block])
            seconds.append((time.perf_counter() - started_s) / (block.stop - block.start))
            rows[block], confidence[block] = decoded, known
        return cls(rows, confidence, min(seconds))

    def __getitem__(self, index: NDArray[np.int64]) -> Self:
        """Some of the rows."""
        return replace(self, rows=self.rows[index], confidence=self.confidence[index])


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
        z of all sample rows: float32, shape (N, d).
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
    return score_rows(
        DecodedRows.by(decoder, projected[eval_rows]),
        DecodedRows.by(decoder, projected[fit_rows]),
        matrix,
        fit_rows=fit_rows,
        eval_rows=eval_rows,
        fit_s=fit_s,
        intervals=intervals,
        train_train=train_train,
        standard_error=standard_error,
        seed=seed,
    )


def score_rows(
    unseen: DecodedRows,
    seen: DecodedRows,
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
    """Scores of decoded rows: `unseen` are those of `eval_rows`, `seen` those of `fit_rows`.

    The other parameters are those of `evaluate_decoder`.
    """
    scores = measure(
        Comparison(
            DotProducts(unseen.rows, unseen.rows),
            true_cosines(matrix, eval_rows, eval_rows),
            StandardErrors.where_known(standard_error, unseen.rows, unseen.confidence),
        ),
        Comparison(DotProducts(unseen.rows, seen.rows), true_cosines(matrix, eval_rows, fit_rows)),
        intervals=intervals,
        seed=seed,
    )
    of_fitted = None
    if train_train:
        some = np.sort(np.random.default_rng(seed).permutation(len(fit_rows))[:HELD_ROWS])
        true = true_cosines(matrix, fit_rows[some], fit_rows[some])
        of_fitted = pair_scores_within(Comparison(DotProducts(seen.rows[some], seen.rows[some]), true))
    return replace(scores, unit_norm_error=unit_norm_error(unseen.rows), fit_s=fit_s, train_train=of_fitted)


def pair_scores(decoded: NDArray[np.float32], matrix: CosineMatrix, rows: NDArray[np.int64]) -> PairScores:
    """Errors over the pairs of some rows, each pair once.

    Parameters
    ----------
    decoded
        float32, shape (n, D), unit rows.
    matrix
        True cosines of all sample rows.
    rows
        Their row numbers: int64, shape (n,).
    """
    return pair_scores_within(Comparison(DotProducts(decoded, decoded), true_cosines(matrix, rows, rows)))


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
            Comparison(test_test, true_cosines(matrix, eval_rows, eval_rows)),
            Comparison(test_train, true_cosines(matrix, eval_rows, fit_rows)),
            intervals=intervals,
            seed=seed,
        )
        for name, (test_test, test_train) in predictions.items()
    }


def confidence_calibration(
    decoder: Decoder,
    unseen: DecodedRows,
    seen: DecodedRows,
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
    unseen, seen
        Its answers to `eval_rows` and to `fit_rows`.
    matrix, fit_rows, eval_rows
        As for `evaluate_decoder`.
    seed
        Of the sample.

    Returns
    -------
    Deciles by confidence, the least confident first; empty where the decoder does not know its confidence, or
    where there are fewer than 10 unseen rows.
    """
    confidence = unseen.confidence
    if len(confidence) < DECILES or not np.isfinite(confidence).all():
        return ()
    some = np.sort(np.random.default_rng(seed).permutation(len(fit_rows))[:HELD_ROWS])
    compared = seen[some]
    true = true_cosines(matrix, eval_rows, fit_rows[some])
    squared, predicted = np.empty(len(confidence)), np.empty(len(confidence))
    predicts_errors = True
    for block in row_blocks(len(confidence)):
        rows = unseen.rows[block]
        squared[block] = np.square(rows @ compared.rows.T - true.block(block.start, block.stop)).mean(axis=1)
        expected = decoder.cosine_standard_error(rows, confidence[block], compared.rows, compared.confidence)
        if expected is None:
            predicts_errors = False
        else:
            predicted[block] = np.square(expected).mean(axis=1)
    return confidence_by_decile(confidence, squared, predicted if predicts_errors else None)


def predict_in_blocks(decoder: Decoder, projected: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decoded rows, float32 (n, D), with the working memory of one block."""
    return DecodedRows.by(decoder, projected).rows


def unit_norm_error(rows: NDArray[np.float32]) -> float:
    """Largest distance of a row's length from 1, summed in float64; rows: float32, shape (n, d)."""
    squared = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return float(np.abs(np.sqrt(squared) - 1).max())


def sample_test_pairs(
    decoded: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    eval_rows: NDArray[np.int64],
    pairs: int = 200_000,
    seed: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """True and predicted cosines of random pairs of unseen rows: float32, shape (<= pairs,) each.

    Parameters
    ----------
    decoded
        Decoded `eval_rows`: float32, shape (n, D), unit rows.
    matrix
        True cosines of all sample rows.
    eval_rows
        Row numbers: int64, shape (n,).
    pairs
        How many to draw; pairs of a row with itself are dropped.
    seed
        Of the draw.
    """
    left, right = np.random.default_rng(seed).integers(0, len(eval_rows), (2, pairs))
    left, right = left[left != right], right[left != right]
    predicted = np.empty(len(left), np.float32)
    for block in row_blocks(len(left), 8192):
        predicted[block] = np.vecdot(decoded[left[block]], decoded[right[block]])
    return matrix.pairs(eval_rows[left], eval_rows[right]), predicted
