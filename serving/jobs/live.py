"""What is known of the running job beyond its stored record: whether it pauses or is to end, and its rate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from serving.jobs.model import JobRecord

RATE_MEMORY = 0.3  # weight of the newest checkpoint in the moving rate


class LiveJob(msgspec.Struct):
    """What is known of the running job beyond its record; lost with the process and not missed."""

    batch_request_id: str
    cancelled: bool = False
    ended_pauses_s: float = 0.0
    pause_count: int = 0
    paused_since: float | None = None
    rows_per_second: float | None = None
    bytes_per_second: float | None = None

    @property
    def paused(self) -> bool:
        """Whether it waits for realtime requests."""
        return self.paused_since is not None

    @property
    def paused_s(self) -> float:
        """Seconds of all pauses, the one that lasts included."""
        since = self.paused_since
        return self.ended_pauses_s + (0.0 if since is None else time.perf_counter() - since)

    def pause(self) -> None:
        """Begin a pause."""
        self.paused_since = time.perf_counter()
        self.pause_count += 1

    def go_on(self) -> None:
        """End the pause, if there is one."""
        self.ended_pauses_s = self.paused_s
        self.paused_since = None


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
