"""What is known of the running job beyond its stored record: whether it pauses or is to end, and its rate."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from embup_core.batch import Tally

if TYPE_CHECKING:
    from embup_core.batch import Checkpoint
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
    checkpoint
        The last one that is durable; None before the first.
    work
        What the attempt took so far.
    began, published
        When the attempt began, and when its output was put in place, start and end: seconds of
        `time.perf_counter`.
    ended
        The job's record, once it has ended in this attempt.
    """

    def __init__(self, job: JobRecord) -> None:
        self.batch_request_id = job.batch_request_id
        self.cancelled = False
        self.halt = asyncio.Event()
        self.lease: BatchLease | None = None
        self.rows_per_second: float | None = None
        self.bytes_per_second: float | None = None
        self.checkpoint = job.last_checkpoint
        self.work = Tally()
        self.began = time.perf_counter()
        self.published: tuple[float, float] | None = None
        self.ended: JobRecord | None = None
        self._earlier_pauses_s = job.paused_s
        self._earlier_pauses = job.pause_count

    def take_checkpoint(self, checkpoint: Checkpoint, tally: Tally) -> None:
        """Note a checkpoint, and what was done since the one before."""
        self.checkpoint = checkpoint
        self.work.add(tally)

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

    def measure(self, live: LiveJob, *, rows: int, bytes_done: int) -> None:
        """Update the moving rates with the rows and bytes since the last call."""
        now = time.perf_counter()
        elapsed = max(now - self._last, 1e-6)
        live.rows_per_second = _moving(live.rows_per_second, (rows - self._rows) / elapsed)
        live.bytes_per_second = _moving(live.bytes_per_second, (bytes_done - self._bytes) / elapsed)
        self._last, self._rows, self._bytes = now, rows, bytes_done


def _moving(before: float | None, newest: float) -> float:
    return newest if before is None else before + RATE_MEMORY * (newest - before)
