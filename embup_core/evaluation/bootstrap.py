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

    A row drawn w times counts w times, so the pair (i, j) weighs w_i w_j; pairs of a row with itself do not
    count. Mean errors then are quadratic forms w^T E w, three matrix products for all replicates.

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
    centred = (true - true[off_diagonal].mean(dtype=np.float64).astype(np.float32)) * off_diagonal
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), replicates)
    weights = np.vstack([np.ones(n), draws]).astype(np.float32)  # the first row: the sample as it is
    in_all = weights.sum(axis=1, dtype=np.float64) ** 2 - np.square(weights, dtype=np.float64).sum(axis=1)

    def mean(values: NDArray[np.float32]) -> NDArray[np.float64]:
        products: NDArray[np.float64] = np.einsum("bi,bi->b", weights @ values, weights, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            products /= in_all
        return products

    mean_squared = mean(squared_error)
    variance = mean(centred * centred) - mean(centred) ** 2
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
