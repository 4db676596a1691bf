"""The last minutes of realtime requests, from the histogram that counts them: rate, median and tail.

Nothing more is measured for it: the histogram's counts are read every few seconds, and what lies between two
readings is one step. Quantiles are interpolated within a bucket, as Prometheus' `histogram_quantile` does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serving.observability.histogram import Histogram

STEP_S: Final = 5.0
STEPS: Final = 120


class RealtimeStep(NamedTuple):
    """Realtime requests between two readings.

    Attributes
    ----------
    at
        When it ended: seconds of the clock.
    seconds
        How long it was.
    requests
        How many were answered.
    p50_s, p99_s
        Quantiles of their seconds; None without requests.
    """

    at: float
    seconds: float
    requests: int
    p50_s: float | None
    p99_s: float | None

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds if self.seconds > 0 else 0.0


class RecentRealtime:
    """Keeps readings of a histogram.

    Parameters
    ----------
    histogram
        Seconds of realtime requests.
    clock
        Seconds, monotonic.
    """

    def __init__(self, histogram: Histogram, clock: Callable[[], float] = time.monotonic) -> None:
        self._histogram = histogram
        self._clock = clock
        self._readings: deque[tuple[float, list[int]]] = deque(maxlen=STEPS + 1)
        self.read()

    async def run(self) -> None:
        """Read again and again, until cancelled."""
        while True:
            await asyncio.sleep(STEP_S)
            self.read()

    def read(self) -> None:
        """Take a reading."""
        self._readings.append((self._clock(), self._histogram.counts()))

    def steps(self) -> list[RealtimeStep]:
        """Give the steps, the oldest first."""
        return [self._step(before, after) for before, after in pairwise(self._readings)]

    def since(self, seconds: float) -> RealtimeStep:
        """Give the time since the last reading that is at least this old, as one step up to now."""
        now = (self._clock(), self._histogram.counts())
        older = [reading for reading in self._readings if now[0] - reading[0] >= seconds]
        return self._step(older[-1] if older else self._readings[0], now)

    def _step(self, before: tuple[float, list[int]], after: tuple[float, list[int]]) -> RealtimeStep:
        counts = [later - earlier for earlier, later in zip(before[1], after[1], strict=True)]
        p50_s, p99_s = (quantile(self._histogram.bounds, counts, share) for share in (0.5, 0.99))
        return RealtimeStep(after[0], after[0] - before[0], sum(counts), p50_s, p99_s)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Estimate a quantile from counts by bucket; None without any.

    Parameters
    ----------
    bounds
        Upper bounds of the buckets but the last, which has none and counts as its lower bound.
    counts
        Observations in each bucket.
    share
        Between 0 and 1.
    """
    rank, seen = share * sum(counts), 0
    if not rank:
        return None
    for place, count in enumerate(counts):
        if count and seen + count >= rank:
            if place == len(bounds):
                break
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * (rank - seen) / count
        seen += count
    return float(bounds[-1])
