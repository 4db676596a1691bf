"""The published files and the private database that they are copied from. No asyncio here.

A history only grows, and little of it changes at a time: so a private database takes in what changed, and
publishing is a copy and a rename. It is a DuckDB of its own, in a thread of its own: a full disk under the
history does no harm to the job database, and requests for a status do not wait for files being written.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from serving.jobs.history.published import EVENTS, JOBS
from serving.jobs.model import FINAL_PHASES, Phase
from serving.jobs.storage.database import ONE_THREAD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from serving.jobs.history.published import PublishedTable
    from serving.jobs.storage.tables import JobTables

DATABASE = "history.duckdb"
STORAGE_VERSION = "v1.0.0"  # clients older than ours read the file too
MEMORY_LIMIT = "256MB"
PUBLICATIONS_OF_ONE_OPENING = 100  # DuckDB 2.0 keeps 2 kB of each until its database is closed
_WORK = ".work"
_AT_WORK = ", ".join(f"'{phase}'" for phase in Phase if phase not in {*FINAL_PHASES, Phase.QUEUED})


class Changes(NamedTuple):
    """What the job database is asked for: rows that changed after an event, into files.

    Attributes
    ----------
    after_event
        The last event that is known already; 0 asks for everything.
    jobs, events
        Parquet files to write.
    """

    after_event: int
    jobs: Path
    events: Path


def export_changes(tables: JobTables, changes: Changes) -> None:
    """Write the rows that changed; in the store's thread.

    Every change of a job adds an event, but for progress, which only a job that is worked on makes.
    """
    connection, last = tables.connection, changes.after_event
    if not last:
        _write_parquet(connection, f"{JOBS.query} ORDER BY sequence", changes.jobs)
        _write_parquet(connection, f"{EVENTS.query} ORDER BY event_id", changes.events)
        return
    # Two statements instead of one with a subquery: DuckDB 2.0 holds on to 2 kB of each join for long.
    new = connection.execute("SELECT batch_request_id FROM batch_events WHERE event_id > ?", [last])
    changed = sorted({job for (job,) in new.fetchall()})
    condition = f"list_contains(?, batch_request_id) OR phase IN ({_AT_WORK})"
    _write_parquet(connection, f"{JOBS.query} WHERE {condition} ORDER BY sequence", changes.jobs, [changed])
    _write_parquet(connection, f"{EVENTS.query} WHERE event_id > ? ORDER BY event_id", changes.events, [last])


class Snapshots:
    """Publishes into one folder. All methods run in one thread, `begin` before each `publish`.

    Parameters
    ----------
    folder
        Gets `history.duckdb`, `jobs.parquet` and `events.parquet`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._work = folder / _WORK
        self._database = self._work
        self._builds = 0
        self._publications = 0
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._last_event = 0
        self._last_event_in_parquet = -1
        self._in_doubt = True

    def begin(self) -> Changes:
        """Say which changes the next `publish` needs: all rows, when the last one did not come to its end."""
        if self._in_doubt:
            self.close()
            self._work.mkdir(parents=True)
        self._in_doubt = True
        return Changes(self._last_event, self._work / "changed_jobs", self._work / "new_events")

    def publish(self, changes: Changes) -> None:
        """Take the changes in and publish all files, each in one step."""
        if self._connection is None:
            self._builds += 1  # DuckDB remembers a path whose file became unusable
            self._database = self._work / f"{self._builds}.duckdb"
            connection = self._connection = self._opened()
            self._build(connection, changes)
        else:
            if self._publications % PUBLICATIONS_OF_ONE_OPENING == 0:
                self._connection.close()
                self._connection = self._opened()
            connection = self._connection
            self._take_in(connection, changes)
        self._publications += 1
        found = connection.execute("SELECT coalesce(max(event_id), 0) FROM batch_events").fetchall()
        self._last_event = int(found[0][0])
        connection.execute("CHECKPOINT")  # everything is in the one file now
        new = self._work / DATABASE
        shutil.copyfile(self._database, new)
        self._put(new)
        self._put_parquet(connection, JOBS)
        if self._last_event != self._last_event_in_parquet:
            self._put_parquet(connection, EVENTS)
            self._last_event_in_parquet = self._last_event
        _limit_memory(connection)
        self._in_doubt = False

    def close(self) -> None:
        """Remove everything but the published files; the next `publish` makes it anew."""
        connection, self._connection = self._connection, None
        self._last_event, self._last_event_in_parquet, self._in_doubt = 0, -1, True
        if connection is not None:
            with suppress(duckdb.Error):
                connection.close()
        shutil.rmtree(self._work, ignore_errors=True)

    def _opened(self) -> duckdb.DuckDBPyConnection:
        config: dict[str, Any] = {**ONE_THREAD, "storage_compatibility_version": STORAGE_VERSION}
        connection = duckdb.connect(str(self._database), config=config)
        _limit_memory(connection)
        return connection

    @staticmethod
    def _build(connection: duckdb.DuckDBPyConnection, changes: Changes) -> None:
        for table, rows in ((JOBS, changes.jobs), (EVENTS, changes.events)):
            connection.execute(f"CREATE TABLE {table.name} AS FROM read_parquet({_quoted(rows)})")
            connection.execute(f"COMMENT ON TABLE {table.name} IS {_quoted(table.meaning)}")
            for column in table.columns:
                name = f"{table.name}.{column.name}"
                connection.execute(f"COMMENT ON COLUMN {name} IS {_quoted(column.meaning)}")

    @staticmethod
    def _take_in(connection: duckdb.DuckDBPyConnection, changes: Changes) -> None:
        connection.execute("BEGIN")
        connection.execute(
            f"MERGE INTO {JOBS.name} USING read_parquet({_quoted(changes.jobs)}) AS changed"
            " USING (batch_request_id) WHEN MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT"
        )
        connection.execute(f"INSERT INTO {EVENTS.name} FROM read_parquet({_quoted(changes.events)})")
        connection.execute("COMMIT")

    def _put_parquet(self, connection: duckdb.DuckDBPyConnection, table: PublishedTable) -> None:
        new = self._work / table.parquet
        _write_parquet(connection, f"FROM {table.name}", new)
        self._put(new)

    def _put(self, new: Path) -> None:
        """Give a whole file its name; its content is on the disk first, should the power fail."""
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(self._folder / new.name)


def _limit_memory(connection: duckdb.DuckDBPyConnection) -> None:
    """Bound what DuckDB may hold; told so, it also gives the system back what it freed."""
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")


def _write_parquet(
    connection: duckdb.DuckDBPyConnection, query: str, path: Path, parameters: Sequence[Any] = ()
) -> None:
    connection.execute(f"COPY ({query}) TO {_quoted(path)} (FORMAT parquet)", parameters)


def _quoted(text: Path | str) -> str:
    return "'" + str(text).replace("'", "''") + "'"
