"""When the history is published: at once after a change of state, at most every five seconds on progress.

The job database itself cannot be opened by anyone else while the service holds it, not even for reading. So
copies of its tables are published beside it; `serving.jobs.history.snapshots` makes them.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import duckdb
import structlog

from serving.jobs.history.snapshots import Snapshots, export_changes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serving.jobs.storage.store import JobStore

log = structlog.get_logger("embup.serving.history")

T = TypeVar("T")

PROGRESS_INTERVAL_S = 5.0  # each second, it raised the p99 of requests beside a batch by a quarter
RETRY_S = 5.0  # after the folder could not be written
REST = 3.0  # times as long as a publication took: even changes without end take a quarter of one core at most


class HistoryPublisher:
    """Publishes snapshots while `run` runs.

    Parameters
    ----------
    store
        The job store whose tables are published.
    folder
        Gets `history.duckdb`, `jobs.parquet` and `events.parquet`.
    """

    def __init__(self, store: JobStore, folder: Path) -> None:
        self._store = store
        self._snapshots = Snapshots(folder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = asyncio.Event()
        self._failing = False

    def note_progress(self) -> None:
        """Ask for a snapshot when one is due again."""
        self._changed.set()

    def note_change(self) -> None:
        """Ask for a snapshot now."""
        self._changed.set()
        self._urgent.set()

    async def run(self) -> None:
        """Publish until `close` is called, and what is left then."""
        try:
            while not self._closing.is_set():
                await self._changed.wait()
                await self._publish_and_rest()
            if self._changed.is_set():
                await self._publish_and_rest()
        finally:
            await self._in_thread(self._snapshots.close)
            self._thread.shutdown()

    def close(self) -> None:
        """Let `run` publish what is left and return."""
        self._closing.set()
        self.note_change()

    async def publish(self) -> None:
        """Publish what is in the store now."""
        changes = await self._in_thread(self._snapshots.begin)
        await self._store.call(export_changes, changes)
        await self._in_thread(lambda: self._snapshots.publish(changes))

    async def _publish_and_rest(self) -> None:
        self._changed.clear()
        self._urgent.clear()
        started = time.perf_counter()
        interval_s = PROGRESS_INTERVAL_S
        try:
            await self.publish()
        except Exception as error:  # noqa: BLE001 - only a copy is missing: retried later
            self._changed.set()
            interval_s = RETRY_S
            self._tell(error)
        else:
            if self._failing:
                log.info("the history is published again")
            self._failing = False
        took_s = time.perf_counter() - started
        await _wait(self._closing, min(REST * took_s, interval_s))
        if not self._closing.is_set():
            await _wait(self._urgent, interval_s - (time.perf_counter() - started))

    def _tell(self, error: Exception) -> None:
        """Log the first of failures that follow each other."""
        if not self._failing:
            reason = str(error).partition("\n")[0]
            fault_of_the_disk = isinstance(error, OSError | duckdb.Error)
            log.error(
                "the history could not be published; trying again",
                error=reason,
                retry_s=RETRY_S,
                exc_info=None if fault_of_the_disk else error,
            )
        self._failing = True

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0.0)):
            await event.wait()
