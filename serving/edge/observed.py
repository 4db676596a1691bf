"""Watches every request from outside the application: metrics, spans, and the access log.

The outermost layer, so that it sees every answer. It is on the way of every request: what is done here costs
microseconds or is done later.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import structlog
from litestar.enums import ScopeType

from serving.observability.requests import NO_ROUTE
from serving.problems.problem import CLIENT_CLOSED_REQUEST
from serving.realtime.stages import STAGES_KEY

if TYPE_CHECKING:
    from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

    from serving.observability.requests import RequestObservations
    from serving.observability.spans import SpanSender

REFUSED_STATUS = "refused_status"
"""Where a request's state holds the status that its connection was answered with, past the application."""

access = structlog.get_logger("embup.access")


class Observed:
    """Watches an application.

    Parameters
    ----------
    app
        The application.
    observations
        Where requests are counted; None counts none.
    spans
        Where a span of each request is sent; None sends none.
    access_log
        Whether to log a line for each request: method, path, status, milliseconds, bytes.
    """

    def __init__(
        self,
        app: ASGIApp,
        observations: RequestObservations | None,
        spans: SpanSender | None,
        *,
        access_log: bool,
    ) -> None:
        self._app = app
        self._observations = observations
        self._spans = spans
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through, and record its outcome."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        status, size = CLIENT_CLOSED_REQUEST, 0  # unless an answer starts

        async def watched_send(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        if self._observations is not None:
            self._observations.in_progress += 1
        try:
            await self._app(scope, receive, watched_send)
        finally:
            self._record(scope, status, size, began, perf_counter())

    def _record(self, scope: HTTPScope, status: int, size: int, began: float, ended: float) -> None:
        route = scope.get("path_template") or NO_ROUTE
        stages = scope["state"].get(STAGES_KEY)
        if stages is not None and not stages.answered:
            stages = None
        status = scope["state"].get(REFUSED_STATUS, status)
        seen = self._observations
        if seen is not None:
            seen.in_progress -= 1
            seen.count(scope["method"], route, status, ended - began)
            if stages is not None:
                seen.count_realtime(stages)
        if self._spans is not None:
            self._spans.request(scope, route, status, began, ended, stages)
        if self._access_log:
            access.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((ended - began) * 1e3, 2),
                bytes=size,
            )
