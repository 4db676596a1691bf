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
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, TypeVar

import duckdb
import structlog

from embup_core.batch import BatchSpec, Checkpoint, finish_publication, noted_outputs, remove_part_files
from embup_core.errors import (
    ArtifactError,
    EmbupError,
    JobConflictError,
    JobError,
    NoArtifactError,
    RegistryUnavailableError,
)
from embup_core.files.processes import usable_cores
from embup_core.object_store.failures import STORE_UNAVAILABLE
from serving.jobs.gated_work import GatedWork
from serving.jobs.live import LiveJob
from serving.jobs.model import JobRecord, Phase
from serving.jobs.notes import JobNotes, unforeseen
from serving.jobs.totals import BatchTotals
from serving.jobs.worker import protocol
from serving.jobs.worker.process import WorkerDiedError, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from serving.decoders.hot_model import HotModel
    from serving.jobs.confinement import Confinement
    from serving.jobs.history.publisher import HistoryPublisher
    from serving.jobs.storage.store import JobStore
    from serving.observability.spans import SpanSender
    from serving.realtime.gate import PriorityGate
    from serving.settings import ServingSettings

log = structlog.get_logger("embup.serving.jobs")

T = TypeVar("T")

RETRY_S = 5.0  # after the database, the registry or an object store failed: a disk can be cleared meanwhile
STORE_PATIENCE_S = 900.0  # with a store that does not answer a batch: others wait behind it
RESTART_S = 0.5  # before the next worker, for each that died under the job
STOP_PATIENCE_S = 6.0  # for the worker to close its job when the service stops or the job is cancelled
WORKER_DEATHS = 3  # of one job, after which it is the job's fault
PATIENCE_S = 10.0  # for an earlier worker of the job, which the kernel may still be busy with


