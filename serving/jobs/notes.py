"""Changes of jobs go from here to the store, the log, the history, and the followers of a job."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from embup_core.errors import BadRowError, EmbupError, InputError, JobConflictError, OutputError
from serving.jobs.model import Phase
from serving.jobs.worker import protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serving.jobs.history.publisher import HistoryPublisher
    from serving.jobs.model import JobRecord
    from serving.jobs.storage.store import JobStore
    from serving.jobs.totals import BatchTotals

log = structlog.get_logger("embup.serving.jobs")


class JobNotes:
    """Notes changes of jobs.

    Parameters
    ----------
    store, history
        Where they are stored, and published.
    totals
        Where ended batches are counted.
    public
        Redacts a text for clients: why a job failed is shown in its status, in streams,
        and in the published history.

    Attributes
    ----------
    changes
        How often anything changed so far.
    """

    def __init__(
        self, store: JobStore, history: HistoryPublisher, totals: BatchTotals, public: Callable[[str], str]
    ) -> None:
        self._store = store
        self._history = history
        self._totals = totals
        self._public = public
        self._changed = asyncio.Event()
        self.changes = 0

    async def changed(self, since: int, timeout_s: float) -> None:
        """Wait until `changes` is no longer `since`, or the time is over."""
        if self.changes != since:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def tell(self, *, urgent: bool) -> None:
        """Tell the history, and who follows a job, that something changed; a change of phase is urgent."""
        if urgent:
            self._history.note_change()
        else:
            self._history.note_progress()
        self.changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def note(self, change: Awaitable[JobRecord], *, log_as: str) -> JobRecord:
        """Wait until a change is stored, log and tell it; give the record."""
        job = await change
        log.info(
            log_as,
            batch_request_id=job.batch_request_id,
            rows=job.num_records_processed,
            attempt=job.attempts,
            **_failure(job),
        )
        self.tell(urgent=True)
        return job

    async def finish(self, job_id: str, phase: Phase, error: Exception | None = None) -> JobRecord:
        """Note a job's end, and what it failed of."""
        message, line, remedy = None, None, None
        code = "cancelled" if phase is Phase.CANCELLED else None
        if isinstance(error, InputError | OutputError | JobConflictError):  # of paths that the client named
            message, remedy, code = error.message, error.remedy, error.code
            line = error.line if isinstance(error, BadRowError) else None
        elif error is not None:
            log.error("a batch fails by the service", batch_request_id=job_id, error=str(error))
            known = error if isinstance(error, EmbupError) else unforeseen(error)
            message, remedy, code = self._public(known.message), self._public(known.remedy), known.code
        job = await self.note(
            self._store.finish(job_id, phase, error=message, code=code, line=line, remedy=remedy),
            log_as=f"job {phase.value.lower()}",
        )
        self._totals.end(job)
        return job


def unforeseen(error: Exception) -> EmbupError:
    """Describe an unexpected error without its text, which may name any path."""
    kind = error.kind if isinstance(error, protocol.UnexpectedError) else type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        kind = error.strerror
    return EmbupError(
        f"The service met an unexpected error ({kind}); its text is in the service's log.",
        remedy="Mend what the log names, or report it, and submit the batch again.",
    )


def _failure(job: JobRecord) -> dict[str, str | None]:
    """What a log line says of it. Not what is said of a row, which quotes it: the status has that."""
    if job.error_code is None:
        return {}
    error = job.error if job.error_line is None else f"line {job.error_line} of the input"
    return {"error_code": job.error_code, "error": error}
