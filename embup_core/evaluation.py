"""How well decoded cosines match the originals', measured on pairs of rows, never on the diagonal.

Two kinds of pairs are told apart: *test x test*, both rows unseen, and *test x train*, one row unseen: the
search of a new vector among known ones. The truth is the given matrix itself, read a block of rows at a time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embup_core.cosine_matrix import CosineMatrix
    from embup_core.decoders.base import Decoder

NEAREST = 10
_BLOCK_ROWS = 256
_RANKED_PAIRS = 500_000


@dataclass(frozen=True)
class PairScores:
    """Errors of predicted cosines over many pairs.

    Attributes
    ----------
    pairs
        How many pairs.
    rmse, mae, bias
        Root mean square, mean absolute and mean error (predicted - true), in cosine.
    r2
        1 - mean square error / variance of the true cosines.
    spearman
        Rank correlation over at most 500,000 evenly spaced pairs; None where the prediction is constant.
    """

    pairs: int
    rmse: float
    mae: float
    bias: float
    r2: float
    spearman: float | None


@dataclass(frozen=True)
class Scores:
    """What one decoder, or one baseline, reached.

    Attributes
    ----------
    test_test, test_train
        Errors by kind of pair.
    overlap_at_10
        Share of the 10 true nearest training rows among the 10 predicted ones; None where nothing is ranked.
    unit_norm_error
        Largest distance of a decoded row's length from 1; None for a baseline.
    fit_s
        Seconds the fit took; None for a baseline.
    """

    test_test: PairScores
    test_train: PairScores
    overlap_at_10: float | None
    unit_norm_error: float | None = None
    fit_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Nested dict of JSON values."""
        return asdict(self)


class _PairSums:
    """Running sums over blocks of pairs, in float64."""

    def __init__(self, expected_pairs: int) -> None:
        self.pairs = 0
        self._true = self._true_squared = self._error = self._error_squared = self._error_absolute = 0.0
        self._every = max(1, -(-expected_pairs // _RANKED_PAIRS))
        self._ranked: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    def add(self, predicted: NDArray[np.float32], true: NDArray[np.float32]) -> None:
        """Take in pairs: float32, shape (m,) each."""
        error = predicted.astype(np.float64) - true
        wide = true.astype(np.float64)
        first = -self.pairs % self._every  # evenly spaced over all blocks
        self._ranked.append((predicted[first :: self._every].copy(), true[first :: self._every].copy()))
        self.pairs += len(error)
        self._true += float(wide.sum())
        self._true_squared += float(wide @ wide)
        self._error += float(error.sum())
        self._error_squared += float(error @ error)
        self._error_absolute += float(np.abs(error).sum())

    def scores(self) -> PairScores:
        """Close the sums."""
        variance = self._true_squared / self.pairs - (self._true / self.pairs) ** 2
        mean_squared = self._error_squared / self.pairs
        return PairScores(
            pairs=self.pairs,
            rmse=float(np.sqrt(mean_squared)),
            mae=float(self._error_absolute / self.pairs),
            bias=float(self._error / self.pairs),
            r2=float(1 - mean_squared / variance) if variance > 0 else float("-inf"),
            spearman=self._spearman(),
        )

    def _spearman(self) -> float | None:
        from scipy.stats import spearmanr

        predicted, true = (np.concatenate(part) for part in zip(*self._ranked, strict=True))
        if np.ptp(predicted) == 0 or np.ptp(true) == 0:
            return None
        return float(spearmanr(predicted, true).statistic)


def evaluate_decoder(
    decoder: Decoder,
    projected: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    fit_rows: NDArray[np.int64],
    eval_rows: NDArray[np.int64],
    fit_s: float | None = None,
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
    """
    unseen = predict_in_blocks(decoder, projected[eval_rows])
    known = predict_in_blocks(decoder, projected[fit_rows])
    length_error = np.abs(np.linalg.norm(unseen.astype(np.float64), axis=1) - 1).max()
    return _score(
        unseen, known, matrix, fit_rows, eval_rows, unit_norm_error=float(length_error), fit_s=fit_s
    )


def baselines(
    projected: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    fit_rows: NDArray[np.int64],
    eval_rows: NDArray[np.int64],
) -> dict[str, Scores]:
    """What needs no decoder: the fitted rows' mean cosine for every pair, and the cosines of z themselves."""
    total = coordinates[fit_rows].sum(axis=0, dtype=np.float64)
    n = len(fit_rows)
    mean_cosine = np.float32((total @ total - n) / (n * (n - 1)))
    return {
        "constant_mean": _score(None, None, matrix, fit_rows, eval_rows, constant=mean_cosine),
        "projected_cosines": _score(projected[eval_rows], projected[fit_rows], matrix, fit_rows, eval_rows),
    }


def predict_in_blocks(decoder: Decoder, projected: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decoded rows, float32 (n, 1536), with the working memory of one block."""
    blocks = [decoder.predict(projected[i : i + _BLOCK_ROWS]) for i in range(0, len(projected), _BLOCK_ROWS)]
    return np.concatenate(blocks)


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
    for start in range(0, len(left), 8192):
        block = slice(start, start + 8192)
        predicted[block] = np.vecdot(decoded[left[block]], decoded[right[block]])
    return matrix.pairs(eval_rows[left], eval_rows[right]), predicted


def _score(
    unseen: NDArray[np.float32] | None,
    known: NDArray[np.float32] | None,
    matrix: CosineMatrix,
    fit_rows: NDArray[np.int64],
    eval_rows: NDArray[np.int64],
    *,
    constant: np.float32 | None = None,
    unit_norm_error: float | None = None,
    fit_s: float | None = None,
) -> Scores:
    n_test, n_fit = len(eval_rows), len(fit_rows)
    test_test = _PairSums(n_test * (n_test - 1) // 2)
    test_train = _PairSums(n_test * n_fit)
    found = 0
    nearest = min(NEAREST, n_fit)
    for start, true in _blocks_of_rows(matrix, eval_rows):
        stop = start + len(true)
        true_fit, true_test = true[:, fit_rows], true[:, eval_rows]
        if unseen is None or known is None:
            predicted_fit = np.full_like(true_fit, constant)
            predicted_test = np.full_like(true_test, constant)
        else:
            predicted_fit = unseen[start:stop] @ known.T
            predicted_test = unseen[start:stop] @ unseen.T
        # each pair of unseen rows once: columns after the row itself
        once = np.arange(n_test)[None, :] > np.arange(start, stop)[:, None]
        test_test.add(predicted_test[once], true_test[once])
        test_train.add(predicted_fit.ravel(), true_fit.ravel())
        if constant is None:
            found += _shared_nearest(predicted_fit, true_fit, nearest)
    return Scores(
        test_test=test_test.scores(),
        test_train=test_train.scores(),
        overlap_at_10=None if constant is not None else found / (n_test * nearest),
        unit_norm_error=unit_norm_error,
        fit_s=fit_s,
    )


def _blocks_of_rows(
    matrix: CosineMatrix, rows: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(rows), _BLOCK_ROWS):
        yield start, matrix.rows(rows[start : start + _BLOCK_ROWS])


def _shared_nearest(predicted: NDArray[np.float32], true: NDArray[np.float32], k: int) -> int:
    """How many of the k largest columns of each row are the same, summed over rows."""
    largest_predicted = np.argpartition(predicted, -k, axis=1)[:, -k:]
    largest_true = np.argpartition(true, -k, axis=1)[:, -k:]
    return int((largest_predicted[:, :, None] == largest_true[:, None, :]).sum())
