"""What is known of the running job beyond its stored record: whether it pauses or is to end, and its rate."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from embup_core.batch import BatchStatistics
from serving.observability.spans import BatchRecord

if TYPE_CHECKING:
    from embup_core.batch import Checkpoint
    from serving.jobs.model import JobRecord
    from serving.realtime.gate import BatchLease

RATE_MEMORY = 0.3  # weight of the newest checkpoint in the moving rate


class LiveJob:
    """What is known of the running job beyond its record; not kept across a restart.

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
        self.work = BatchStatistics()
        self.began = time.perf_counter()
        self.published: tuple[float, float] | None = None
        self.ended: JobRecord | None = None
        self._earlier_pauses_s = job.paused_s
        self._earlier_pauses = job.pause_count

    def take_checkpoint(self, checkpoint: Checkpoint, statistics: BatchStatistics) -> None:
        """Note a checkpoint, and what was done since the one before."""
        self.checkpoint = checkpoint
        self.work.add(statistics)

    def span_record(self, model_version: str) -> BatchRecord:
        """Return what a trace shows of this attempt, which ends now."""
        job, work, last = self.ended, self.work, self.checkpoint
        return BatchRecord(
            batch_request_id=self.batch_request_id,
            model_version=model_version,
            phase="RUNNING" if job is None else job.phase.value,
            error_code=(job and job.error_code) or "",
            rows=last.rows if last else 0,
            failed_rows=last.failed_rows if last else 0,
            paused_s=self.paused_s,
            pauses=self.pause_count,
            began=self.began,
            ended=time.perf_counter(),
            seconds={
                "parse": work.parse_s,
                "decode": work.decode_s,
                "format": work.format_s,
                "write": work.write_s,
                "sync": work.sync_s,
            },
            published=self.published or (),
        )

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
