"""The background task: takes the oldest live job, works on it slice by slice, and says what became of it.

The order of things is what makes a restart exact. Per checkpoint: the files first (fdatasync), then the
database. At the end: all rows durable and the last checkpoint, which names the part file by its inode, with
FINALIZING in the database; then the rename; then COMPLETED. So whatever is in the database is already true of
the files.

Array work runs in one worker thread, under the gate. Syncing files and writing the database do not hold it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import duckdb
import msgspec
import structlog

from embup_core.batch import BatchRun, BatchSpec, Checkpoint, discard_part_files, finish_publication
from embup_core.errors import (
    ArtifactError,
    BadRowError,
    EmbupError,
    JobConflictError,
    JobError,
    NoArtifactError,
    OutputError,
)
from serving.jobs.live import AttemptClock, LiveJob
from serving.jobs.model import JobRecord, Phase, Progress
from serving.jobs.paths import require_unmoved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from embup_core.upsampler import Upsampler
    from serving.gate import BatchLease, PriorityGate
    from serving.hot_model import HotModel
    from serving.jobs.history import HistoryPublisher
    from serving.jobs.store import JobStore
    from serving.settings import ServingSettings

log = structlog.get_logger("embup.serving.jobs")

T = TypeVar("T")

RETRY_S = 5.0  # after the database or the registry failed: long enough for a disk to be cleared


class BatchEngine:
    """Works on batch jobs, one at a time, in the order of their submission.

    Parameters
    ----------
    store, history, models, gate, settings
        The service's parts.
    executor
        One thread for the array work and the files of the batch.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        history: HistoryPublisher,
        models: HotModel,
        gate: PriorityGate,
        settings: ServingSettings,
        executor: Executor,
    ) -> None:
        self._store = store
        self._history = history
        self._models = models
        self._gate = gate
        self._settings = settings
        self._executor = executor
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self.changes = 0
        self.live: LiveJob | None = None
        self.rows_total = 0
        self.failure: str | None = None

    # What controllers call.

    def notice(self) -> None:
        """Look for work: a job was submitted, or a decoder came into service."""
        self._wake.set()
        self._tell(urgent=True)

    def cancel(self, batch_request_id: str) -> None:
        """Stop working on a job whose cancellation is already in the store."""
        # A job that is not being worked on needs no more than what the store knows.
        if self.live is not None and self.live.batch_request_id == batch_request_id:
            self.live.cancelled = True
        self.notice()

    async def changed(self, since: int, timeout_s: float) -> None:
        """Wait until `changes` is no longer `since`, or the time is over."""
        if self.changes != since:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    @property
    def stopping(self) -> bool:
        """Whether the service is about to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let `run` return at the next slice's edge, with a durable checkpoint."""
        self._stopping.set()
        self._wake.set()
        self._tell(urgent=False)

    # The task.

    async def run(self) -> None:
        """Work until `stop` is called."""
        while not self.stopping:
            self._wake.clear()
            try:
                job = await self._store.oldest_live()
                idle = job is None or not await self._work_on(job)
                self.failure = None
            except Exception as error:
                # Not a fault of the job (those end it): the database or the disk. Nothing is lost, so wait.
                log.exception("the batch engine cannot go on; trying again", retry_s=RETRY_S)
                self.failure = f"{type(error).__name__}: {error}"
                await self._sleep(RETRY_S)
                continue
            if idle:
                await self._wake.wait()

    async def _work_on(self, job: JobRecord) -> bool:
        """Bring one job as far as it goes; False when it must wait for a decoder."""
        job_id = job.batch_request_id
        spec = BatchSpec(
            input_path=Path(job.input_filepath),
            output_path=Path(job.output_filepath),
            on_bad_row=job.on_bad_row,
            overwrite=job.overwrite,
        )
        checkpoint = None if job.checkpoint is None else msgspec.json.decode(job.checkpoint, type=Checkpoint)
        if await self._ended_before(job, spec, checkpoint):
            return True
        try:
            upsampler = await self._models.version_for_job(job.model_version)
        except ArtifactError as error:
            if job.model_version is None:
                log.warning("a batch waits for a decoder", batch_request_id=job_id, error=str(error))
                return False
            reason = (
                f"The decoder {job.model_version}, with which this job started, cannot be loaded: {error}"
            )
            remove = partial(discard_part_files, spec, checkpoint)
            await self._end(job_id, Phase.FAILED, remove, NoArtifactError(reason))
            return True
        self.live = LiveJob(job_id, ended_pauses_s=job.paused_s, pause_count=job.pause_count)
        try:
            await self._attempt(job, spec, upsampler, checkpoint)
        finally:
            self.live = None
        return True

    async def _ended_before(self, job: JobRecord, spec: BatchSpec, checkpoint: Checkpoint | None) -> bool:
        """End a job for which nothing is left to compute; False when there is.

        It was published without a note of it, cancelled, or its paths lead elsewhere by now. Neither the
        input nor the decoder need be there any more.
        """
        job_id = job.batch_request_id
        roots, reserved = self._settings.batch_roots, self._settings.reserved_folders
        error: Exception | None = None
        try:
            if (
                job.phase is Phase.FINALIZING
                and checkpoint is not None
                and await self._in_thread(partial(finish_publication, spec, checkpoint))
            ):
                await self._finish(job_id, Phase.COMPLETED)
                return True
            await self._in_thread(
                partial(require_unmoved, spec.input_path, spec.output_path, roots, reserved)
            )
        except (EmbupError, OSError) as found:
            if _is_of_the_service(found):
                raise
            error = found
        if error is None and not job.cancel_requested:
            return False
        remove: Callable[[], None] | None = partial(discard_part_files, spec, checkpoint)
        if isinstance(error, OutputError) or (checkpoint is None and not job.attempts):
            remove = None  # the path cannot be trusted, or nothing was written
        if job.cancel_requested:
            await self._end(job_id, Phase.CANCELLED, remove)
        else:
            await self._end(job_id, Phase.FAILED, remove, error)
        return True

    async def _attempt(
        self, job: JobRecord, spec: BatchSpec, upsampler: Upsampler, checkpoint: Checkpoint | None
    ) -> None:
        job_id = job.batch_request_id
        job = await self._note(
            self._store.begin(job_id, model_version=upsampler.version), log_as="job started"
        )
        if job.phase.is_final:  # cancelled between being found and being begun
            return
        if job.cancel_requested:
            await self._end(job_id, Phase.CANCELLED, partial(discard_part_files, spec, checkpoint))
            return
        run: BatchRun | None = None
        try:
            run = await self._in_thread(
                partial(
                    BatchRun, spec, upsampler, checkpoint=checkpoint, chunk_rows=self._settings.chunk_rows
                )
            )
            ended = await self._read_and_write(job, run)
            if ended is Phase.CANCELLED:
                await self._end(job_id, Phase.CANCELLED, run.abandon)
            elif ended is Phase.FINALIZING:
                await self._publish(job, run)
            else:
                await self._in_thread(run.close)
                await self._note(self._store.stopped(job_id), log_as="job stopped")
        except Exception as error:
            if _is_of_the_service(error):
                await self._let_go(run)
                raise
            if not isinstance(error, EmbupError | OSError):
                log.exception("a batch met an unexpected error", batch_request_id=job_id)
            remove: Callable[[], None] | None = None  # what lies there may be another process's
            if run is not None:
                remove = run.abandon
            elif checkpoint is not None:
                remove = partial(discard_part_files, spec, checkpoint)
            await self._end(job_id, Phase.FAILED, remove, error)

    async def _read_and_write(self, job: JobRecord, run: BatchRun) -> Phase:
        """Work through the input; FINALIZING at its end, CANCELLED or RUNNING when it stops before."""
        live = self.live
        assert live is not None  # noqa: S101 - set by the one caller
        clock = AttemptClock(job)
        more = True
        while more and not self.stopping and not live.cancelled:
            due = time.perf_counter() + self._settings.checkpoint_interval_s
            while more and not self.stopping and not live.cancelled:
                more = await self._turn(run, live)
                if time.perf_counter() >= due:
                    break
            await self._checkpoint(job.batch_request_id, run, live, clock)
        if live.cancelled:
            return Phase.CANCELLED
        return Phase.RUNNING if more else Phase.FINALIZING

    async def _turn(self, run: BatchRun, live: LiveJob) -> bool:
        """Hold the gate for some slices; False when the input is exhausted."""
        if not self._gate.free_for_batch:
            live.pause()
        async with self._gate.batch() as lease:
            live.go_on()
            rows = run.rows
            more = await self._in_thread(partial(_slices, run, lease, self._settings.slice_budget_ms / 1e3))
            self.rows_total += run.rows - rows
            return more

    async def _checkpoint(self, job_id: str, run: BatchRun, live: LiveJob, clock: AttemptClock) -> None:
        checkpoint = await self._in_thread(run.sync)
        clock.measure(live, rows=checkpoint.rows, bytes_done=checkpoint.input_offset)
        progress = Progress(
            checkpoint=msgspec.json.encode(checkpoint).decode(),
            num_records_processed=checkpoint.rows,
            failed_rows=checkpoint.failed_rows,
            bytes_done=checkpoint.input_offset,
            paused_s=live.paused_s,
            pause_count=live.pause_count,
            running_s=clock.running_s,
        )
        await self._store.progress(job_id, progress)
        self._tell(urgent=False)

    async def _publish(self, job: JobRecord, run: BatchRun) -> None:
        job = await self._note(self._store.finalizing(job.batch_request_id), log_as="job finalizing")
        if job.phase is not Phase.FINALIZING:  # a cancellation came first
            await self._end(job.batch_request_id, Phase.CANCELLED, run.abandon)
            return
        await self._in_thread(run.publish)
        await self._finish(job.batch_request_id, Phase.COMPLETED)

    async def _end(
        self,
        job_id: str,
        phase: Phase,
        remove: Callable[[], None] | None,
        error: Exception | None = None,
    ) -> None:
        """Remove what was written, and note the end: a file that cannot be removed does not keep a job."""
        if remove is not None:
            try:
                await self._in_thread(remove)
            except (EmbupError, OSError) as refusal:
                log.warning("a part file stays behind", batch_request_id=job_id, error=str(refusal))
        await self._finish(job_id, phase, error)

    async def _finish(self, job_id: str, phase: Phase, error: Exception | None = None) -> None:
        message, line, remedy = None, None, None
        if isinstance(error, EmbupError):
            message, remedy = error.message, error.remedy
            line = error.line if isinstance(error, BadRowError) else None
        elif isinstance(error, OSError):
            message, remedy = str(error), "Mend what the message names and submit the batch again."
        elif error is not None:
            message = f"The service met an unexpected error: {type(error).__name__}: {error}"
            remedy = "The service's log says where it happened; please report it."
        await self._note(
            self._store.finish(job_id, phase, error=message, line=line, remedy=remedy),
            log_as=f"job {phase.value.lower()}",
        )

    async def _note(self, change: Awaitable[JobRecord], *, log_as: str) -> JobRecord:
        job = await change
        log.info(
            log_as,
            batch_request_id=job.batch_request_id,
            rows=job.num_records_processed,
            attempt=job.attempts,
            error=job.error,
        )
        self._tell(urgent=True)
        return job

    def _tell(self, *, urgent: bool) -> None:
        if urgent:
            self._history.note_change()
        else:
            self._history.note_progress()
        self.changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _let_go(self, run: BatchRun | None) -> None:
        if run is not None:
            await self._in_thread(run.close)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _slices(run: BatchRun, lease: BatchLease, budget_s: float) -> bool:
    """Work in the worker thread until somebody waits, the budget is spent, or the input is exhausted."""
    deadline = time.perf_counter() + budget_s
    while run.step():
        if lease.contended or time.perf_counter() >= deadline:
            return True
    return False


def _is_of_the_service(error: Exception) -> bool:
    """Whether the database failed rather than the job: the job goes on when it is back."""
    if isinstance(error, JobError):
        return not isinstance(error, JobConflictError)
    return isinstance(error, duckdb.Error)
