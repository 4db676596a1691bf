"""How late the event loop is: what everything that waits its turn there waits on top."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

from serving.observability.histogram import Histogram

INTERVAL_S: Final = 0.1  # ten looks a second cost nothing and meet every stall that lasts longer than that
BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class LoopLag:
    """Sleeps again and again, and notes how much longer than asked for.

    uvloop's timers are whole milliseconds, so an idle loop shows up to 1 ms.

    Attributes
    ----------
    histogram
        Seconds late.
    """

    def __init__(self) -> None:
        self.histogram = Histogram(BUCKETS_S)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = perf_counter() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.histogram.observe(max(perf_counter() - due, 0.0))
