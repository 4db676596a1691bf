"""How far the scores would move with other rows: bootstrap intervals (Efron, 1979).

Rows are resampled, not pairs: the pairs of one row err together, and resampled alone they would promise an
interval many times too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Interval: TypeAlias = tuple[float, float]

LEVEL = 0.95
REPLICATES = 1000


@dataclass(frozen=True)
class WholeScores:
    """Scores of all rows, where only a sample of them is resampled.

    Attributes
    ----------
    rows
        How many there are.
    r2, rmse
        As in `Intervals`.
    """

    rows: int
    r2: float
    rmse: float


@dataclass(frozen=True)
class Intervals:
    """95 % intervals over other draws of unseen rows; decoder and known rows stay what they are.

    Attributes
    ----------
    r2, rmse
        Of test x test pairs.
    recall_at_10
        Of the share of nearest known rows found; None where nothing is ranked.
    rows
        How many rows were resampled.
    replicates
        How often.
    """

    r2: Interval
    rmse: Interval
    recall_at_10: Interval | None
    rows: int
    replicates: int = REPLICATES

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from a dict of JSON values, whose pairs are lists."""
        pairs = {
            name: at and tuple(at) for name, at in content.items() if name in ("r2", "rmse", "recall_at_10")
        }
        return cls(**{**content, **pairs})


@dataclass(frozen=True)
class RowDraws:
    """Rows resampled with replacement, as weights.

    A row drawn w times counts w times, so the pair (i, j) weighs w_i w_j; pairs of a row with itself do not
    count. Means over pairs then are quadratic forms w^T E w, one matrix product for all replicates.

    Attributes
    ----------
    weights
        float32, shape (1 + replicates, n); the first row of ones is the sample as it is.
    """

    weights: NDArray[np.float32]

    @classmethod
    def of(cls, rows: int, *, replicates: int = REPLICATES, seed: int = 0) -> Self:
        """Draw `rows` of as many, `replicates` times."""
        draws = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), replicates)
        return cls(np.vstack([np.ones(rows), draws]).astype(np.float32))

    def pair_means(
        self, values: NDArray[np.float32], part: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Weighted mean over pairs (i, j) of different rows, of each replicate: shape (1 + replicates,).

        Parameters
        ----------
        values
            float32, shape (n, n), symmetric, zero on the diagonal.
        part
            Rows that i is taken from: bool, shape (n,). None takes all.
        """
        of_i = self.weights if part is None else self.weights[:, part]
        of_pairs = self.weights @ (values if part is None else values[:, part])  # (1 + replicates, part)
        in_all = self.weights.sum(axis=1, dtype=np.float64) * of_i.sum(axis=1, dtype=np.float64)
        in_all -= np.square(of_i, dtype=np.float64).sum(axis=1)
        sums: NDArray[np.float64] = np.einsum("bi,bi->b", of_pairs, of_i, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw of few rows may hold no pair
            means: NDArray[np.float64] = sums / in_all
        return means

    def variance(self, true: NDArray[np.float32]) -> NDArray[np.float64]:
        """Variance of cosines over pairs of different rows, of each replicate: shape (1 + replicates,)."""
        off_diagonal = ~np.eye(len(true), dtype=bool)
        # Centred by the mean of all pairs, so that float32 holds the squares.
        centred = (true - true[off_diagonal].mean(dtype=np.float64).astype(np.float32)) * off_diagonal
        return self.pair_means(centred * centred) - self.pair_means(centred) ** 2


def row_intervals(
    predicted: NDArray[np.float32],
    true: NDArray[np.float32],
    overlap: NDArray[np.floating] | None = None,
    *,
    whole: WholeScores | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Intervals:
    """Intervals between the 2.5 and the 97.5 % quantile of the scores of resampled rows.

    Parameters
    ----------
    predicted, true
        Cosines between the same n rows: float32, shape (n, n). The diagonal is not looked at.
    overlap
        Share of nearest known rows found for each row, of all rows that there are: shape (m,), m >= n.
    whole
        Where the n rows are a sample of more: the intervals are narrowed by sqrt(n / whole.rows) and moved
        from the sample's scores to those of all rows (Bickel, Goetze & van Zwet, 1997).
    replicates, seed
        How often to resample, and which rows.
    """
    n = len(true)
    off_diagonal = ~np.eye(n, dtype=bool)
    squared_error = np.square(predicted - true) * off_diagonal
    draws = RowDraws.of(n, replicates=replicates, seed=seed)
    mean_squared = draws.pair_means(squared_error)
    variance = draws.variance(true)
    narrowing = np.sqrt(n / (whole.rows if whole else n))

    def interval(scores: NDArray[np.float64], of_whole: float | None) -> Interval:
        centre = scores[0] if of_whole is None else of_whole
        return _middle(centre + (scores[1:] - scores[0]) * narrowing)

    with np.errstate(divide="ignore", invalid="ignore"):  # few rows: a draw may hold no pair, or equal ones
        r2 = 1 - mean_squared / variance
    rmse_low, rmse_high = interval(np.sqrt(mean_squared), whole.rmse if whole else None)
    r2_low, r2_high = interval(r2, whole.r2 if whole else None)
    return Intervals(
        r2=(r2_low, min(r2_high, 1.0)),
        rmse=(max(rmse_low, 0.0), rmse_high),
        recall_at_10=None if overlap is None else _of_mean(overlap, replicates, seed),
        rows=n,
        replicates=replicates,
    )


def _of_mean(values: NDArray[np.floating], replicates: int, seed: int) -> Interval:
    """Of a mean over rows, which needs no pairs and so no sample of the rows."""
    n = len(values)
    rng = np.random.default_rng(seed)
    share = np.full(n, 1 / n)
    return _middle(np.array([rng.multinomial(n, share) @ values / n for _ in range(replicates)]))


def _middle(scores: NDArray[np.float64]) -> Interval:
    low, high = np.nanquantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
