"""What is known of the running job beyond its stored record: whether it pauses or is to end, and its rate."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.gate import BatchLease
    from serving.jobs.model import JobRecord

RATE_MEMORY = 0.3  # weight of the newest checkpoint in the moving rate


class LiveJob:
    """What is known of the running job beyond its record; lost with the process and not missed.

    Parameters
    ----------
    job
        Its record when the attempt began.

    Attributes
    ----------
    cancelled
        Whether it is to end without an output.
    halt
        Set when the work is to come to a stop.
    lease
        The hold of the gate while the worker works.
    rows_per_second, bytes_per_second
        Moving rates; None before the first checkpoint.
    """

    def __init__(self, job: JobRecord) -> None:
        self.batch_request_id = job.batch_request_id
        self.cancelled = False
        self.halt = asyncio.Event()
        self.lease: BatchLease | None = None
        self.rows_per_second: float | None = None
        self.bytes_per_second: float | None = None
        self._earlier_pauses_s = job.paused_s
        self._earlier_pauses = job.pause_count

    @property
    def paused(self) -> bool:
        """Whether it stands still for realtime requests."""
        return self.lease is not None and self.lease.paused

    @property
    def paused_s(self) -> float:
        """Seconds of all pauses, the one that lasts included."""
        return self._earlier_pauses_s + (0.0 if self.lease is None else self.lease.paused_s)

    @property
    def pause_count(self) -> int:
        """Number of all pauses."""
        return self._earlier_pauses + (0 if self.lease is None else self.lease.pause_count)


class AttemptClock:
    """Measures one attempt: its time on top of earlier ones, and how fast it is."""

    def __init__(self, job: JobRecord) -> None:
        self._earlier_s = job.running_s
        self._started = self._last = time.perf_counter()
        self._rows = job.num_records_processed
        self._bytes = job.bytes_done

    @property
    def running_s(self) -> float:
        """Seconds of all attempts so far, pauses included."""
        return self._earlier_s + time.perf_counter() - self._started

    def measure(self, live: LiveJob, *, rows: int, bytes_done: int) -> int:
        """Update the moving rates with the rows and bytes since the last call; give those rows."""
        now = time.perf_counter()
        elapsed = max(now - self._last, 1e-6)
        new_rows = rows - self._rows
        live.rows_per_second = _moving(live.rows_per_second, new_rows / elapsed)
        live.bytes_per_second = _moving(live.bytes_per_second, (bytes_done - self._bytes) / elapsed)
        self._last, self._rows, self._bytes = now, rows, bytes_done
        return new_rows


def _moving(before: float | None, newest: float) -> float:
    return newest if before is None else before + RATE_MEMORY * (newest - before)
