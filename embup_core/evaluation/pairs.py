"""Errors of predicted cosines over many pairs, summed block by block in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.blocks import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLED_PAIRS = 500_000
"""Most pairs that are kept, evenly spaced over all, for what needs them side by side: ranks and quantiles."""

_SUMMED_PAIRS = 2**20
"""Pairs that are summed at a time: sums take float64 copies of them, some 60 MB."""

BINS_PER_UNIT = 20
"""Bins of the true cosine are 1/20 wide, wherever the data lie, so that tables of two data sets compare."""


@dataclass(frozen=True)
class BinError:
    """Errors of the pairs whose true cosine lies in one bin.

    Attributes
    ----------
    low, high
        Edges: low <= true cosine < high; the last bin holds 1 as well.
    pairs
        How many pairs.
    bias, rmse
        Mean and root mean square error (predicted - true), in cosine.
    """

    low: float
    high: float
    pairs: int
    bias: float
    rmse: float


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
        1 - mean square error / variance of the true cosines; minus infinity where they are all equal.
    spearman, pearson
        Correlation of ranks, over at most 500,000 evenly spaced pairs, and of values; None where either side
        is constant.
    p99_abs_error
        99th percentile of the absolute error, over the same pairs as `spearman`.
    error_by_bin
        Bins of the true cosine that hold a pair, in order.
    """

    pairs: int
    rmse: float
    mae: float
    bias: float
    r2: float
    spearman: float | None
    pearson: float | None = None
    p99_abs_error: float | None = None
    error_by_bin: tuple[BinError, ...] = ()


class PairSums:
    """Running sums over blocks of pairs.

    Parameters
    ----------
    expected_pairs
        How many will come; decides how far apart the kept pairs are.
    """

    def __init__(self, expected_pairs: int) -> None:
        self.pairs = 0
        self._true = self._true_squared = self._error = self._error_squared = self._error_absolute = 0.0
        self._true_error = 0.0
        bins = 2 * BINS_PER_UNIT
        self._bin_pairs = np.zeros(bins, np.int64)
        self._bin_error, self._bin_squared = np.zeros(bins), np.zeros(bins)
        self._every = max(1, -(-expected_pairs // SAMPLED_PAIRS))
        self._kept: list[tuple[NDArray[np.float32], ...]] = []

    def add(
        self,
        predicted: NDArray[np.float32],
        true: NDArray[np.float32],
        standard_error: NDArray[np.float32] | None = None,
    ) -> None:
        """Take in pairs: float32, shape (m,) each; with `standard_error` always, or never."""
        for part in row_blocks(len(true), _SUMMED_PAIRS):
            self._add(predicted[part], true[part], None if standard_error is None else standard_error[part])

    def _add(
        self,
        predicted: NDArray[np.float32],
        true: NDArray[np.float32],
        standard_error: NDArray[np.float32] | None,
    ) -> None:
        kept = slice(-self.pairs % self._every, None, self._every)  # evenly spaced over all blocks
        beside = () if standard_error is None else (standard_error[kept].copy(),)
        self._kept.append((predicted[kept].copy(), true[kept].copy(), *beside))
        self.pairs += len(true)
        wide = true.astype(np.float64)
        error = predicted - wide
        squared = error * error
        self._true += float(wide.sum())
        self._true_squared += float(wide @ wide)
        self._true_error += float(wide @ error)
        self._error += float(error.sum())
        self._error_squared += float(squared.sum())
        self._error_absolute += float(np.abs(error).sum())
        bins = len(self._bin_pairs)
        place = np.clip(((wide + 1) * BINS_PER_UNIT).astype(np.int64), 0, bins - 1)
        self._bin_pairs += np.bincount(place, minlength=bins)
        self._bin_error += np.bincount(place, error, bins)
        self._bin_squared += np.bincount(place, squared, bins)

    def kept(self) -> tuple[NDArray[np.float32], ...]:
        """The kept pairs: predicted, true and, if it was given, the standard error; shape (m,) each."""
        return tuple(np.concatenate(part) for part in zip(*self._kept, strict=True))

    def scores(self) -> PairScores:
        """Close the sums."""
        predicted, true, *_ = self.kept()
        variance = self._true_squared / self.pairs - (self._true / self.pairs) ** 2
        mean_squared = self._error_squared / self.pairs
        varies = np.ptp(predicted) > 0 and np.ptp(true) > 0
        return PairScores(
            pairs=self.pairs,
            rmse=float(np.sqrt(mean_squared)),
            mae=self._error_absolute / self.pairs,
            bias=self._error / self.pairs,
            r2=1 - mean_squared / variance if variance > 0 else float("-inf"),
            spearman=_spearman(predicted, true) if varies else None,
            pearson=self._pearson(variance) if varies else None,
            p99_abs_error=float(np.quantile(np.abs(predicted - true), 0.99)),
            error_by_bin=self._error_by_bin(),
        )

    def _pearson(self, true_variance: float) -> float:
        # predicted = true + error, so its moments follow from theirs
        bias = self._error / self.pairs
        error_variance = self._error_squared / self.pairs - bias**2
        covariance = self._true_error / self.pairs - bias * self._true / self.pairs
        predicted_variance = true_variance + error_variance + 2 * covariance
        return float((true_variance + covariance) / np.sqrt(true_variance * predicted_variance))

    def _error_by_bin(self) -> tuple[BinError, ...]:
        return tuple(
            BinError(
                low=(k - BINS_PER_UNIT) / BINS_PER_UNIT,
                high=(k + 1 - BINS_PER_UNIT) / BINS_PER_UNIT,
                pairs=int(count),
                bias=float(self._bin_error[k] / count),
                rmse=float(np.sqrt(self._bin_squared[k] / count)),
            )
            for k, count in enumerate(self._bin_pairs)
            if count
        )


def _spearman(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(predicted, true).statistic)