class BatchEngine:
    """Works on batch jobs, one at a time, in the order of their submission.

    Parameters
    ----------
    store, history, models, gate, confinement, settings
        The service's parts.
    executor
        For looking at files and removing them.
    public
        Redacts a text for clients: why a job failed is shown in its status, in streams,
        and in the published history.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        history: HistoryPublisher,
        models: HotModel,
        gate: PriorityGate,
        confinement: Confinement,
        settings: ServingSettings,
        executor: Executor,
        public: Callable[[str], str],
    ) -> None:
        self._store = store
        self._models = models
        self._gate = gate
        self._confinement = confinement
        self._settings = settings
        self._executor = executor
        self._worker: WorkerProcess | None = None
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self.live: LiveJob | None = None
        self.totals = BatchTotals()
        self._notes = JobNotes(store, history, self.totals, public)
        self.spans: SpanSender | None = None
        self.failure: str | None = None
        # A batch whose store does not answer: its id, its checkpoint, and since when.
        self._leftovers = True  # uploads of batches that ended while their store did not answer, perhaps
        self._outage: tuple[str, Checkpoint | None, float] | None = None

    # What controllers call.

    def notice(self) -> None:
        """Look for work: a job was submitted, or a decoder came into service."""
        self._wake.set()
        self._notes.tell(urgent=True)

    def cancel(self, batch_request_id: str) -> None:
        """Stop working on a job whose cancellation is already in the store."""
        # A job that is not being worked on needs no more than what the store knows.
        if self.live is not None and self.live.batch_request_id == batch_request_id:
            self.live.cancelled = True
            self.live.halt.set()
            asyncio.get_running_loop().call_later(STOP_PATIENCE_S, self._kill_under, self.live)
        self.notice()

    def _kill_under(self, live: LiveJob) -> None:
        """Kill a worker that has not closed a cancelled job in time: a disk or a process hangs."""
        if self.live is live and self._worker is not None:
            self._worker.kill()

    async def changed(self, since: int, timeout_s: float) -> None:
        """Wait until `changes` is no longer `since`, or the time is over."""
        await self._notes.changed(since, timeout_s)

    @property
    def changes(self) -> int:
        """How often anything changed so far."""
        return self._notes.changes

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
        self._notes.tell(urgent=False)

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
            if self._leftovers and self._confinement.buckets.prefixes:
                await self._remove_leftovers()
            job = await self._store.oldest_live()
            worked = job is not None and await self._work_on(job)
        except Exception as error:
            # Not a fault of the job (those end it): the database or the disk. Nothing is lost, so wait.
            reason = f"{type(error).__name__}: {error}"
            known = isinstance(error, duckdb.Error | JobError | RegistryUnavailableError) or _is_outage(error)
            if known or isinstance(error, OSError):
                reason = reason.partition("\n")[0]
                log.error("the batch engine cannot continue; retrying", retry_s=RETRY_S, error=reason)  # noqa: TRY400 - a full disk needs no traceback
            else:
                log.exception("the batch engine cannot continue; retrying", retry_s=RETRY_S)
            self.failure = reason if known else unforeseen(error).message
            await self._end_worker()  # what it has open is begun again from the last checkpoint
            await self._sleep(RETRY_S)
            return True
        self.failure = None
        return worked

    async def _remove_leftovers(self) -> None:
        """Abort uploads of batches that have ended; again later where the store does not answer."""
        self._leftovers = False
        uploads = Path(self._confinement.buckets.uploads)
        for output in await self._in_thread(partial(noted_outputs, uploads)):
            if await self._store.is_written(str(output)):
                continue
            try:
                await self._in_thread(self._discard(BatchSpec(output, output, on_bad_row="nan"), None))
            except (EmbupError, OSError) as error:
                log.warning("an upload stays behind", output=str(output), error=str(error))
                if _is_outage(error):
                    self._leftovers = True
                    return

    async def _work_on(self, job: JobRecord) -> bool:
        """Bring one job as far as it goes; False when it must wait for a decoder."""
        job_id = job.batch_request_id
        spec = job.request.spec()
        checkpoint = job.last_checkpoint
        if await self._ended_before(job, spec, checkpoint):
            return True
        try:
            version = job.model_version or self._models.current().version
        except ArtifactError as error:
            log.warning("a batch waits for a decoder", batch_request_id=job_id, error=str(error))
            return False
        await self._models.bring_here(version)  # an outage of its store is no fault of the job
        self.live = live = LiveJob(job)
        if self.stopping:
            live.halt.set()
        try:
            with structlog.contextvars.bound_contextvars(batch_request_id=job_id, model_version=version):
                await self._attempt(job, live, spec, version)
        finally:
            self.live = None
            if self.spans is not None:
                self.spans.write(live.span_record(version))
        return True

    async def _ended_before(self, job: JobRecord, spec: BatchSpec, checkpoint: Checkpoint | None) -> bool:
        """End a job for which nothing is left to compute; False when there is.

        It was published without a note of it, or cancelled. Neither the input nor the decoder need be there
        any more.
        """
        job_id = job.batch_request_id
        error: Exception | None = None
        if job.phase is Phase.FINALIZING and checkpoint is not None:
            finish = partial(finish_publication, spec, checkpoint, open_folder=self._confinement.open_folder)
            try:
                if await self._in_thread(finish):
                    await self._finish(job_id, Phase.COMPLETED)
                    return True
            except (EmbupError, OSError) as found:
                if _is_of_the_service(found) or self._waits_for_store(job_id, checkpoint, found):
                    raise
                error = found
        if error is None and not job.cancel_requested:
            return False
        remove = self._discard(spec, checkpoint) if job.attempts else None  # else nothing was written
        if job.cancel_requested:
            await self._end(job_id, Phase.CANCELLED, remove)
        else:
            await self._end(job_id, Phase.FAILED, remove, error)
        return True

    async def _attempt(self, job: JobRecord, live: LiveJob, spec: BatchSpec, version: str) -> None:
        job_id, checkpoint = job.batch_request_id, live.checkpoint
        resumed = job.attempts > 0
        job = await self._notes.note(self._store.begin(job_id, model_version=version), log_as="job started")
        if job.phase.is_final:  # cancelled between being found and being begun
            return
        discard = self._discard(spec, checkpoint)
        if job.cancel_requested:
            await self._end(job_id, Phase.CANCELLED, discard)
            return
        opened = False
        worker = await self._ready_worker()  # without one no job could run: not this one's fault
        try:
            await worker.ask(self._opening(job, version, checkpoint, resumed=resumed))
            opened = True
            work = GatedWork(job, live, worker, store=self._store, notes=self._notes, totals=self.totals)
            ended = await work.run(self._gate, self._settings.checkpoint_interval_s)
            await self._end_attempt(job, worker, ended)
        except WorkerDiedError as error:
            await self._worker_died(job_id, str(error))
        except ArtifactError as error:
            reason = f"The decoder {version}, with which this job started, cannot be loaded: {error.message}"
            gone = NoArtifactError(reason, remedy=error.remedy)
            await self._end(job_id, Phase.FAILED, discard if resumed else None, gone)
        except Exception as error:
            if _is_of_the_service(error) or self._waits_for_store(job_id, live.checkpoint, error):
                raise
            remove: Callable[[], None] | protocol.Abandon | None = None
            if opened:
                remove = protocol.Abandon()
            elif resumed:
                remove = discard
            # else what lies there may be another process's
            await self._end(job_id, Phase.FAILED, remove, error)

    def _waits_for_store(self, job_id: str, checkpoint: Checkpoint | None, error: Exception) -> bool:
        """Whether a batch goes on from its checkpoint when the store of its objects answers again."""
        if not _is_outage(error):
            return False
        if self._outage is None or self._outage[:2] != (job_id, checkpoint):  # it has got on since the last
            self._outage = (job_id, checkpoint, monotonic())
        return monotonic() - self._outage[2] < STORE_PATIENCE_S

    def _opening(
        self, job: JobRecord, version: str, checkpoint: Checkpoint | None, *, resumed: bool
    ) -> protocol.Open:
        return protocol.Open(
            batch_request_id=job.batch_request_id,
            registry=str(self._settings.registry_folder.absolute()),
            model_version=version,
            request=job.request,
            checkpoint=checkpoint,
            roots=list(self._confinement.roots),
            reserved=[str(folder) for folder in self._confinement.reserved],
            buckets=self._confinement.buckets,
            chunk_rows=self._settings.chunk_rows,
            helpers=(self._settings.batch_processes or usable_cores()) - 1,
            patience_s=PATIENCE_S if resumed else 0.0,
            low_confidence=self._settings.low_confidence,
            replace_parts=resumed,  # before that it has written none
        )

    async def _end_attempt(self, job: JobRecord, worker: WorkerProcess, ended: Phase) -> None:
        if ended is Phase.CANCELLED:
            await self._end(job.batch_request_id, Phase.CANCELLED, protocol.Abandon())
        elif ended is Phase.FINALIZING:
            await self._publish(job, worker)
        else:
            await worker.ask(protocol.Close())
            await self._notes.note(self._store.stopped(job.batch_request_id), log_as="job stopped")

    async def _ready_worker(self) -> WorkerProcess:
        if self._worker is not None and self._worker.has_ended():
            await self._end_worker()  # while it had nothing to do: no fault of the job that comes now
        if self._worker is None:
            roots = [root.descriptor for root in self._confinement.roots]
            settings = self._settings
            self._worker = await WorkerProcess.start(settings.log_format, settings.log_level, roots)
            log.info("batch worker started", pid=self._worker.pid)
        return self._worker

    async def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.end()

    async def _worker_died(self, job_id: str, how: str) -> None:
        """Note that the worker died under a job, and end the job when it was not the first time."""
        await self._end_worker()
        if self.stopping:  # what ends the service may end its worker with it
            await self._notes.note(self._store.stopped(job_id), log_as="job stopped")
            return
        self.totals.worker_deaths += 1
        log.warning("batch worker died", batch_request_id=job_id, how=how)
        job = await self._notes.note(
            self._store.worker_died(job_id, how=how), log_as="death of the worker noted"
        )
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
        return self._discard(job.request.spec(), job.last_checkpoint)

    def _discard(self, spec: BatchSpec, checkpoint: Checkpoint | None) -> Callable[[], None]:
        """What removes the part files of a job that no worker works on."""
        return partial(
            remove_part_files,
            spec,
            checkpoint,
            patience_s=PATIENCE_S,
            open_folder=self._confinement.open_folder,
        )

    async def _publish(self, job: JobRecord, worker: WorkerProcess) -> None:
        job = await self._notes.note(self._store.finalizing(job.batch_request_id), log_as="job finalizing")
        if job.phase is not Phase.FINALIZING:  # a cancellation came first
            await self._end(job.batch_request_id, Phase.CANCELLED, protocol.Abandon())
            return
        since = perf_counter()
        await worker.ask(protocol.Publish())
        self.totals.publish_s += perf_counter() - since
        if self.live is not None:
            self.live.published = (since, perf_counter())
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
                self._leftovers = True
            except WorkerDiedError:
                await self._end_worker()
                await self._end(job_id, phase, await self._discarding(job_id), error)
                return
        await self._finish(job_id, phase, error)

    async def _finish(self, job_id: str, phase: Phase, error: Exception | None = None) -> None:
        job = await self._notes.finish(job_id, phase, error)
        if self.live is not None:
            self.live.ended = job

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _is_outage(error: Exception) -> bool:
    """Whether the store of a batch's objects does not answer."""
    return isinstance(error, EmbupError) and error.code == STORE_UNAVAILABLE


def _is_of_the_service(error: Exception) -> bool:
    """Whether the database failed rather than the job: the job resumes when it is back."""
    if isinstance(error, JobError):
        return not isinstance(error, JobConflictError)
    return isinstance(error, duckdb.Error)
