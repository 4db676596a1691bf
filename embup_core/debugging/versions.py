"""Two versions of a decoder on the same rows: which rows and which slices got worse.

Each row is its own control, so a slice is judged by the sign test (Conover, 1999): of the rows whose error
changed, the share that got worse. A row's pair error holds the errors of the rows it is compared with, so one
bad slice makes all rows a little worse. That shift, the median relative change of all rows, is taken off
before slices are judged. All slices are one family of tests (Benjamini & Hochberg, 1995).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.debugging.slices import FALSE_DISCOVERIES, FEWEST_ROWS, LEAST_EFFECT
from embup_core.debugging.statistics import NORMAL_95, benjamini_hochberg
from embup_core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.debugging.slices import Partition

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

ALL_ROWS: Final = "all"


@dataclass(frozen=True, eq=False)
class SliceChange:
    """How the errors of a slice changed between two versions.

    Attributes
    ----------
    partition, name
        What the rows were divided by, and the part; partition ``all`` for all rows together.
    rows
        Rows with an error in both versions, worst change first, 0-based: int64, shape (m,).
    before, after
        Mean error in both versions.
    change, low, high
        Mean change of a row's error with a 95 % interval; above 0 is worse.
    rows_worse, rows_better
        How many rows' errors grew and fell, beyond the shift of all rows.
    p, q
        Probability of so many worse rows by chance, and the same corrected for how many slices were looked
        at.
    worse
        Whether the slice got significantly worse, and its mean error grew by more than 5 %; beyond the shift
        of all rows, except for all rows together.
    """

    partition: str
    name: str
    rows: Indices
    before: float
    after: float
    change: float
    low: float
    high: float
    rows_worse: int
    rows_better: int
    p: float
    q: float
    worse: bool


@dataclass(frozen=True, eq=False)
class VersionComparison:
    """What changed from one version to another.

    Attributes
    ----------
    changes
        Error of each row in the new version minus the old one: float64, shape (n,), NaN where either has
        none.
    shift
        Median relative change of all rows, 0 where they got better.
    worst_rows
        Rows whose error grew, the largest growth first, at most 1,000: int64.
    slices
        All slices that were looked at, all rows together first, then the least probable first.
    """

    changes: Floats
    shift: float
    worst_rows: Indices
    slices: tuple[SliceChange, ...]


MOST_ROWS: Final = 1000


def compare_versions(before: Floats, after: Floats, partitions: Sequence[Partition]) -> VersionComparison:
    """Compare the errors of the same rows in two versions.

    Parameters
    ----------
    before, after
        Error of each row, higher is worse: float64, shape (n,), NaN where a row has none. Negated figures
        that fall where rows get worse are errors, too.
    partitions
        Divisions of the rows. Parts of fewer than 30 rows with both errors are left out.

    Raises
    ------
    InvalidArgumentError
        The two do not have the same number of rows.
    """
    if len(before) != len(after):
        raise InvalidArgumentError(
            f"Expected errors of the same rows in both versions, found {len(before)} and {len(after)}.",
            remedy="Compare analyses of one data set.",
        )
    changes = np.asarray(after - before, dtype=np.float64)
    known = np.isfinite(changes)
    order = np.argsort(-np.where(known, changes, -np.inf), kind="stable")[: int(known.sum())]
    wanted = []
    for partition in partitions:
        codes = partition.codes[order]
        wanted += [
            (partition.name, partition.parts[part], order[codes == part])
            for part in partition.large_parts(known)
        ]
    if len(order) >= FEWEST_ROWS:
        wanted.insert(0, (ALL_ROWS, ALL_ROWS, order))
    relative = np.divide(
        changes, np.abs(before), out=np.full(len(changes), np.nan), where=known & (before != 0)
    )
    shift = max(0.0, float(np.nanmedian(relative))) if np.isfinite(relative).any() else 0.0
    expected = [
        before[rows] + np.abs(before[rows]) * (shift if name != ALL_ROWS else 0) for name, _, rows in wanted
    ]
    beyond = [after[rows] - value for (*_, rows), value in zip(wanted, expected, strict=True)]
    probabilities = _sign_tests(beyond)
    corrected = benjamini_hochberg(probabilities)
    slices = [
        _slice_change(partition, name, rows, before, after, further, float(p), float(q))
        for (partition, name, rows), further, p, q in zip(
            wanted, beyond, probabilities, corrected, strict=True
        )
    ]
    worst = order[:MOST_ROWS]
    return VersionComparison(
        changes,
        shift,
        worst[changes[worst] > 0],
        tuple(sorted(slices, key=lambda one: (one.partition != ALL_ROWS, one.p))),
    )


def _sign_tests(changes: Sequence[Floats]) -> Floats:
    """Probability of at least so many rows above 0 if either sign were equally likely, a slice each."""
    from scipy.special import bdtrc  # scipy.stats takes seconds to import

    worse = np.array([(one > 0).sum() for one in changes])
    changed = np.array([(one != 0).sum() for one in changes])
    return np.asarray(bdtrc(worse - 1, changed, 0.5), dtype=np.float64)


def _slice_change(
    partition: str,
    name: str,
    rows: Indices,
    before: Floats,
    after: Floats,
    beyond: Floats,
    p: float,
    q: float,
) -> SliceChange:
    """One slice; `rows` by their change, and `beyond` their change beyond the shift of all rows."""
    changes = after[rows] - before[rows]
    mean, old = float(changes.mean()), float(before[rows].mean())
    half = NORMAL_95 * float(changes.std(ddof=1)) / len(rows) ** 0.5
    return SliceChange(
        partition=partition,
        name=name,
        rows=rows,
        before=old,
        after=float(after[rows].mean()),
        change=mean,
        low=mean - half,
        high=mean + half,
        rows_worse=int((beyond > 0).sum()),
        rows_better=int((beyond < 0).sum()),
        p=p,
        q=q,
        worse=bool(q <= FALSE_DISCOVERIES and float(beyond.mean()) > LEAST_EFFECT * abs(old)),
    )
