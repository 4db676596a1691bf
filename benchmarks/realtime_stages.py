"""Where the time of one realtime request goes, to 10 us: `python -m benchmarks.realtime --stages`.

The service's own stages come from its metrics: means over a round of a closed loop on one connection. What
the client sees beyond them is the way there and back: client, loopback, server and the layers outside. The
steps of decoding are timed in this process, one after the other on the same rows, so they find their tables
in the processor's caches, as the service does not. All figures are those of the calmest round: another
process that takes the core for a moment adds more than there is to see.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.service.client import Caller
from embup_core.artifacts.registry import Registry
from embup_core.decoders.mixture_kriging.mixture_kriging import MixtureKriging
from embup_core.text import format_json_row
from serving.realtime.answering import answer
from serving.realtime.stages import STAGES, RealtimeStages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.peers.rivals import Service

_METRIC = "embup_realtime_stage_duration_seconds_sum"
_REQUESTS = 300
_WARM = 50
_HEADLINE = ("no-op", "one row")


def stages_table(
    service: Service, registry: Path, bodies: Sequence[bytes], rounds: int
) -> list[tuple[str, float]]:
    """Microseconds of each stage, in the calmest of the rounds.

    Parameters
    ----------
    service
        Running, with a no-op.
    registry
        Whose decoder is in service.
    bodies
        Requests of one row each.
    rounds
        Of each kind of request, in changing order.
    """
    found: dict[str, list[float]] = {name: [] for name in (*_HEADLINE, *STAGES)}
    caller, draw = Caller(service.port), random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(_HEADLINE, 2):
            path = "/noop" if name == "no-op" else "/v1/upsample"
            for body in bodies[:_WARM]:
                caller.latency_ms(path, body)
            before = _stage_seconds(caller)
            seen = [caller.latency_ms(path, body) for body in draw.sample(list(bodies), _REQUESTS)]
            found[name].append(1e3 * float(np.median(seen)))
            if name == "one row":
                for stage, (start, end) in zip(
                    STAGES, zip(before, _stage_seconds(caller), strict=True), strict=True
                ):
                    found[stage].append(1e6 * (end - start) / _REQUESTS)
    caller.close()
    table = [(name, min(values)) for name, values in found.items()]
    outside = dict(table)["one row"] - sum(value for name, value in table if name in STAGES)
    return [*table, ("beside the stages", outside), *_hot(registry, bodies)]


def print_table(table: Sequence[tuple[str, float]]) -> None:
    """Print microseconds, to 10, and each as a multiple of the no-op."""
    noop = dict(table)["no-op"]
    print(f"{'stage':34} {'us':>6}  x no-op")
    for name, microseconds in table:
        print(f"{name:34} {round(microseconds, -1):6.0f}  {microseconds / noop:7.2f}")


def _stage_seconds(caller: Caller) -> list[float]:
    _, text = caller.request("GET", "/metrics")
    lines = [line for line in text.decode().splitlines() if line.startswith(_METRIC)]
    of_stage = {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}
    return [of_stage[stage] for stage in STAGES]


def _hot(registry: Path, bodies: Sequence[bytes]) -> list[tuple[str, float]]:
    """The steps within decode and serialise, in a loop."""
    upsampler = Registry(registry).load()
    rows = [json.loads(body)["embedding"] for body in bodies]
    z = np.array(rows, np.float32)
    decoded, _ = upsampler.upsample(z[:1])
    steps: dict[str, Callable[[int], object]] = {
        "decode and serialise, in a loop": lambda i: answer(
            upsampler, [rows[i]], RealtimeStages(), single=True, raw=False
        ),
        "  upsample": lambda i: upsampler.upsample(z[i : i + 1]),
        "  digits": lambda _: format_json_row(decoded[0]),
    }
    decoder = upsampler._decoder  # noqa: SLF001 - its steps are what is measured
    if isinstance(decoder, MixtureKriging):
        points = decoder.standardisation_(z)
        steps["    of that, near rows"] = lambda i: decoder.nearest_.candidates(
            points[i : i + 1], decoder.neighbours
        )
        steps["    of that, the decoder"] = lambda i: decoder._predict(z[i : i + 1])  # noqa: SLF001
    found: list[tuple[str, float]] = []
    for name, step in steps.items():
        seconds = []
        for i in range(len(rows)):
            started = time.perf_counter()
            step(i)
            seconds.append(time.perf_counter() - started)
        found.append((name, 1e6 * float(np.median(seconds))))
    return found
