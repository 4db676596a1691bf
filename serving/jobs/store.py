"""Job state in DuckDB: one file, one process, one thread, one connection. The only SQL that changes jobs.

Every method runs in the store's own thread: a DuckDB connection used from two threads answers wrongly. A
method returns once what it wrote is durable (DuckDB syncs its log at each commit).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from uuid import uuid4

import duckdb
import msgspec
import structlog

from embup_core.errors import JobConflictError, JobError, UnknownJobError
from serving.jobs.database import open_database
from serving.jobs.model import FINAL_PHASES, EventKind, JobRecord, JobRequest, Phase, Progress, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

log = structlog.get_logger("embup.serving.jobs")

P = ParamSpec("P")
T = TypeVar("T")

_COLUMNS = JobRecord.__struct_fields__
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM batch_jobs"  # noqa: S608 - column names of our own
_FINAL = ", ".join(f"'{phase}'" for phase in sorted(FINAL_PHASES))


class JobStore:
    """The jobs of one data folder.

    Parameters
    ----------
    folder
        Where `jobs.duckdb` lies or is to be made.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "jobs.duckdb"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job-store")
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._next_event = 1

    async def open(self) -> None:
        """Open the file, making it if there is none.

        Raises
        ------
        JobError
            Another process holds the file, or it is no job database of this version.
        """
        await self.call(_open)

    async def close(self) -> None:
        """Write everything into the one file and let go of it."""
        await self.call(_close)
        self._thread.shutdown()

    async def call(
        self, function: Callable[Concatenate[JobStore, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function(store, …)` in the store's thread.

        A database that a full disk made unusable is closed and opened again first; what was acknowledged
        is still in it.
        """

        def work() -> T:
            try:
                return function(self, *args, **kwargs)
            except duckdb.FatalException:
                log.exception("the job database became unusable; opening it again")
                _reopen(self)
                return function(self, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # What the rest of the service asks for.

    async def submit(
        self, request: JobRequest, *, bytes_total: int, idempotency_key: str | None, digest: str
    ) -> JobRecord:
        """Add a job; durable when this returns.

        Raises
        ------
        JobConflictError
            Another live job writes to the same output, or the key was used for another request.
        """
        return await self.call(_submit, request, bytes_total, idempotency_key, digest)

    async def by_key(self, idempotency_key: str, digest: str) -> JobRecord | None:
        """Find the job that this key was used for.

        Raises
        ------
        JobConflictError
            The key was used for another request.
        """
        return await self.call(_by_key, idempotency_key, digest)

    async def get(self, batch_request_id: str) -> JobRecord:
        """Look one job up.

        Raises
        ------
        UnknownJobError
            There is none of this id.
        """
        return await self.call(_get, batch_request_id)

    async def newest(self, *, limit: int, phases: Sequence[Phase] | None = None) -> list[JobRecord]:
        """List jobs, newest first, of these phases only if some are given."""
        return await self.call(_newest, limit, phases)

    async def oldest_live(self) -> JobRecord | None:
        """Give the job that is to be worked on now: the oldest that is not finished."""
        return await self.call(_oldest_live)

    async def counts(self) -> dict[str, int]:
        """Count jobs by phase."""
        return await self.call(_counts)

    async def begin(self, batch_request_id: str, *, model_version: str) -> JobRecord:
        """Note that an attempt starts, with which model; a job cancelled meanwhile stays cancelled."""
        return await self.call(_begin, batch_request_id, model_version)

    async def progress(self, batch_request_id: str, progress: Progress) -> JobRecord:
        """Note a checkpoint that is already durable in the files."""
        return await self.call(_progress, batch_request_id, progress)

    async def stopped(self, batch_request_id: str) -> JobRecord:
        """Note that the service stops and will go on with this job at its next start."""
        return await self.call(_stopped, batch_request_id)

    async def finalizing(self, batch_request_id: str) -> JobRecord:
        """Note that the output is about to be published.

        A job whose cancellation was accepted before comes back unchanged.
        """
        return await self.call(_finalizing, batch_request_id)

    async def finish(
        self,
        batch_request_id: str,
        phase: Phase,
        *,
        error: str | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> JobRecord:
        """Note the end: COMPLETED, FAILED or CANCELLED."""
        return await self.call(_finish, batch_request_id, phase, error, line, remedy)

    async def request_cancel(self, batch_request_id: str) -> JobRecord:
        """Note that a job is to be cancelled; one that did not start yet is cancelled at once.

        Raises
        ------
        UnknownJobError
            There is none of this id.
        JobConflictError
            The job is finished, or its output is being published.
        """
        return await self.call(_request_cancel, batch_request_id)

    # Used by the functions below, in the store's thread.

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The one connection; to be used in the store's thread only."""
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


def _open(store: JobStore) -> None:
    if store._connection is not None:  # noqa: SLF001 - these functions are the store's own
        return
    store._connection = open_database(store.path)  # noqa: SLF001
    last = store.connection.execute("SELECT coalesce(max(event_id), 0) FROM batch_events").fetchall()
    store._next_event = int(last[0][0]) + 1  # noqa: SLF001


def _close(store: JobStore) -> None:
    if store._connection is not None:  # noqa: SLF001
        store._connection.close()  # noqa: SLF001
        store._connection = None  # noqa: SLF001


def _reopen(store: JobStore) -> None:
    with suppress(duckdb.Error):
        _close(store)
    _open(store)


def _record(row: Sequence[Any]) -> JobRecord:
    return msgspec.convert(dict(zip(_COLUMNS, row, strict=True)), JobRecord)


def _one(store: JobStore, condition: str, parameters: Sequence[Any]) -> JobRecord | None:
    rows = store.connection.execute(f"{_SELECT} {condition}", parameters).fetchall()
    return _record(rows[0]) if rows else None


def _get(store: JobStore, batch_request_id: str) -> JobRecord:
    job = _one(store, "WHERE batch_request_id = ?", [batch_request_id])
    if job is None:
        raise UnknownJobError(
            f"There is no batch request {batch_request_id!r}.",
            remedy="Use the batch_request_id that POST /v1/batches answered; GET /v1/batches lists them.",
        )
    return job


def _newest(store: JobStore, limit: int, phases: Sequence[Phase] | None) -> list[JobRecord]:
    condition, parameters = "", list[Any]()
    if phases is not None:
        condition = "WHERE list_contains(?, phase)"
        parameters.append([str(phase) for phase in phases])
    rows = store.connection.execute(
        f"{_SELECT} {condition} ORDER BY sequence DESC LIMIT ?", [*parameters, limit]
    ).fetchall()
    return [_record(row) for row in rows]


def _oldest_live(store: JobStore) -> JobRecord | None:
    return _one(store, f"WHERE phase NOT IN ({_FINAL}) ORDER BY sequence LIMIT 1", [])


def _counts(store: JobStore) -> dict[str, int]:
    found = dict(store.connection.execute("SELECT phase, count(*) FROM batch_jobs GROUP BY phase").fetchall())
    return {str(phase): int(found.get(str(phase), 0)) for phase in Phase if phase is not Phase.PAUSED}


def _by_key(store: JobStore, idempotency_key: str, digest: str) -> JobRecord | None:
    job = _one(store, "WHERE idempotency_key = ?", [idempotency_key])
    if job is not None and job.request_digest != digest:
        raise JobConflictError(
            f"The Idempotency-Key {idempotency_key!r} was used for another request "
            f"(batch_request_id {job.batch_request_id}).",
            remedy="Send a new key with a new request; repeat a key only with the very same request.",
        )
    return job


def _submit(
    store: JobStore, request: JobRequest, bytes_total: int, idempotency_key: str | None, digest: str
) -> JobRecord:
    with store.transaction() as connection:
        if idempotency_key is not None and (job := _by_key(store, idempotency_key, digest)) is not None:
            return job
        other = _one(
            store, f"WHERE output_filepath = ? AND phase NOT IN ({_FINAL})", [request.output_filepath]
        )
        if other is not None:
            raise JobConflictError(
                f"The batch request {other.batch_request_id} already writes to {request.output_filepath}.",
                remedy="Wait for it, cancel it, or name another output_filepath.",
            )
        now = utc_now()
        last = connection.execute("SELECT coalesce(max(sequence), 0) FROM batch_jobs").fetchall()
        job = JobRecord(
            batch_request_id=str(uuid4()),
            sequence=int(last[0][0]) + 1,
            phase=Phase.QUEUED,
            input_filepath=request.input_filepath,
            output_filepath=request.output_filepath,
            on_bad_row=request.on_bad_row,
            overwrite=request.overwrite,
            num_records_processed=0,
            failed_rows=0,
            bytes_done=0,
            bytes_total=bytes_total,
            paused_s=0.0,
            pause_count=0,
            running_s=0.0,
            attempts=0,
            cancel_requested=False,
            model_version=None,
            submitted_at=now,
            started_at=None,
            updated_at=now,
            finished_at=None,
            error=None,
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
        _add_event(store, job, EventKind.SUBMITTED, f"{request.input_filepath} -> {request.output_filepath}")
    return job


def _change(store: JobStore, batch_request_id: str, **values: Any) -> JobRecord:
    values["updated_at"] = utc_now()
    assignments = ", ".join(f"{column} = ?" for column in values)
    store.connection.execute(
        f"UPDATE batch_jobs SET {assignments} WHERE batch_request_id = ?",  # noqa: S608 - our own names
        [*values.values(), batch_request_id],
    )
    return _get(store, batch_request_id)


def _add_event(store: JobStore, job: JobRecord, kind: EventKind, message: str) -> None:
    store.connection.execute(
        "INSERT INTO batch_events VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            store._next_event,  # noqa: SLF001
            job.batch_request_id,
            utc_now(),
            str(kind),
            str(job.phase),
            job.num_records_processed,
            message,
        ],
    )
    store._next_event += 1  # noqa: SLF001 - a gap after a rollback does no harm


def _begin(store: JobStore, batch_request_id: str, model_version: str) -> JobRecord:
    with store.transaction():
        before = _get(store, batch_request_id)
        if before.phase.is_final:
            return before
        job = _change(
            store,
            batch_request_id,
            phase=str(Phase.RUNNING),
            attempts=before.attempts + 1,
            model_version=model_version,
            started_at=before.started_at or utc_now(),
        )
        if before.attempts:
            message = f"attempt {job.attempts} goes on after row {job.num_records_processed}"
            _add_event(store, job, EventKind.RESUMED, message)
        else:
            _add_event(store, job, EventKind.STARTED, f"model {model_version}")
    return job


def _progress(store: JobStore, batch_request_id: str, progress: Progress) -> JobRecord:
    with store.transaction():
        return _change(store, batch_request_id, **msgspec.structs.asdict(progress))


def _stopped(store: JobStore, batch_request_id: str) -> JobRecord:
    with store.transaction():
        job = _get(store, batch_request_id)
        _add_event(store, job, EventKind.STOPPED, "the service stops; the job goes on at its next start")
    return job


def _finalizing(store: JobStore, batch_request_id: str) -> JobRecord:
    with store.transaction():
        before = _get(store, batch_request_id)
        if before.cancel_requested:
            return before
        job = _change(store, batch_request_id, phase=str(Phase.FINALIZING))
        _add_event(store, job, EventKind.FINALIZING, "all rows are written; publishing the output")
    return job


def _finish(
    store: JobStore,
    batch_request_id: str,
    phase: Phase,
    error: str | None,
    line: int | None,
    remedy: str | None,
) -> JobRecord:
    with store.transaction():
        job = _change(
            store,
            batch_request_id,
            phase=str(phase),
            error=error,
            error_line=line,
            error_remedy=remedy,
            finished_at=utc_now(),
        )
        _add_event(store, job, EventKind(phase.value.lower()), error or f"{job.num_records_processed} rows")
    return job


def _request_cancel(store: JobStore, batch_request_id: str) -> JobRecord:
    with store.transaction():
        job = _get(store, batch_request_id)
        if job.phase.is_final or job.phase is Phase.FINALIZING:
            state = "being published" if job.phase is Phase.FINALIZING else f"already {job.phase}"
            raise JobConflictError(
                f"The batch request {batch_request_id} is {state} and cannot be cancelled.",
                remedy="Nothing is left to cancel; look at its status.",
            )
        if job.cancel_requested:
            return job
        if job.phase is Phase.QUEUED:
            job = _change(
                store,
                batch_request_id,
                cancel_requested=True,
                phase=str(Phase.CANCELLED),
                finished_at=utc_now(),
            )
            _add_event(store, job, EventKind.CANCELLED, "cancelled before it started")
            return job
        job = _change(store, batch_request_id, cancel_requested=True)
        _add_event(store, job, EventKind.CANCEL_REQUESTED, "")
    return job
