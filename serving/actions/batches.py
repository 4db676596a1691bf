"""What is done about batches, the same for a request of the API and for a form of a page."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from serving.jobs.checking import check_job
from serving.jobs.model import JobRequest, Phase
from serving.jobs.paths import make_parents, resolve_input, resolve_output
from serving.schemas import BatchError, BatchRequest, BatchStatus

if TYPE_CHECKING:
    from serving.jobs.confinement import Confinement
    from serving.jobs.live import LiveJob
    from serving.jobs.model import JobRecord
    from serving.services import Services


async def submit_batch(
    services: Services, data: BatchRequest, idempotency_key: str | None = None
) -> JobRecord:
    """Check what can be checked at once, and store the batch; it is durable when this returns.

    Parameters
    ----------
    services
        The running parts.
    data
        What is asked for.
    idempotency_key
        The same key with the same request is the same batch.

    Raises
    ------
    InputError, OutputError
        A file cannot be used, a path lies outside, or a first row is wrong.
    JobConflictError
        A live batch writes to the output, or the key was used for another request.
    ArtifactError
        No decoder is in service.
    """
    loop, confinement = asyncio.get_running_loop(), services.confinement
    wanted = await loop.run_in_executor(services.file_executor, _resolved, data, confinement)
    digest = wanted.digest
    if idempotency_key is not None:
        job = await services.store.by_key(idempotency_key, digest)
        if job is not None:
            return job
    model = services.model.current()
    # The store reports the part file of a live batch as a conflict.
    written = await services.store.is_written(wanted.output_filepath)
    check = partial(check_job, wanted, model, confinement, replace_parts=written)
    size = await loop.run_in_executor(services.check_executor, check)
    job = await services.store.submit(
        wanted, bytes_total=size, idempotency_key=idempotency_key, digest=digest
    )
    services.engine.notice()
    return job


async def cancel_batch(services: Services, batch_request_id: str) -> JobRecord:
    """Stop a batch at the next block's edge, and remove what it wrote.

    Raises
    ------
    UnknownJobError
        There is none of this id.
    JobConflictError
        It has ended, or its output is being published.
    """
    job = await services.store.request_cancel(batch_request_id)
    services.engine.cancel(batch_request_id)
    return job


def _resolved(data: BatchRequest, confinement: Confinement) -> JobRequest:
    source = resolve_input(data.input_filepath, confinement)
    output = resolve_output(data.output_filepath, confinement)
    if data.make_parents:
        make_parents(output, confinement)
    return JobRequest(
        input_filepath=str(source),
        output_filepath=str(output),
        on_bad_row=data.on_bad_row,
        overwrite=data.overwrite,
        max_bad_rows=data.max_bad_rows,
        basis=data.basis,
    )


def batch_status(job: JobRecord, live: LiveJob | None) -> BatchStatus:
    """Put a job's record and what is known of it while it runs into one answer."""
    if live is not None and live.batch_request_id != job.batch_request_id:
        live = None
    phase = job.phase
    if live is not None and live.paused and phase is Phase.RUNNING:
        phase = Phase.PAUSED
    percent = 100.0 * job.bytes_done / job.bytes_total if job.bytes_total else 0.0
    rate: float | None = None
    eta_s: float | None = None
    if live is not None and live.rows_per_second is not None:
        rate = live.rows_per_second
        if live.bytes_per_second:
            eta_s = max(job.bytes_total - job.bytes_done, 0) / live.bytes_per_second
    elif job.running_s > 0:
        rate = job.num_records_processed / job.running_s
    return BatchStatus(
        batch_request_id=job.batch_request_id,
        status=phase.request_status,
        num_records_processed=job.num_records_processed,
        phase=phase,
        failed_rows=job.failed_rows,
        bytes_done=job.bytes_done,
        bytes_total=job.bytes_total,
        percent=100.0 if phase is Phase.COMPLETED else round(min(percent, 100.0), 2),
        rows_per_second=None if rate is None else round(rate, 1),
        eta_s=None if eta_s is None else round(eta_s, 1),
        paused_s=round(job.paused_s if live is None else live.paused_s, 3),
        pause_count=job.pause_count if live is None else live.pause_count,
        attempts=job.attempts,
        worker_deaths=job.worker_deaths,
        cancel_requested=job.cancel_requested,
        model_version=job.model_version,
        input_filepath=job.input_filepath,
        output_filepath=job.output_filepath,
        on_bad_row=job.on_bad_row,
        overwrite=job.overwrite,
        max_bad_rows=job.max_bad_rows,
        basis=job.basis,
        submitted_at=job.submitted_at.replace(tzinfo=UTC),
        started_at=_zoned(job.started_at),
        updated_at=job.updated_at.replace(tzinfo=UTC),
        finished_at=_zoned(job.finished_at),
        error=None
        if job.error is None
        else BatchError(
            code=job.error_code or "internal",
            detail=job.error,
            remedy=job.error_remedy or "",
            line=job.error_line,
        ),
    )


def _zoned(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
