"""Realtime latency as a client sees it: alone, and beside other work of the service."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embup.cli.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embup_client import Client

WARM_UP_REQUESTS = 10
PAUSE_S = 0.02  # between two requests beside a batch: often enough to measure, seldom enough to let it work


@dataclass
class Latencies:
    """Round trips of single realtime requests, in milliseconds."""

    milliseconds: list[float] = field(default_factory=list)

    def percentile_ms(self, percent: float) -> float:
        """Latency that `percent` of the requests did not exceed."""
        return float(np.percentile(self.milliseconds, percent))

    def to_json(self) -> dict[str, float]:
        """Count, median and 99th percentile."""
        return {
            "requests": len(self.milliseconds),
            "p50_ms": round(self.percentile_ms(50), 3),
            "p99_ms": round(self.percentile_ms(99), 3),
        }


def measure_alone(url: str, rows: NDArray[np.float32], *, requests: int) -> Latencies:
    """Send `requests` realtime requests one after another, each with the next of `rows`, shape (n, d)."""
    latencies = Latencies()
    with connect(url) as service:
        for i in range(WARM_UP_REQUESTS):
            service.upsample(rows[i % len(rows)].tolist())
        for i in range(requests):
            _timed(service, rows[i % len(rows)], latencies)
    return latencies


@contextmanager
def measured_beside(url: str, rows: NDArray[np.float32]) -> Iterator[Latencies]:
    """Send realtime requests from a thread, with pauses, for as long as the block runs.

    An error of a request is raised when the block ends.
    """
    latencies = Latencies()
    ended = threading.Event()
    errors: list[BaseException] = []

    def send() -> None:
        try:
            with connect(url) as service:
                i = 0
                while not ended.wait(PAUSE_S):
                    _timed(service, rows[i % len(rows)], latencies)
                    i += 1
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits
            errors.append(error)

    sender = threading.Thread(target=send, name="realtime-requests", daemon=True)
    sender.start()
    try:
        yield latencies
    finally:
        ended.set()
        sender.join()
    if errors:
        raise errors[0]


def _timed(service: Client, row: NDArray[np.float32], latencies: Latencies) -> None:
    embedding = row.tolist()
    started_s = time.perf_counter()
    service.upsample(embedding)
    latencies.milliseconds.append(1000 * (time.perf_counter() - started_s))
