"""What was measured of requests since the start: counts, seconds by stage, drift of the input."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from serving.observability.drift import DriftMeter
from serving.observability.histogram import Histogram
from serving.realtime.stages import STAGES

if TYPE_CHECKING:
    from serving.realtime.stages import RealtimeStages


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
    dropped
        Connections that were ended without an answer.
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
        self.dropped = 0
        self.answered: dict[tuple[str, str, int], int] = {}
        self.duration: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)
        self.realtime = Histogram()
        self.stages = tuple(Histogram() for _ in STAGES)
        self.drift = DriftMeter()

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        if method not in METHODS:
            method = "other"
        key = (method, route, status)
        self.answered[key] = self.answered.get(key, 0) + 1
        self.duration[method, route].observe(seconds)

    def count_refused(self, status: int) -> None:
        """Count a request that was refused before it reached the application."""
        key = ("other", NO_ROUTE, status)
        self.answered[key] = self.answered.get(key, 0) + 1

    def count_realtime(self, stages: RealtimeStages) -> None:
        """Count the stages of a realtime request that was answered, and its vectors."""
        self.realtime.observe(stages.sent - stages.began)
        for histogram, seconds in zip(self.stages, stages.seconds(), strict=True):
            histogram.observe(seconds)
        if stages.z is not None and stages.confidence is not None:
            low = stages.low_confidence if self._low_confidence is None else self._low_confidence
            self.drift.note(stages.z, stages.confidence, low)
