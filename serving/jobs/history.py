"""What people query: copies of the job tables that any process may open while the service runs.

The job database itself cannot be opened by anyone else while the service holds it, not even for reading. So
the tables are published beside it by rename, as Parquet and as a DuckDB file that older clients read too.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import duckdb
import structlog

from serving.jobs.model import Phase

if TYPE_CHECKING:
    from pathlib import Path

    from serving.jobs.store import JobStore
    from serving.jobs.tables import JobTables

log = structlog.get_logger("embup.serving.history")

PROGRESS_INTERVAL_S = 1.0
MAX_SHARE = 0.05  # of the store's time that progress snapshots may take once the history is long
STORAGE_VERSION = "v1.0.0"

_STATUS = " ".join(f"WHEN '{phase}' THEN '{phase.request_status}'" for phase in Phase)
JOBS_QUERY = f"""
SELECT batch_request_id,
       CASE phase {_STATUS} END AS status,
       phase, input_filepath, output_filepath, num_records_processed, failed_rows, bytes_done, bytes_total,
       CASE WHEN running_s > 0 THEN num_records_processed / running_s END AS rows_per_second,
       running_s, paused_s, pause_count, attempts, on_bad_row, overwrite, model_version, idempotency_key,
       submitted_at, started_at, updated_at, finished_at, error, error_line, error_remedy
FROM batch_jobs ORDER BY sequence
"""  # noqa: S608 - words of our own
EVENTS_QUERY = """
SELECT event_id, batch_request_id, occurred_at, kind, phase, num_records_processed, message
FROM batch_events ORDER BY event_id
"""


class HistoryPublisher:
    """Publishes snapshots: at once after a state change, at most once a second on progress.

    Parameters
    ----------
    store
        The job store whose tables are published.
    folder
        Gets `jobs.parquet`, `events.parquet` and `history.duckdb`.
    """

    def __init__(self, store: JobStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = False

    def note_progress(self) -> None:
        """Ask for a snapshot when one is due again."""
        self._changed.set()

    def note_change(self) -> None:
        """Ask for a snapshot now."""
        self._changed.set()
        self._urgent.set()

    async def run(self) -> None:
        """Publish until `close` is called, and one last time then."""
        while not self._closing:
            await self._changed.wait()
            self._changed.clear()
            self._urgent.clear()
            started = time.perf_counter()
            try:
                await self.publish()
            except (OSError, duckdb.IOException) as error:
                reason = str(error).partition("\n")[0]
                log.error("the history could not be published", error=reason)  # noqa: TRY400 - the disk's fault
            except Exception:
                # History is a copy: the service goes on without a fresh one, until the next change.
                log.exception("the history could not be published")
            pause_s = max(PROGRESS_INTERVAL_S, (time.perf_counter() - started) / MAX_SHARE)
            try:
                async with asyncio.timeout(pause_s):
                    await self._urgent.wait()
            except TimeoutError:
                pass

    def close(self) -> None:
        """Let `run` publish what is left and return."""
        self._closing = True
        self.note_change()

    async def publish(self) -> None:
        """Write all three files now."""
        await self._store.call(_publish, self._folder)


def _publish(tables: JobTables, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    connection = tables.connection
    for name, query in (("jobs", JOBS_QUERY), ("events", EVENTS_QUERY)):
        new = folder / f".{name}.parquet.new"
        connection.execute(f"COPY ({query}) TO {_quoted(new)} (FORMAT parquet)")
        new.replace(folder / f"{name}.parquet")
    new = folder / ".history.duckdb.new"
    for leftover in (new, new.with_name(new.name + ".wal")):
        leftover.unlink(missing_ok=True)
    connection.execute(f"ATTACH {_quoted(new)} AS history (STORAGE_VERSION '{STORAGE_VERSION}')")
    try:
        connection.execute(f"CREATE TABLE history.batch_jobs AS {JOBS_QUERY}")
        connection.execute(f"CREATE TABLE history.batch_events AS {EVENTS_QUERY}")
    finally:
        connection.execute("DETACH history")
    new.replace(folder / "history.duckdb")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
