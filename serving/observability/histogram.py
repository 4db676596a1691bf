"""Counts by bucket for Prometheus, without a lock: for the event loop alone, 0.2 us an observation.

`prometheus_client`'s own takes 0.7 us bound to its labels and 1.5 us unbound, and a request makes eight.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client.core import HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LATENCY_BUCKETS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds, 0.1 ms to 10 s; denser around a millisecond, where requests are."""


class Histogram:
    """How many observations fell into each bucket, and their sum.

    Parameters
    ----------
    bounds
        Upper bounds of the buckets, ascending; one without a bound is added.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float] = LATENCY_BUCKETS_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one; a value on a bound belongs to the bucket below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def count(self) -> int:
        """Observations so far."""
        return sum(self._counts)

    @property
    def bounds(self) -> Sequence[float]:
        """Upper bounds of the buckets; the last bucket has none."""
        return self._bounds

    def counts(self) -> list[int]:
        """Observations by bucket, those beyond the last bound at the end."""
        return self._counts.copy()

    @property
    def sum(self) -> float:
        """Their sum."""
        return self._sum

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper bound as Prometheus writes it, and how many observations were at most that."""
        names = [*map(repr, self._bounds), "+Inf"]
        return [(name, float(count)) for name, count in zip(names, accumulate(self._counts), strict=True)]


def histogram_family(
    name: str,
    documentation: str,
    labels: Sequence[str],
    histograms: Iterable[tuple[Sequence[str], Histogram]],
) -> HistogramMetricFamily:
    """Put histograms of one name, by their labels' values, into one family."""
    family = HistogramMetricFamily(name, documentation, labels=labels)
    for values, found in histograms:
        family.add_metric(values, found.cumulative(), found.sum)
    return family
