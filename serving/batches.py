"""The batch requests: submit, look, list, cancel, follow."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from serving.access import still_allowed
from serving.jobs.checking import check_job
from serving.jobs.model import JobRecord, JobRequest, Phase, RequestStatus
from serving.jobs.paths import resolve_input, resolve_output
from serving.openapi import DescribedOperation, FollowOperation, problems
from serving.problems import require_json
from serving.schemas import BatchAccepted, BatchError, BatchList, BatchRequest, BatchStatus
from serving.services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from embup_core.batch.confinement import Confinement
    from serving.jobs.live import LiveJob

HEARTBEAT_S = 10.0
EVENT_GAP_S = 0.1  # between two events of a stream, so that a burst of changes is one event


class BatchController(Controller):
    """Batch requests."""

    path = "/v1/batches"
    tags = ("batches",)

    @post(
        opt={"access": "batch"},
        status_code=202,
        guards=[require_json],
        operation_class=DescribedOperation,
        operation_id="submitBatch",
        summary="Submit a batch",
        response_description="Accepted and stored: it survives a crash of the service.",
        responses=problems(409, 413, 415, 422),
    )
    async def submit(
        self,
        data: JSONBody[BatchRequest],
        services: NamedDependency[Services],
        idempotency_key: Annotated[
            str | None,
            HeaderParameter(
                name="Idempotency-Key",
                min_length=1,
                max_length=255,
                description="Any text of yours. The same key with the same request is the same batch.",
            ),
        ] = None,
    ) -> Response[BatchAccepted]:
        """Check what can be checked at once, store the batch, answer its id.

        Refused at once: a missing or empty input file, a wrong first row, a path outside the service's
        folders, a link, an input of several names (hard links), an output that exists (unless
        `overwrite`) or has a `.part` beside it, an output folder that is missing or not writable, too
        little space, an output another live batch writes to.
        """
        loop, confinement = asyncio.get_running_loop(), services.confinement
        wanted = await loop.run_in_executor(services.file_executor, _resolved, data, confinement)
        digest = hashlib.sha256(msgspec.json.encode(wanted)).hexdigest()
        job = None
        if idempotency_key is not None:
            job = await services.store.by_key(idempotency_key, digest)
        if job is None:
            model = services.model.current()
            # What grows beside the output of a live batch is told by the store, as a conflict.
            written = await services.store.is_written(wanted.output_filepath)
            check = partial(check_job, wanted, model, confinement, replace_parts=written)
            size = await loop.run_in_executor(services.file_executor, check)
            job = await services.store.submit(
                wanted, bytes_total=size, idempotency_key=idempotency_key, digest=digest
            )
            services.engine.notice()
        return Response(
            BatchAccepted(job.batch_request_id),
            headers={"Location": f"/v1/batches/{job.batch_request_id}"},
        )

    @get(
        opt={"access": "read"},
        operation_class=DescribedOperation,
        operation_id="listBatches",
        summary="List batches, newest first",
        responses=problems(),
    )
    async def newest(
        self,
        services: NamedDependency[Services],
        limit: Annotated[int, QueryParameter(ge=1, le=1000, description="Most entries to answer.")] = 50,
        status: Annotated[
            RequestStatus | None, QueryParameter(description="Only batches of this status.")
        ] = None,
        phase: Annotated[Phase | None, QueryParameter(description="Only batches of this phase.")] = None,
    ) -> BatchList:
        """Answer the newest batches, of one status or phase only if that is asked for."""
        wanted: list[Phase] | None = None
        if status is not None or phase is not None:
            stored = Phase.RUNNING if phase is Phase.PAUSED else phase
            wanted = [
                found
                for found in Phase
                if (status is None or found.request_status == status) and (stored is None or found is stored)
            ]
        jobs = await services.store.newest(limit=limit, phases=wanted)
        shown = [_status(job, services.engine.live) for job in jobs]
        if phase in {Phase.PAUSED, Phase.RUNNING}:
            shown = [entry for entry in shown if entry.phase is phase]
        return BatchList(shown)

    @get(
        "/{batch_request_id:str}",
        opt={"access": "read"},
        operation_class=DescribedOperation,
        operation_id="getBatch",
        summary="Where a batch stands",
        responses=problems(404),
    )
    async def status(
        self, batch_request_id: FromPath[str], services: NamedDependency[Services]
    ) -> BatchStatus:
        """Answer the status, the number of records processed, and more."""
        return _status(await services.store.get(batch_request_id), services.engine.live)

    @post(
        "/{batch_request_id:str}/cancel",
        opt={"access": "batch"},
        status_code=202,
        operation_class=DescribedOperation,
        operation_id="cancelBatch",
        summary="Cancel a batch",
        responses=problems(404, 409),
    )
    async def cancel(
        self, batch_request_id: FromPath[str], services: NamedDependency[Services]
    ) -> BatchStatus:
        """Stop a batch at the next block's edge and remove what it wrote; nothing is published."""
        job = await services.store.request_cancel(batch_request_id)
        services.engine.cancel(batch_request_id)
        return _status(job, services.engine.live)

    @get(
        "/{batch_request_id:str}/events",
        opt={"access": "read"},
        operation_class=FollowOperation,
        operation_id="followBatch",
        summary="Follow a batch",
        media_type="text/event-stream",
        response_description="Server-sent events named `status`, each with the batch's status as JSON.",
        responses=problems(404)
        | {
            200: ResponseSpec(
                BatchStatus,
                media_type="text/event-stream",
                generate_examples=False,
                description="Events named `status`; the stream ends with the final one.",
            )
        },
    )
    async def follow(
        self,
        request: Request[Any, Any, Any],
        batch_request_id: FromPath[str],
        services: NamedDependency[Services],
    ) -> ServerSentEvent:
        """Send the status at once, at each change, and a last time when the batch has ended."""
        await services.store.get(batch_request_id)
        return ServerSentEvent(_events(batch_request_id, services, partial(still_allowed, request.scope)))


async def _events(
    batch_request_id: str, services: Services, allowed: Callable[[], bool]
) -> AsyncIterator[ServerSentEventMessage]:
    engine = services.engine
    sent: BatchStatus | None = None
    said = monotonic()
    while allowed():
        seen = engine.changes
        status = _status(await services.store.get(batch_request_id), engine.live)
        # Changes of other batches, and those that a status does not tell, are no event.
        if status != sent:
            said = monotonic()
            yield ServerSentEventMessage(event="status", data=msgspec.json.encode(status))
        elif monotonic() - said >= HEARTBEAT_S:
            said = monotonic()
            yield ServerSentEventMessage(data=None, comment="still here")
        sent = status
        if status.phase.is_final or engine.stopping:
            return
        await asyncio.sleep(EVENT_GAP_S)
        await engine.changed(seen, max(0.0, HEARTBEAT_S - (monotonic() - said)))


def _resolved(data: BatchRequest, confinement: Confinement) -> JobRequest:
    return JobRequest(
        input_filepath=str(resolve_input(data.input_filepath, confinement)),
        output_filepath=str(resolve_output(data.output_filepath, confinement)),
        on_bad_row=data.on_bad_row,
        overwrite=data.overwrite,
        max_bad_rows=data.max_bad_rows,
    )


def _status(job: JobRecord, live: LiveJob | None) -> BatchStatus:
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
