"""The batch requests: submit, look, list, cancel, follow."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from serving.access.control import still_allowed
from serving.actions.batches import batch_status, cancel_batch, submit_batch
from serving.description.operations import DescribedOperation, FollowOperation, problems
from serving.jobs.model import Phase, RequestStatus
from serving.problems.handlers import require_json
from serving.schemas import BatchAccepted, BatchList, BatchRequest, BatchStatus
from serving.services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

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
        `overwrite`) or has a `.part` beside it, an output folder that is missing (unless `make_parents`) or
        not writable, too little space, an output another live batch writes to, the basis `original` of a
        decoder without anchors.
        """
        job = await submit_batch(services, data, idempotency_key)
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
        shown = [batch_status(job, services.engine.live) for job in jobs]
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
        return batch_status(await services.store.get(batch_request_id), services.engine.live)

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
        job = await cancel_batch(services, batch_request_id)
        return batch_status(job, services.engine.live)

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
        status = batch_status(await services.store.get(batch_request_id), engine.live)
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
