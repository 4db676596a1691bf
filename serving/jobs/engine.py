"""The background task: takes the oldest live job, has the worker work on it, and says what became of it.

The order of things is what makes a restart exact. Per checkpoint: the files first (fdatasync, in the
worker), then the database. At the end: all rows durable and the last checkpoint, which names the part file by
its inode, with FINALIZING in the database; then the rename; then COMPLETED. So whatever is in the database is
already true of the files.

The worker answers rows under the gate's lease, which freezes it while realtime requests are in flight. It
opens, publishes and removes files without the lease: at idle priority, but not frozen.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import duckdb
import msgspec
import structlog

from embup_core.batch import Checkpoint, discard_part_files, finish_publication
from embup_core.errors import (
    ArtifactError,
    BadRowError,
    EmbupError,
    JobConflictError,
    JobError,
    NoArtifactError,
    OutputError,
)
from embup_core.processes import usable_cores
from serving.jobs import protocol
from serving.jobs.live import AttemptClock, LiveJob
from serving.jobs.model import JobRecord, Phase, Progress
from serving.jobs.paths import require_unmoved
from serving.jobs.worker_process import WorkerDiedError, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from embup_core.batch import BatchSpec
    from serving.gate import PriorityGate
    from serving.hot_model import HotModel
    from serving.jobs.history import HistoryPublisher
    from serving.jobs.store import JobStore
    from serving.settings import ServingSettings

log = structlog.get_logger("embup.serving.jobs")

T = TypeVar("T")

RETRY_S = 5.0  # after the database or the registry failed: long enough for a disk to be cleared
RESTART_S = 0.5  # before the next worker, for each that died under the job
STOP_PATIENCE_S = 6.0  # for the worker to let go of its job when the service stops or the job is cancelled
WORKER_DEATHS = 3  # of one job, after which it is the job's fault
PAUSE_NOTE_S = 1.0
PATIENCE_S = 10.0  # for an earlier worker of the job, which the kernel may still be busy with


class BatchEngine:
    """Works on batch jobs, one at a time, in the order of their submission.

    Parameters
    ----------
    store, history, models, gate, settings
        The service's parts.
    executor
        For looking at files and removing them.
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
        self._worker: WorkerProcess | None = None
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
            self.live.halt.set()
            asyncio.get_running_loop().call_later(STOP_PATIENCE_S, self._kill_under, self.live)
        self.notice()

    def _kill_under(self, live: LiveJob) -> None:
        """End a worker that still has not let go of a job: a disk or a process that hangs holds it up."""
        if self.live is live and self._worker is not None:
            self._worker.kill()

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
        """Let `run` return at the next block's edge, with a durable checkpoint."""
        self._stopping.set()
        if self.live is not None:
            self.live.halt.set()
        if self._worker is not None:
            # What is durable stays: a worker that the disk holds up does not hold up the stop.
            asyncio.get_running_loop().call_later(STOP_PATIENCE_S, self._worker.kill)
        self._wake.set()
        self._tell(urgent=False)

    # The task.

    async def run(self) -> None:
        """Work until `stop` is called."""
        try:
            while not self.stopping:
                self._wake.clear()
                if not await self._one_job():
                    await self._wake.wait()
        finally:
            await self._end_worker()

    async def _one_job(self) -> bool:
        """Bring the oldest live job as far as it goes; False when there is nothing to do."""
        try:
            job = await self._store.oldest_live()
            worked = job is not None and await self._work_on(job)
        except Exception as error:
            # Not a fault of the job (those end it): the database or the disk. Nothing is lost, so wait.
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, duckdb.Error | JobError | OSError):
                reason = reason.partition("\n")[0]
                log.error("the batch engine cannot go on; trying again", retry_s=RETRY_S, error=reason)  # noqa: TRY400 - a full disk needs no traceback
            else:
                log.exception("the batch engine cannot go on; trying again", retry_s=RETRY_S)
            self.failure = reason
            await self._end_worker()  # what it has open is begun again from the last checkpoint
            await self._sleep(RETRY_S)
            return True
        self.failure = None
        return worked

    async def _work_on(self, job: JobRecord) -> bool:
        """Bring one job as far as it goes; False when it must wait for a decoder."""
        job_id = job.batch_request_id
        spec = job.request.spec()
        checkpoint = _checkpoint_of(job)
        if await self._ended_before(job, spec, checkpoint):
            return True
        try:
            version = job.model_version or self._models.current().version
        except ArtifactError as error:
            log.warning("a batch waits for a decoder", batch_request_id=job_id, error=str(error))
            return False
        self.live = LiveJob(job)
        if self.stopping:
            self.live.halt.set()
        try:
            await self._attempt(job, spec, version, checkpoint)
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
        remove: Callable[[], None] | None = partial(
            discard_part_files, spec, checkpoint, patience_s=PATIENCE_S
        )
        if isinstance(error, OutputError) or (checkpoint is None and not job.attempts):
            remove = None  # the path cannot be trusted, or nothing was written
        if job.cancel_requested:
            await self._end(job_id, Phase.CANCELLED, remove)
        else:
            await self._end(job_id, Phase.FAILED, remove, error)
        return True

    async def _attempt(
        self, job: JobRecord, spec: BatchSpec, version: str, checkpoint: Checkpoint | None
    ) -> None:
        job_id = job.batch_request_id
        resumed = job.attempts > 0
        job = await self._note(self._store.begin(job_id, model_version=version), log_as="job started")
        if job.phase.is_final:  # cancelled between being found and being begun
            return
        discard = partial(discard_part_files, spec, checkpoint, patience_s=PATIENCE_S)
        if job.cancel_requested:
            await self._end(job_id, Phase.CANCELLED, discard)
            return
        opened = False
        worker = await self._ready_worker()  # without one no job could go on: not this one's fault
        try:
            await worker.ask(self._opening(job, version, checkpoint, resumed=resumed))
            opened = True
            await self._end_attempt(job, worker, await self._work(job, worker))
        except WorkerDiedError as error:
            await self._mourn(job_id, str(error))
        except ArtifactError as error:
            reason = f"The decoder {version}, with which this job started, cannot be loaded: {error}"
            await self._end(job_id, Phase.FAILED, discard if resumed else None, NoArtifactError(reason))
        except Exception as error:
            if _is_of_the_service(error):
                raise
            remove: Callable[[], None] | protocol.Abandon | None = None
            if opened:
                remove = protocol.Abandon()
            elif resumed:
                remove = discard
            # else what lies there may be another process's
            await self._end(job_id, Phase.FAILED, remove, error)

    def _opening(
        self, job: JobRecord, version: str, checkpoint: Checkpoint | None, *, resumed: bool
    ) -> protocol.Open:
        return protocol.Open(
            registry=str(self._settings.registry.absolute()),
            model_version=version,
            request=job.request,
            checkpoint=checkpoint,
            chunk_rows=self._settings.chunk_rows,
            helpers=(self._settings.batch_processes or usable_cores()) - 1,
            patience_s=PATIENCE_S if resumed else 0.0,
        )

    async def _end_attempt(self, job: JobRecord, worker: WorkerProcess, ended: Phase) -> None:
        if ended is Phase.CANCELLED:
            await self._end(job.batch_request_id, Phase.CANCELLED, protocol.Abandon())
        elif ended is Phase.FINALIZING:
            await self._publish(job, worker)
        else:
            await worker.ask(protocol.Close())
            await self._note(self._store.stopped(job.batch_request_id), log_as="job stopped")

    async def _ready_worker(self) -> WorkerProcess:
        if self._worker is not None and self._worker.has_ended():
            await self._end_worker()  # while it had nothing to do: no fault of the job that comes now
        if self._worker is None:
            self._worker = await WorkerProcess.start()
            log.info("batch worker started", pid=self._worker.pid)
        return self._worker

    async def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.end()

    async def _mourn(self, job_id: str, how: str) -> None:
        """Note that the worker died under a job, and end the job when it was not the first time."""
        await self._end_worker()
        if self.stopping:  # what ends the service may end its worker with it
            await self._note(self._store.stopped(job_id), log_as="job stopped")
            return
        log.warning("batch worker died", batch_request_id=job_id, how=how)
        job = await self._note(self._store.worker_died(job_id, how=how), log_as="death of the worker noted")
        if job.worker_deaths < WORKER_DEATHS:
            await self._sleep(RESTART_S * job.worker_deaths)
            return
        error = EmbupError(
            f"The worker process {how}; so it has ended {job.worker_deaths} times with this batch, the last"
            f" time after row {job.num_records_processed}.",
            remedy="Look for the reason in the log of the service and of the kernel (memory?) first.",
            code="worker_killed",
        )
        await self._end(job_id, Phase.FAILED, await self._discarding(job_id), error)

    async def _discarding(self, job_id: str) -> Callable[[], None]:
        """What removes the part files of a job whose worker is gone."""
        job = await self._store.get(job_id)
        return partial(discard_part_files, job.request.spec(), _checkpoint_of(job), patience_s=PATIENCE_S)

    async def _work(self, job: JobRecord, worker: WorkerProcess) -> Phase:
        """Work through the input; FINALIZING at its end, CANCELLED or RUNNING when it stops before."""
        live = self.live
        assert live is not None  # noqa: S101 - set by the one caller
        halting = asyncio.create_task(live.halt.wait())
        clock = AttemptClock(job)
        listening = asyncio.create_task(self._listen(job, worker, live, clock))
        noting = asyncio.create_task(self._note_pauses(job.batch_request_id, live, clock))
        try:
            async with self._gate.batch(freeze=worker.freeze, thaw=worker.thaw) as lease:
                live.lease = lease
                worker.tell(protocol.Work(self._settings.checkpoint_interval_s))
                await asyncio.wait({listening, halting}, return_when=asyncio.FIRST_COMPLETED)
            # The lease is given back first: a frozen worker could not halt.
            if not listening.done():
                worker.tell(protocol.Halt(sync=not live.cancelled))
            more = await listening
        finally:
            for task in (halting, listening, noting):
                task.cancel()
        if live.cancelled:
            return Phase.CANCELLED
        return Phase.RUNNING if more else Phase.FINALIZING

    async def _listen(
        self, job: JobRecord, worker: WorkerProcess, live: LiveJob, clock: AttemptClock
    ) -> bool:
        """Bring the worker's checkpoints into the database until it stops; give whether rows are left."""
        while True:
            reply = await worker.hear()
            if isinstance(reply, protocol.Failed):
                raise reply.error()
            if isinstance(reply, protocol.Synced | protocol.Worked) and reply.checkpoint is not None:
                await self._checkpoint(job.batch_request_id, reply.checkpoint, live, clock)
            if isinstance(reply, protocol.Worked):
                return reply.more

    async def _note_pauses(self, job_id: str, live: LiveJob, clock: AttemptClock) -> None:
        """Bring a long pause into the database while it lasts: a frozen worker makes no checkpoint."""
        while True:
            await asyncio.sleep(PAUSE_NOTE_S)
            if live.paused:
                try:
                    await self._store.pauses(
                        job_id,
                        paused_s=live.paused_s,
                        pause_count=live.pause_count,
                        running_s=clock.running_s,
                    )
                except (duckdb.Error, JobError) as error:
                    # The next checkpoint says what it means for the batch.
                    log.warning("a pause could not be noted", batch_request_id=job_id, error=str(error))
                self._tell(urgent=False)

    async def _checkpoint(
        self, job_id: str, checkpoint: Checkpoint, live: LiveJob, clock: AttemptClock
    ) -> None:
        """Bring into the database what is durable in the files."""
        self.rows_total += clock.measure(live, rows=checkpoint.rows, bytes_done=checkpoint.bytes_done)
        progress = Progress(
            checkpoint=msgspec.json.encode(checkpoint).decode(),
            num_records_processed=checkpoint.rows,
            failed_rows=checkpoint.failed_rows,
            bytes_done=checkpoint.bytes_done,
            paused_s=live.paused_s,
            pause_count=live.pause_count,
            running_s=clock.running_s,
        )
        await self._store.progress(job_id, progress)
        self._tell(urgent=False)

    async def _publish(self, job: JobRecord, worker: WorkerProcess) -> None:
        job = await self._note(self._store.finalizing(job.batch_request_id), log_as="job finalizing")
        if job.phase is not Phase.FINALIZING:  # a cancellation came first
            await self._end(job.batch_request_id, Phase.CANCELLED, protocol.Abandon())
            return
        await worker.ask(protocol.Publish())
        await self._finish(job.batch_request_id, Phase.COMPLETED)

    async def _end(
        self,
        job_id: str,
        phase: Phase,
        remove: Callable[[], None] | protocol.Abandon | None,
        error: Exception | None = None,
    ) -> None:
        """Remove what was written, and note the end: a file that cannot be removed does not keep a job."""
        if remove is not None:
            try:
                if isinstance(remove, protocol.Abandon):
                    await (await self._ready_worker()).ask(remove)
                else:
                    await self._in_thread(remove)
            except (EmbupError, OSError, protocol.UnexpectedError) as refusal:
                log.warning("a part file stays behind", batch_request_id=job_id, error=str(refusal))
            except WorkerDiedError:
                await self._end_worker()
                await self._end(job_id, phase, await self._discarding(job_id), error)
                return
        await self._finish(job_id, phase, error)

    async def _finish(self, job_id: str, phase: Phase, error: Exception | None = None) -> None:
        message, line, remedy = None, None, None
        code = "cancelled" if phase is Phase.CANCELLED else None
        if isinstance(error, EmbupError):
            message, remedy, code = error.message, error.remedy, error.code
            line = error.line if isinstance(error, BadRowError) else None
        elif isinstance(error, OSError):
            message, remedy = str(error), "Mend what the message names and submit the batch again."
            code = "internal"
        elif error is not None:
            message = f"The service met an unexpected error: {error}"
            remedy = "The service's log says where it happened; please report it."
            code = "internal"
        await self._note(
            self._store.finish(job_id, phase, error=message, code=code, line=line, remedy=remedy),
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

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _checkpoint_of(job: JobRecord) -> Checkpoint | None:
    return None if job.checkpoint is None else msgspec.json.decode(job.checkpoint, type=Checkpoint)


def _is_of_the_service(error: Exception) -> bool:
    """Whether the database failed rather than the job: the job goes on when it is back."""
    if isinstance(error, JobError):
        return not isinstance(error, JobConflictError)
    return isinstance(error, duckdb.Error)
