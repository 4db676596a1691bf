"""What requests leave behind for who watches: counts, seconds by stage, drift of the input, spans.

The outermost layer, so that it sees every answer, whoever gave it. On the way of every request: what is done
here costs microseconds or is done later.
"""

from __future__ import annotations

from collections import defaultdict
from time import perf_counter
from typing import TYPE_CHECKING, Final

from litestar.enums import ScopeType

from serving.drift import DriftMeter
from serving.histogram import Histogram
from serving.problems import CLIENT_CLOSED_REQUEST
from serving.stages import STAGES, RealtimeStages

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

    from serving.telemetry import SpanSender

STAGES_KEY: Final = "stages"
"""Where a realtime request keeps its moments in the state of its scope."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE: Final = "none"


class RequestObservations:
    """What was seen of requests since the start.

    Parameters
    ----------
    low_confidence
        Limit for `DriftMeter`; None for the decoder's own.

    Attributes
    ----------
    in_progress
        Requests that are being answered.
    answered
        How many requests ended, by method, route and status.
    duration
        Seconds of requests, by method and route.
    realtime, stages
        Seconds of realtime requests that were answered with vectors, whole and by stage.
    drift
        Of the vectors that they brought.
    """

    def __init__(self, low_confidence: float | None) -> None:
        self._low_confidence = low_confidence
        self.in_progress = 0
        self.answered: dict[tuple[str, str, int], int] = {}
        self.duration: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)
        self.realtime = Histogram()
        self.stages = tuple(Histogram() for _ in STAGES)
        self.drift = DriftMeter()

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        key = (method, route, status)
        self.answered[key] = self.answered.get(key, 0) + 1
        self.duration[method, route].observe(seconds)

    def count_realtime(self, stages: RealtimeStages) -> None:
        """Count the stages of a realtime request that was answered, and its vectors."""
        self.realtime.observe(stages.sent - stages.began)
        for histogram, seconds in zip(self.stages, stages.seconds(), strict=True):
            histogram.observe(seconds)
        if stages.z is not None and stages.confidence is not None:
            low = stages.low_confidence if self._low_confidence is None else self._low_confidence
            self.drift.note(stages.z, stages.confidence, low)


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
    """

    def __init__(
        self, app: ASGIApp, observations: RequestObservations | None, spans: SpanSender | None
    ) -> None:
        self._app = app
        self._observations = observations
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through, and note what became of it."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        status = CLIENT_CLOSED_REQUEST  # unless it hears something

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        seen = self._observations
        if seen is not None:
            seen.in_progress += 1
        try:
            await self._app(scope, receive, watched_send)
        finally:
            ended = perf_counter()
            route = scope.get("path_template") or NO_ROUTE
            stages = scope["state"].get(STAGES_KEY)
            if stages is not None and not stages.answered:
                stages = None
            if seen is not None:
                seen.in_progress -= 1
                method = scope["method"] if scope["method"] in METHODS else "other"
                seen.count(method, route, status, ended - began)
                if stages is not None:
                    seen.count_realtime(stages)
            if self._spans is not None:
                self._spans.request(scope, route, status, began, ended, stages)
