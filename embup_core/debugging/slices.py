"""Groups of rows whose errors are significantly larger than those of all other rows.

A slice must not be tested on the errors that it was found by: trees grown on errors flag slices of noise.
Here rows are divided by what they are, never by their errors: by clusters of their features (k-means) and
by what is known of them. All divisions of a call are one family of tests, corrected for their number
(Benjamini & Hochberg, 1995). Sizes of errors are compared by the one-sided rank test of Mann & Whitney
(1947), shares of wrong rows by Fisher's exact test, with intervals of Wilson (1927).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.debugging.analysis import Slice
from embup_core.debugging.features.neighbours import centred_units, principal_components, usable_rows
from embup_core.debugging.statistics import NORMAL_95, benjamini_hochberg, wilson_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

FEWEST_ROWS: Final = 30
"""Smaller slices are not looked at."""
MOST_CLUSTERS: Final = 80
ROWS_PER_CLUSTER: Final = 40
FALSE_DISCOVERIES: Final = 0.05
LEAST_EFFECT: Final = 0.05
"""A slice is worse only if its error is larger than that of the rest by 5 %, or by 5 points where it is a
share of rows."""

_CLUSTER_DIMS = 32


@dataclass(frozen=True, eq=False)
class Partition:
    """A division of rows into parts.

    Attributes
    ----------
    name
        Such as ``cluster``, ``label``.
    parts
        Name of each part.
    codes
        Part of each row, -1 where it is in none: int64, shape (n,).
    """

    name: str
    parts: tuple[str, ...]
    codes: Indices

    @classmethod
    def from_values(cls, name: str, values: Sequence[str | None]) -> Partition:
        """By a value a row, None for none."""
        known = np.array([value is not None for value in values], dtype=bool)
        rows = np.flatnonzero(known)
        parts, places = np.unique(
            np.array([values[row] or "" for row in rows.tolist()], dtype=np.str_), return_inverse=True
        )
        codes = np.full(len(values), -1, np.int64)
        codes[rows] = places.ravel()
        return cls(name, tuple(str(part) for part in parts), codes)

    def large_parts(self, known: NDArray[np.bool_]) -> list[int]:
        """Codes of the parts with at least 30 of the known rows: bool, shape (n,)."""
        sizes = np.bincount(self.codes[(self.codes >= 0) & known], minlength=len(self.parts))
        return np.flatnonzero(sizes >= FEWEST_ROWS).tolist()


def cluster_rows(vectors: NDArray[np.float32], *, seed: int = 0) -> Partition:
    """Divide rows by k-means in 32 principal components: about 40 rows a cluster, at most 80 clusters.

    Parameters
    ----------
    vectors
        What the rows are, without their errors: float32, shape (n, d), rows of NaN or zeros where a row has
        none.
    seed
        Of k-means.

    Returns
    -------
    Clusters, the largest first; no part at all where there are fewer than 80 rows.
    """
    import faiss

    points = principal_components(centred_units(vectors), _CLUSTER_DIMS, seed=seed)
    rows = np.flatnonzero(usable_rows(points))
    codes = np.full(len(vectors), -1, np.int64)
    count = min(MOST_CLUSTERS, len(rows) // ROWS_PER_CLUSTER)
    if count < 2:
        return Partition("cluster", (), codes)
    model = faiss.Kmeans(
        points.shape[1], count, niter=25, nredo=3, seed=seed % 2**31, min_points_per_centroid=1
    )
    model.train(points[rows])
    _, nearest = model.index.search(points[rows], 1)
    sizes = np.bincount(nearest[:, 0], minlength=count)
    rank = np.empty(count, np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(count)
    codes[rows] = rank[nearest[:, 0]]
    return Partition("cluster", tuple(str(i + 1) for i in range(int((sizes > 0).sum()))), codes)


def compare_slices(errors: Mapping[str, Floats], partitions: Sequence[Partition]) -> tuple[Slice, ...]:
    """Compare each part with all other rows, by each error.

    Parameters
    ----------
    errors
        By name, higher is worse: float64, shape (n,), NaN where a row has none. One whose values are all 0 or
        1 is a share of wrong rows.
    partitions
        Divisions that know nothing of the errors. Parts of fewer than 30 rows with an error are left out, and
        those of which fewer than 30 other rows are left.

    Returns
    -------
    All slices that were looked at, as one family of tests: the least probable first.
    """
    tested = [
        (partition, metric, values, _tests(values, partition))
        for metric, values in errors.items()
        for partition in partitions
        if partition.parts
    ]
    if not tested:
        return ()
    q = np.split(
        benjamini_hochberg(np.concatenate([tests.p for *_, tests in tested])),
        np.cumsum([len(tests.p) for *_, tests in tested])[:-1],
    )
    slices = []
    for (partition, metric, values, tests), corrected in zip(tested, q, strict=True):
        known = np.isfinite(values)
        for i, part in enumerate(tests.parts.tolist()):
            value, rest = float(tests.value[i]), float(tests.rest[i])
            larger = value - rest > LEAST_EFFECT if tests.is_share else value > (1 + LEAST_EFFECT) * rest
            slices.append(
                Slice(
                    partition=partition.name,
                    name=partition.parts[part],
                    rows=np.flatnonzero((partition.codes == part) & known),
                    metric=metric,
                    value=value,
                    low=float(tests.low[i]),
                    high=float(tests.high[i]),
                    rest=rest,
                    p=float(tests.p[i]),
                    q=float(corrected[i]),
                    worse=bool(larger and corrected[i] <= FALSE_DISCOVERIES),
                )
            )
    return tuple(sorted(slices, key=lambda one: one.p))


@dataclass(frozen=True, eq=False)
class _Tests:
    parts: Indices
    value: Floats
    low: Floats
    high: Floats
    rest: Floats
    p: Floats
    is_share: bool


def _tests(values: Floats, partition: Partition) -> _Tests:
    rows = np.flatnonzero(np.isfinite(values))
    known, codes = values[rows], partition.codes[rows]
    n_parts, total = len(partition.parts), len(rows)
    inside = codes >= 0
    sizes = np.bincount(codes[inside], minlength=n_parts)
    parts = np.flatnonzero((sizes >= FEWEST_ROWS) & (total - sizes >= FEWEST_ROWS))
    m = sizes[parts].astype(np.float64)
    sums = np.bincount(codes[inside], known[inside], n_parts)[parts]
    value = sums / m
    rest = (known.sum() - sums) / np.maximum(total - m, 1)
    is_share = bool(np.isin(known, (0.0, 1.0)).all())
    if is_share:
        low, high = wilson_interval(sums, m)
        p = _fisher(np.asarray(sums, np.float64), m, float(known.sum()), total)
    else:
        squares = np.bincount(codes[inside], np.square(known[inside]), n_parts)[parts]
        spread = np.sqrt(np.maximum(squares / m - value**2, 0) / (m - 1))  # standard error of the mean
        low, high = value - NORMAL_95 * spread, value + NORMAL_95 * spread
        ranks = np.bincount(codes[inside], _ranks(known)[inside], n_parts)
        p = _mann_whitney(known, np.asarray(ranks[parts], np.float64), m)
    return _Tests(parts, value, low, high, rest, p, is_share)


def _ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), dtype=np.float64)


def _mann_whitney(values: Floats, rank_sums: NDArray[np.floating], m: NDArray[np.floating]) -> Floats:
    """One-sided probabilities from the rank sums of all parts at once, by the normal law, ties corrected."""
    from scipy.stats import norm

    n = len(values)
    ties = np.unique(values, return_counts=True)[1].astype(np.float64)
    above = rank_sums - m * (m + 1) / 2 - m * (n - m) / 2
    variance = m * (n - m) / 12 * (n + 1 - (ties**3 - ties).sum() / max(1, n * (n - 1)))
    z = np.divide(above - 0.5, np.sqrt(variance), out=np.full(len(m), -np.inf), where=variance > 0)
    return np.asarray(norm.sf(z), dtype=np.float64)


def _fisher(hits: NDArray[np.floating], m: NDArray[np.floating], all_hits: float, n: int) -> Floats:
    """One-sided probability of at least so many of all wrong rows in a part: the hypergeometric tail."""
    from scipy.stats import hypergeom

    return np.asarray(hypergeom.sf(hits - 1, n, round(all_hits), m), dtype=np.float64)
