"""POST /v1/upsample: small, on the event loop, and ahead of every batch."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from litestar import Controller, MediaType, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from serving.description.operations import UpsampleOperation, problems
from serving.problems.handlers import require_json
from serving.problems.problem import ProblemError
from serving.realtime.answering import answer
from serving.realtime.stages import STAGES_KEY
from serving.realtime.usual import REALTIME_PATH
from serving.schemas import UpsampleAnswer, UpsampleManyAnswer, UpsampleRequest
from serving.services import Services

if TYPE_CHECKING:
    from serving.realtime.stages import RealtimeStages

OCTET_STREAM = "application/octet-stream"
INLINE_ROWS = 4  # so few are done before a hop to another thread and back would be


class RealtimeController(Controller):
    """The realtime request."""

    path = REALTIME_PATH
    tags = ("realtime",)

    @post(
        opt={"access": "realtime"},
        status_code=200,
        guards=[require_json],
        operation_class=UpsampleOperation,
        operation_id="upsample",
        summary="Upsample one embedding, or up to 256",
        response_description="The upsampled unit vectors. A running batch is paused meanwhile.",
        responses=problems(413, 415, 422, 429),
    )
    async def upsample(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[UpsampleRequest],
        services: NamedDependency[Services],
    ) -> Response[UpsampleAnswer | UpsampleManyAnswer]:
        """Answer JSON, or raw little-endian float32 rows when `Accept` asks for application/octet-stream."""
        upsampler = services.model.current()
        single, rows = _rows(data, services.settings.max_realtime_rows, upsampler.input_dims)
        raw = OCTET_STREAM in request.headers.get("accept", "")
        stages: RealtimeStages = request.scope["state"][STAGES_KEY]
        stages.parsed = perf_counter()
        if len(rows) <= INLINE_ROWS:
            content, headers = answer(upsampler, rows, stages, single=single, raw=raw, basis=data.basis)
        else:
            content, headers = await asyncio.get_running_loop().run_in_executor(
                services.realtime_executor,
                lambda: answer(upsampler, rows, stages, single=single, raw=raw, basis=data.basis),
            )
        services.realtime_rows += len(rows)
        return Response(content, media_type=OCTET_STREAM if raw else MediaType.JSON, headers=headers)  # type: ignore[arg-type]


def _rows(data: UpsampleRequest, max_rows: int, dims: int) -> tuple[bool, list[list[float]]]:
    """Check the shape of a request; give whether it is for one row, and the rows."""
    if (data.embedding is None) == (data.embeddings is None):
        found = "neither" if data.embedding is None else "both"
        raise _shape_problem(
            f"Expected one of the fields `embedding` and `embeddings`, found {found}.", max_rows, dims
        )
    if data.embedding is not None:
        if len(data.embedding) != dims:
            raise _shape_problem(
                f"embedding: expected {dims} numbers, found {len(data.embedding)}.", max_rows, dims
            )
        return True, [data.embedding]
    rows = data.embeddings or []
    if not 1 <= len(rows) <= max_rows:
        raise _shape_problem(f"embeddings: expected 1 to {max_rows} rows, found {len(rows)}.", max_rows, dims)
    for i, row in enumerate(rows):
        if len(row) != dims:
            raise _shape_problem(
                f"embeddings[{i}]: expected {dims} numbers, found {len(row)}.", max_rows, dims
            )
    return False, rows


def _shape_problem(detail: str, max_rows: int, dims: int) -> ProblemError:
    return ProblemError(
        "malformed-request",
        detail,
        remedy=f"Send exactly {dims} numbers a row, 1 to {max_rows} rows; "
        "larger sets through POST /v1/batches.",
    )
