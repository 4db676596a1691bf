"""The middle of an attempt: the worker answers rows under the gate, and its checkpoints are stored."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import duckdb
import msgspec
import structlog

from embup_core.errors import JobError
from serving.jobs.live import AttemptClock
from serving.jobs.model import Phase, Progress
from serving.jobs.worker import protocol

if TYPE_CHECKING:
    from embup_core.batch import BatchStatistics, Checkpoint
    from serving.jobs.live import LiveJob
    from serving.jobs.model import JobRecord
    from serving.jobs.notes import JobNotes
    from serving.jobs.storage.store import JobStore
    from serving.jobs.totals import BatchTotals
    from serving.jobs.worker.process import WorkerProcess
    from serving.realtime.gate import PriorityGate

log = structlog.get_logger("embup.serving.jobs")

PAUSE_NOTE_S = 1.0


class GatedWork:
    """Has the worker answer the rows of one attempt.

    Parameters
    ----------
    job, live, worker
        The job as it was begun, what is known of it while it runs, and the worker that has opened it.
    store, notes, totals
        Where checkpoints are stored, announced, and summed up.
    """

    def __init__(
        self,
        job: JobRecord,
        live: LiveJob,
        worker: WorkerProcess,
        *,
        store: JobStore,
        notes: JobNotes,
        totals: BatchTotals,
    ) -> None:
        self._job_id = job.batch_request_id
        self._live = live
        self._worker = worker
        self._store = store
        self._notes = notes
        self._totals = totals
        self._clock = AttemptClock(job)

    async def run(self, gate: PriorityGate, checkpoint_interval_s: float) -> Phase:
        """Work through the input; FINALIZING at its end, CANCELLED or RUNNING when it stops before."""
        live, worker = self._live, self._worker
        halting = asyncio.create_task(live.halt.wait())
        listening = asyncio.create_task(self._listen())
        noting = asyncio.create_task(self._note_pauses())
        self._note_course()
        try:
            async with gate.batch(freeze=worker.freeze, thaw=worker.thaw) as lease:
                live.lease = lease
                worker.tell(protocol.Work(checkpoint_interval_s))
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

    async def _listen(self) -> bool:
        """Bring the worker's checkpoints into the database until it stops; give whether rows are left."""
        while True:
            reply = await self._worker.hear()
            if isinstance(reply, protocol.Failed):
                raise reply.error()
            if isinstance(reply, protocol.Synced | protocol.Worked) and reply.checkpoint is not None:
                await self._checkpoint(reply.checkpoint, reply.statistics)
                if reply.checkpoint.uploaded_parts:
                    self._worker.tell(protocol.Kept(reply.checkpoint.uploaded_parts))
            if isinstance(reply, protocol.Worked):
                return reply.more

    async def _note_pauses(self) -> None:
        """Bring a long pause into the database while it lasts: a frozen worker makes no checkpoint."""
        live = self._live
        while True:
            await asyncio.sleep(PAUSE_NOTE_S)
            if live.paused:
                self._note_course()
                try:
                    await self._store.pauses(
                        self._job_id,
                        paused_s=live.paused_s,
                        pause_count=live.pause_count,
                        running_s=self._clock.running_s,
                    )
                except (duckdb.Error, JobError) as error:
                    # The next checkpoint says what it means for the batch.
                    log.warning("a pause could not be noted", batch_request_id=self._job_id, error=str(error))
                self._notes.tell(urgent=False)

    def _note_course(self) -> None:
        live = self._live
        rows = live.checkpoint.rows if live.checkpoint else 0
        self._totals.courses.note(self._job_id, rows=rows, paused_s=live.paused_s)

    async def _checkpoint(self, checkpoint: Checkpoint, statistics: BatchStatistics) -> None:
        """Bring into the database what is durable in the files."""
        live = self._live
        self._clock.measure(live, rows=checkpoint.rows, bytes_done=checkpoint.bytes_done)
        self._totals.add(live.checkpoint, checkpoint, statistics)
        live.take_checkpoint(checkpoint, statistics)
        self._note_course()
        progress = Progress(
            checkpoint=msgspec.json.encode(checkpoint).decode(),
            num_records_processed=checkpoint.rows,
            failed_rows=checkpoint.failed_rows,
            bytes_done=checkpoint.bytes_done,
            paused_s=live.paused_s,
            pause_count=live.pause_count,
            running_s=self._clock.running_s,
        )
        await self._store.progress(self._job_id, progress)
        self._notes.tell(urgent=False)
