"""Intervals of shares, and corrections for how many things were looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

NORMAL_95 = 1.959964
"""The 97.5 % quantile of the normal distribution."""


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Smallest false-discovery rate at which each of several tests would be significant.

    Benjamini & Hochberg (1995).

    Parameters
    ----------
    p
        Of all tests that were made: shape (m,).

    Returns
    -------
    q: float64, shape (m,).
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    q = np.empty(len(values))
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def wilson_interval(hits: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    """95 % intervals of shares (Wilson, 1927).

    Parameters
    ----------
    hits, trials
        Counts: shape (m,) each, `trials` at least 1.

    Returns
    -------
    Lower and upper ends: float64, shape (m,) each, within [0, 1].
    """
    n = np.asarray(trials, dtype=np.float64)
    share = np.asarray(hits, dtype=np.float64) / n
    squared = NORMAL_95**2
    centre = (share + squared / (2 * n)) / (1 + squared / n)
    half = NORMAL_95 * np.sqrt(share * (1 - share) / n + squared / (4 * n * n)) / (1 + squared / n)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def far_above(values: Floats) -> float:
    """The far-out fence of Tukey (1977): third quartile + 3 interquartile ranges.

    NaN values are left out; infinite where there is no other.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return float("inf")
    low, high = np.quantile(known, [0.25, 0.75])
    return float(high + 3 * (high - low))
