"""The job tables: every SQL statement that reads or changes a job. No threads and no asyncio here.

`JobStore` calls these methods in its one thread.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import duckdb
import msgspec

from embup_core.errors import JobConflictError, JobError, UnknownJobError
from serving.jobs.model import (
    FINAL_PHASES,
    EventKind,
    JobRecord,
    JobRequest,
    Phase,
    Progress,
    utc_now,
)
from serving.jobs.storage.database import lock_database, open_database

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

_COLUMNS = JobRecord.__struct_fields__
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM batch_jobs"  # noqa: S608 - column names of our own
_FINAL = ", ".join(f"'{phase}'" for phase in sorted(FINAL_PHASES))


class JobTables:
    """The tables of one job database, in the hands of one thread.

    Each change is one transaction and durable when the method returns (DuckDB syncs its log at each commit).

    What is asked again and again has no ORDER BY … LIMIT, no join and no GROUP BY: DuckDB 2.0 holds on to 4,
    2 and 0.3 kB of each such statement until some ten thousand are done.

    Parameters
    ----------
    path
        The database file; `open` creates it if it is missing.

    Attributes
    ----------
    next_event
        Id of the next event: above those of all committed events.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._lock: int | None = None
        self.next_event = self._next_sequence = 1
        self._counted: tuple[int, dict[str, int]] | None = None

    def open(self) -> None:
        """Open the file; again is harmless.

        Raises
        ------
        JobError
            Another process holds the file, or it is no job database of this version.
        """
        if self._connection is not None:
            return
        if self._lock is None:
            self._lock = lock_database(self.path)
        try:
            self._connection = open_database(self.path)
        except BaseException:
            self._unlock()
            raise
        self.next_event = self._last("event_id", "batch_events") + 1
        self._next_sequence = self._last("sequence", "batch_jobs") + 1
        self._counted = None

    def _last(self, column: str, table: str) -> int:
        query = f"SELECT coalesce(max({column}), 0) FROM {table}"  # noqa: S608 - our own names
        found: list[tuple[int]] = self.connection.execute(query).fetchall()
        return found[0][0]

    def close(self) -> None:
        """Write everything into the one file and close it. Idempotent."""
        try:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def reopen(self) -> None:
        """Close a database that became unusable, and open it again; what was acknowledged is still in it."""
        with suppress(duckdb.Error):
            self.close()
        self._connection = None
        self.open()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The one connection."""
        if self._connection is None:
            raise JobError("The job database is not open.")
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """All or nothing. After an error DuckDB's COMMIT would silently roll back: raise instead."""
        connection = self.connection
        connection.execute("BEGIN")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):
                connection.execute("ROLLBACK")
            raise

    def _one(self, condition: str, parameters: Sequence[Any]) -> JobRecord | None:
        rows = self.connection.execute(f"{_SELECT} {condition}", parameters).fetchall()
        return _record(rows[0]) if rows else None

    def get(self, batch_request_id: str) -> JobRecord:
        """Look one job up; UnknownJobError when there is none of this id."""
        job = self._one("WHERE batch_request_id = ?", [batch_request_id])
        if job is None:
            raise UnknownJobError(
                f"There is no batch request {batch_request_id!r}.",
                remedy="Look for its id in `embup list` or GET /v1/batches.",
            )
        return job

    def changed_since(self, event_id: int) -> JobRecord | None:
        """Return the job of the newest event if its id is at least this one; None without such an event."""
        if self.next_event <= event_id:
            return None
        query = "SELECT batch_request_id FROM batch_events WHERE event_id = ?"
        found = self.connection.execute(query, [self.next_event - 1]).fetchall()
        return self.get(found[0][0])

    def newest(
        self, limit: int, phases: Sequence[Phase] | None, before: int | None = None
    ) -> list[JobRecord]:
        """List jobs, newest first; of some phases only, and below a sequence only, where one is given."""
        condition, parameters = "true", list[Any]()
        if phases is not None:
            condition = "list_contains(?, phase)"
            parameters.append([str(phase) for phase in phases])
        if before is not None:
            condition += " AND sequence < ?"
            parameters.append(before)
        last = self._sequence(f"list_min(max(sequence, {limit:d}))", condition, parameters)
        rows = self.connection.execute(
            f"{_SELECT} WHERE {condition} AND sequence >= ? ORDER BY sequence DESC", [*parameters, last]
        ).fetchall()
        return [_record(row) for row in rows]

    def oldest_live(self) -> JobRecord | None:
        """Give the oldest job that is not finished."""
        first = self._sequence("min(sequence)", f"phase NOT IN ({_FINAL})", [])
        return None if first is None else self._one("WHERE sequence = ?", [first])

    def _sequence(self, which: str, condition: str, parameters: Sequence[Any]) -> int | None:
        query = f"SELECT {which} FROM batch_jobs WHERE {condition}"  # noqa: S608 - our own words
        found: list[tuple[int | None]] = self.connection.execute(query, parameters).fetchall()
        return found[0][0]

    def live_writer(self, output_filepath: str) -> JobRecord | None:
        """Give the job that is not finished and writes to this output."""
        return self._one(f"WHERE output_filepath = ? AND phase NOT IN ({_FINAL})", [output_filepath])

    def remove_old(self, before: datetime) -> int:
        """Remove jobs that ended before a time (UTC, without a zone), with their events; returns how many.

        The newest job stays whatever its age, and with it the numbers that follow the last ones. Where
        nothing at all has happened since that time the clock may be years ahead, and nothing goes.
        """
        newest: tuple[datetime | None] | None = self.connection.execute(
            "SELECT max(occurred_at) FROM batch_events"
        ).fetchone()
        if newest is None or newest[0] is None or newest[0] < before:
            return 0
        old = (
            "SELECT batch_request_id FROM batch_jobs WHERE finished_at < ? "
            "AND sequence < (SELECT max(sequence) FROM batch_jobs)"
        )
        newest_event = "(SELECT max(event_id) FROM batch_events)"
        with self.transaction() as connection:
            connection.execute(
                f"DELETE FROM batch_events WHERE batch_request_id IN ({old}) "  # noqa: S608 - our own words
                f"AND event_id < {newest_event}",
                [before],
            )
            gone = connection.execute(
                f"DELETE FROM batch_jobs WHERE batch_request_id IN ({old})",  # noqa: S608
                [before],
            ).fetchall()
        self._counted = None
        return int(gone[0][0])

    def counts(self) -> dict[str, int]:
        """Count jobs by phase. Each change of a phase adds an event; until then the last answer holds."""
        if self._counted is None or self._counted[0] != self.next_event:
            phases = [str(phase) for phase in Phase if phase != Phase.PAUSED]
            each = ", ".join(f"count(*) FILTER (phase = '{phase}')" for phase in phases)
            query = f"SELECT {each} FROM batch_jobs"  # noqa: S608 - our own words
            found = self.connection.execute(query).fetchall()
            self._counted = (self.next_event, dict(zip(phases, found[0], strict=True)))
        return dict(self._counted[1])

    def by_key(self, idempotency_key: str, digest: str) -> JobRecord | None:
        """Find the job of this key; JobConflictError when it was used for another request."""
        job = self._one("WHERE idempotency_key = ?", [idempotency_key])
        if job is not None and job.request_digest != digest:
            raise JobConflictError(
                f"The Idempotency-Key {idempotency_key!r} was used for another request "
                f"(batch_request_id {job.batch_request_id}).",
                remedy="Send a new key with a new request; repeat a key only with the very same request.",
            )
        return job

    def submit(
        self, request: JobRequest, bytes_total: int, idempotency_key: str | None, digest: str
    ) -> JobRecord:
        """Add a job; JobConflictError when a live one writes to its output or its key was used otherwise."""
        with self.transaction() as connection:
            if idempotency_key is not None and (job := self.by_key(idempotency_key, digest)) is not None:
                return job
            other = self.live_writer(request.output_filepath)
            if other is not None:
                raise JobConflictError(
                    f"The batch request {other.batch_request_id} already writes to"
                    f" {request.output_filepath}.",
                    remedy="Wait for it, cancel it, or name another output_filepath.",
                )
            now = utc_now()
            job = JobRecord(
                batch_request_id=str(uuid4()),
                sequence=self._next_sequence,
                phase=Phase.QUEUED,
                input_filepath=request.input_filepath,
                output_filepath=request.output_filepath,
                on_bad_row=request.on_bad_row,
                overwrite=request.overwrite,
                max_bad_rows=request.max_bad_rows,
                basis=request.basis,
                num_records_processed=0,
                failed_rows=0,
                bytes_done=0,
                bytes_total=bytes_total,
                paused_s=0.0,
                pause_count=0,
                running_s=0.0,
                attempts=0,
                worker_deaths=0,
                cancel_requested=False,
                model_version=None,
                submitted_at=now,
                started_at=None,
                updated_at=now,
                finished_at=None,
                error=None,
                error_code=None,
                error_line=None,
                error_remedy=None,
                idempotency_key=idempotency_key,
                request_digest=digest,
                checkpoint=None,
            )
            places = ", ".join("?" for _ in _COLUMNS)
            connection.execute(
                f"INSERT INTO batch_jobs ({', '.join(_COLUMNS)}) VALUES ({places})",  # noqa: S608
                [getattr(job, column) for column in _COLUMNS],
            )
            self._add_event(
                job, EventKind.SUBMITTED, f"{request.input_filepath} -> {request.output_filepath}"
            )
            self._next_sequence += 1  # as with events, a gap after a rollback does no harm
        return job

    def _change(self, batch_request_id: str, **values: Any) -> JobRecord:
        values["updated_at"] = utc_now()
        assignments = ", ".join(f"{column} = ?" for column in values)
        self.connection.execute(
            f"UPDATE batch_jobs SET {assignments} WHERE batch_request_id = ?",  # noqa: S608 - our own names
            [*values.values(), batch_request_id],
        )
        return self.get(batch_request_id)

    def _add_event(self, job: JobRecord, kind: EventKind, message: str) -> None:
        self.connection.execute(
            "INSERT INTO batch_events VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                self.next_event,
                job.batch_request_id,
                utc_now(),
                str(kind),
                str(job.phase),
                job.num_records_processed,
                message,
            ],
        )
        self.next_event += 1  # a gap after a rollback does no harm

    def begin(self, batch_request_id: str, model_version: str) -> JobRecord:
        """Note that an attempt starts; a finished job comes back unchanged."""
        with self.transaction():
            before = self.get(batch_request_id)
            if before.phase.is_final:
                return before
            job = self._change(
                batch_request_id,
                phase=str(Phase.RUNNING),
                attempts=before.attempts + 1,
                model_version=model_version,
                started_at=before.started_at or utc_now(),
            )
            if before.attempts:
                message = f"attempt {job.attempts} resumes after row {job.num_records_processed}"
                self._add_event(job, EventKind.RESUMED, message)
            else:
                self._add_event(job, EventKind.STARTED, f"model {model_version}")
        return job

    def progress(self, batch_request_id: str, progress: Progress) -> JobRecord:
        """Note a checkpoint that is already durable in the files."""
        with self.transaction():
            return self._change(batch_request_id, **msgspec.structs.asdict(progress))

    def pauses(self, batch_request_id: str, paused_s: float, pause_count: int, running_s: float) -> JobRecord:
        """Note how long a job has stood still so far."""
        with self.transaction():
            return self._change(
                batch_request_id, paused_s=paused_s, pause_count=pause_count, running_s=running_s
            )

    def stopped(self, batch_request_id: str) -> JobRecord:
        """Note that the service stops in the middle of the job."""
        with self.transaction():
            job = self.get(batch_request_id)
            self._add_event(job, EventKind.STOPPED, "the service stops; the job resumes at its next start")
        return job

    def worker_died(self, batch_request_id: str, how: str) -> JobRecord:
        """Note that the worker ended in the middle of the job."""
        with self.transaction():
            before = self.get(batch_request_id)
            job = self._change(batch_request_id, worker_deaths=before.worker_deaths + 1)
            self._add_event(job, EventKind.WORKER_DIED, f"the worker process {how}")
        return job

    def finalizing(self, batch_request_id: str) -> JobRecord:
        """Note that the output is about to be published; a job to be cancelled comes back unchanged."""
        with self.transaction():
            before = self.get(batch_request_id)
            if before.cancel_requested:
                return before
            job = self._change(batch_request_id, phase=str(Phase.FINALIZING))
            self._add_event(job, EventKind.FINALIZING, "all rows are written; publishing the output")
        return job

    def finish(
        self,
        batch_request_id: str,
        phase: Phase,
        error: str | None,
        code: str | None,
        line: int | None,
        remedy: str | None,
    ) -> JobRecord:
        """Note the end."""
        with self.transaction():
            job = self._change(
                batch_request_id,
                phase=str(phase),
                error=error,
                error_code=code,
                error_line=line,
                error_remedy=remedy,
                finished_at=utc_now(),
            )
            self._add_event(job, EventKind(phase.value.lower()), error or f"{job.num_records_processed} rows")
        return job

    def request_cancel(self, batch_request_id: str) -> JobRecord:
        """Note that a job is to be cancelled, or cancel it; JobConflictError when it is too late."""
        with self.transaction():
            job = self.get(batch_request_id)
            if job.phase.is_final or job.phase is Phase.FINALIZING:
                state = "being published" if job.phase is Phase.FINALIZING else f"already {job.phase}"
                raise JobConflictError(
                    f"The batch request {batch_request_id} is {state} and cannot be cancelled.",
                    remedy="Nothing is left to cancel; look at its status.",
                )
            if job.cancel_requested:
                return job
            if job.phase is Phase.QUEUED:
                job = self._change(
                    batch_request_id,
                    cancel_requested=True,
                    phase=str(Phase.CANCELLED),
                    error_code="cancelled",
                    finished_at=utc_now(),
                )
                self._add_event(job, EventKind.CANCELLED, "cancelled before it started")
                return job
            job = self._change(batch_request_id, cancel_requested=True)
            self._add_event(job, EventKind.CANCEL_REQUESTED, "")
        return job


def _record(row: Sequence[Any]) -> JobRecord:
    return msgspec.convert(dict(zip(_COLUMNS, row, strict=True)), JobRecord)
