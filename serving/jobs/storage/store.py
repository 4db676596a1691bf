"""The job store: the job tables behind one thread, for a service that must not wait on a disk.

Every method runs in the store's own thread: a DuckDB connection used from two threads answers wrongly. A
method returns once what it wrote is durable.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

import duckdb
import structlog

from serving.jobs.model import utc_now
from serving.jobs.storage.tables import JobTables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from serving.jobs.model import JobRecord, JobRequest, Phase, Progress

log = structlog.get_logger("embup.serving.jobs")

P = ParamSpec("P")
T = TypeVar("T")

_DAYS_A_MONTH = 30.44


class JobStore:
    """The jobs of one data folder.

    Parameters
    ----------
    folder
        Where `jobs.duckdb` lies or is to be made.
    keep_months
        How long ended jobs stay; 0 keeps all. Older ones are removed when the store is opened.
    """

    def __init__(self, folder: Path, *, keep_months: int = 0) -> None:
        self._keep_months = keep_months
        self._tables = JobTables(folder / "jobs.duckdb")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job-store")

    async def open(self) -> None:
        """Open the file, making it if there is none.

        Raises
        ------
        JobError
            Another process holds the file, or it is no job database of this version.
        """
        await self.call(JobTables.open)
        if self._keep_months:
            before = utc_now() - timedelta(days=self._keep_months * _DAYS_A_MONTH)
            removed = await self.call(JobTables.remove_old, before)
            if removed:
                log.info("old jobs are removed", jobs=removed, ended_before=f"{before:%Y-%m-%d}")

    async def close(self) -> None:
        """Write everything into the one file and close it."""
        await self.call(JobTables.close)
        self._thread.shutdown()

    async def call(
        self, function: Callable[Concatenate[JobTables, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function(tables, …)` in the store's thread.

        A full disk makes the database unusable. It is then closed and opened again; everything acknowledged
        is still in it. The function runs a second time only if its transaction was not committed.
        """

        def work() -> T:
            next_event = self._tables.next_event
            try:
                return function(self._tables, *args, **kwargs)
            except duckdb.FatalException as error:
                reason = str(error).partition("\n")[0]
                log.warning("the job database became unusable; opening it again", error=reason)
                self._tables.reopen()
                committed = self._tables.changed_since(next_event)
                if committed is not None:
                    return cast("T", committed)  # what adds an event returns the record of its job
                return function(self._tables, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def submit(
        self, request: JobRequest, *, bytes_total: int, idempotency_key: str | None, digest: str
    ) -> JobRecord:
        """Add a job; durable when this returns.

        Raises
        ------
        JobConflictError
            Another live job writes to the same output, or the key was used for another request.
        """
        return await self.call(JobTables.submit, request, bytes_total, idempotency_key, digest)

    async def by_key(self, idempotency_key: str, digest: str) -> JobRecord | None:
        """Find the job that this key was used for.

        Raises
        ------
        JobConflictError
            The key was used for another request.
        """
        return await self.call(JobTables.by_key, idempotency_key, digest)

    async def is_written(self, output_filepath: str) -> bool:
        """Whether a live job writes to this output."""
        return await self.call(JobTables.live_writer, output_filepath) is not None

    async def get(self, batch_request_id: str) -> JobRecord:
        """Look one job up.

        Raises
        ------
        UnknownJobError
            There is none of this id.
        """
        return await self.call(JobTables.get, batch_request_id)

    async def newest(
        self, *, limit: int, phases: Sequence[Phase] | None = None, before: int | None = None
    ) -> list[JobRecord]:
        """List jobs, newest first.

        Parameters
        ----------
        limit
            Most of them.
        phases
            Only of these.
        before
            Only those whose `sequence` is lower: the next page after a job.
        """
        return await self.call(JobTables.newest, limit, phases, before)

    async def oldest_live(self) -> JobRecord | None:
        """Give the job that is to be worked on now: the oldest that is not finished."""
        return await self.call(JobTables.oldest_live)

    async def counts(self) -> dict[str, int]:
        """Count jobs by phase."""
        return await self.call(JobTables.counts)

    async def begin(self, batch_request_id: str, *, model_version: str) -> JobRecord:
        """Note that an attempt starts, with which model; a job cancelled meanwhile stays cancelled."""
        return await self.call(JobTables.begin, batch_request_id, model_version)

    async def progress(self, batch_request_id: str, progress: Progress) -> JobRecord:
        """Note a checkpoint that is already durable in the files."""
        return await self.call(JobTables.progress, batch_request_id, progress)

    async def pauses(
        self, batch_request_id: str, *, paused_s: float, pause_count: int, running_s: float
    ) -> JobRecord:
        """Note how long a job has stood still so far."""
        return await self.call(JobTables.pauses, batch_request_id, paused_s, pause_count, running_s)

    async def stopped(self, batch_request_id: str) -> JobRecord:
        """Record that the service stops and will resume this job at its next start."""
        return await self.call(JobTables.stopped, batch_request_id)

    async def worker_died(self, batch_request_id: str, *, how: str) -> JobRecord:
        """Note that the worker ended in the middle of the job, and how."""
        return await self.call(JobTables.worker_died, batch_request_id, how)

    async def finalizing(self, batch_request_id: str) -> JobRecord:
        """Note that the output is about to be published.

        A job whose cancellation was accepted before comes back unchanged.
        """
        return await self.call(JobTables.finalizing, batch_request_id)

    async def finish(
        self,
        batch_request_id: str,
        phase: Phase,
        *,
        error: str | None = None,
        code: str | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> JobRecord:
        """Note the end: COMPLETED, FAILED or CANCELLED."""
        return await self.call(JobTables.finish, batch_request_id, phase, error, code, line, remedy)

    async def request_cancel(self, batch_request_id: str) -> JobRecord:
        """Note that a job is to be cancelled; one that did not start yet is cancelled at once.

        Raises
        ------
        UnknownJobError
            There is none of this id.
        JobConflictError
            The job is finished, or its output is being published.
        """
        return await self.call(JobTables.request_cancel, batch_request_id)
