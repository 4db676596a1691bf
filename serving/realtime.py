"""POST /v1/upsample: small, on the event loop, and ahead of every batch."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
from litestar import Controller, MediaType, Request, Response, post
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.params import JSONBody

from embup_core.errors import InputError
from embup_core.text import format_json_row, format_json_rows
from serving.observed import STAGES_KEY
from serving.openapi import FLOAT32_MAX, UpsampleOperation, problems
from serving.problems import ProblemError, require_json, send_problem
from serving.schemas import UpsampleAnswer, UpsampleManyAnswer, UpsampleRequest
from serving.services import Services
from serving.stages import RealtimeStages

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, ReceiveMessage, Scope, Send

    from embup_core.upsampler import Upsampler

OCTET_STREAM = "application/octet-stream"
INLINE_ROWS = 4  # so few are done before a hop to another thread and back would be
UNIT_TOLERANCE = 1e-3  # rows whose length is off by more are told of


class RealtimePriority(ASGIMiddleware):
    """Holds the gate from the first byte of a request's body to the last byte of its answer.

    Parameters
    ----------
    services
        For the gate, and for the seconds that a client may hold it.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, services: Services) -> None:
        self._gate = services.gate
        self._deadline_s = services.settings.realtime_deadline_s
        self._max_body_bytes = services.settings.max_body_bytes
        self._max_requests = services.settings.max_realtime_requests
        self._requests = 0

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Stay one: Litestar copies a router and what hangs on it, and a copied gate guards nothing."""
        return self

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Wait for the body's first byte, hold the gate from there on, and answer."""
        if _announced_bytes(scope) > self._max_body_bytes:
            await next_app(scope, receive, send)  # refused there without reading
            return
        if self._requests >= self._max_requests:
            await send_problem(
                scope,
                send,
                "too-many-requests",
                f"Expected at most {self._max_requests} realtime requests at once, found one more.",
                remedy="Send it again a little later, or several vectors in one request.",
            )
            return
        self._requests += 1
        try:
            await self._prioritised(scope, receive, send, next_app)
        finally:
            self._requests -= 1

    async def _prioritised(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        first: ReceiveMessage | None
        try:
            async with asyncio.timeout(self._deadline_s):
                first = await receive()
        except TimeoutError:
            await self._refuse(scope, send)
            return
        if first["type"] == "http.disconnect":
            await next_app(scope, receive, send)  # it learns the same, and nobody needs the gate
            return
        stages = scope["state"][STAGES_KEY] = RealtimeStages()

        async def replay() -> ReceiveMessage:
            nonlocal first
            if first is None:
                return await _awaited(receive, stages)
            message, first = first, None
            return message

        async def watched_send(message: Message) -> None:
            if not stages.sending:
                stages.sending = perf_counter()
            await send(message)
            stages.sent = perf_counter()

        async with self._gate.realtime():
            stages.held = perf_counter()
            try:
                async with asyncio.timeout(self._deadline_s):
                    await next_app(scope, replay, watched_send)
            except TimeoutError:
                if stages.sending:  # a client that does not read: the connection is all that can be ended
                    raise
                await self._refuse(scope, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        await send_problem(
            scope,
            send,
            "too-slow",
            f"The request was not read and answered within {self._deadline_s:g} s.",
            remedy="Send the body at once; split large requests.",
            headers={"Connection": "close"},  # what may still come of the body is no request
        )


async def _awaited(receive: Receive, stages: RealtimeStages) -> ReceiveMessage:
    since = perf_counter()
    message = await receive()
    if not stages.parsed:  # else it only waits for the client to leave
        stages.body_wait_s += perf_counter() - since
    return message


def _announced_bytes(scope: Scope) -> int:
    found = dict(scope["headers"]).get(b"content-length", b"")
    return int(found) if found.isdigit() else 0


class RealtimeController(Controller):
    """The realtime request."""

    path = "/v1/upsample"
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
            content, headers = _answer(upsampler, rows, stages, single=single, raw=raw)
        else:
            content, headers = await asyncio.get_running_loop().run_in_executor(
                services.realtime_executor, lambda: _answer(upsampler, rows, stages, single=single, raw=raw)
            )
        services.realtime_rows += len(rows)
        return Response(content, media_type=OCTET_STREAM if raw else MediaType.JSON, headers=headers)  # type: ignore[arg-type]


def _rows(data: UpsampleRequest, max_rows: int, dims: int) -> tuple[bool, list[list[float]]]:
    """Check the shape of a request; give whether it is for one row, and the rows."""
    if (data.embedding is None) == (data.embeddings is None):
        found = "neither" if data.embedding is None else "both"
        raise _shape_problem(
            f"Expected one of the fields `embedding` and `embeddings`, found {found}.", max_rows
        )
    if data.embedding is not None:
        if len(data.embedding) != dims:
            raise _shape_problem(
                f"embedding: expected {dims} numbers, found {len(data.embedding)}.", max_rows
            )
        return True, [data.embedding]
    rows = data.embeddings or []
    if not 1 <= len(rows) <= max_rows:
        raise _shape_problem(f"embeddings: expected 1 to {max_rows} rows, found {len(rows)}.", max_rows)
    for i, row in enumerate(rows):
        if len(row) != dims:
            raise _shape_problem(f"embeddings[{i}]: expected {dims} numbers, found {len(row)}.", max_rows)
    return False, rows


def _shape_problem(detail: str, max_rows: int) -> ProblemError:
    return ProblemError(
        "malformed-request",
        detail,
        remedy=f"Send exactly 32 numbers a row, 1 to {max_rows} rows; larger sets through POST /v1/batches.",
    )


def _answer(
    upsampler: Upsampler, rows: list[list[float]], stages: RealtimeStages, *, single: bool, raw: bool
) -> tuple[bytes, dict[str, str]]:
    """Compute and encode an answer: content and headers.

    The digits are those of the text files, so that realtime and batch answers agree to the last one.
    """
    stages.decoding = perf_counter()
    z64 = np.array(rows, dtype=np.float64)
    if not np.abs(z64).max() <= FLOAT32_MAX:
        i, j = np.argwhere(~(np.abs(z64) <= FLOAT32_MAX))[0]
        where = f"embedding[{j}]" if single else f"embeddings[{i}][{j}]"
        raise InputError(
            f"{where}: expected a number within float32, found {z64[i, j]:g}.",
            remedy=f"Send numbers of at most {FLOAT32_MAX:.3g}.",
        )
    z = z64.astype(np.float32)
    out, confidence = upsampler.upsample(z)
    stages.decoded = perf_counter()
    stages.z, stages.confidence = z, confidence
    stages.model_version, stages.low_confidence = upsampler.version, upsampler.low_confidence or 0.0
    shares = [round(float(share), 6) for share in confidence]
    lengths = np.sqrt(np.einsum("ij,ij->i", z64, z64))
    normalised = int(np.count_nonzero(np.abs(lengths - 1) > UNIT_TOLERANCE))
    said = {"Embup-Normalised": str(normalised)} if normalised else {}
    if raw:
        return out.astype("<f4", copy=False).tobytes(), {
            "Embup-Model-Version": upsampler.version,
            "Embup-Rows": str(len(out)),
            "Embup-Dims": str(out.shape[1]),
            "Embup-Confidence": ",".join(f"{share:g}" for share in shares),
        } | said
    version = msgspec.json.encode(upsampler.version)
    if single:
        return (
            b'{"embedding":%b,"model_version":%b,"confidence":%b}'
            % (format_json_row(out[0]), version, msgspec.json.encode(shares[0])),
            said,
        )
    return (
        b'{"embeddings":%b,"model_version":%b,"confidence":%b}'
        % (format_json_rows(out), version, msgspec.json.encode(shares)),
        said,
    )
