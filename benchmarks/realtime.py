"""Realtime latency, alone and beside a batch that has more to do than it can: the figure this service is for.

    python -m benchmarks.realtime [--registry DIR] [--source DIR] [--rate 100] [--seconds 5] [--rounds 5]
                                  [--stages] [--plot FILE]

All over loopback against real servers, latency from the first byte sent to the last byte received. A round
has each kind once, in changing order, so that a slow minute of the machine hits all:

- closed loop: one connection sends single rows one after the other, to the service and to its peers, and
  requests that do nothing;
- open loop: single rows at moments drawn from a Poisson process, so that a slow answer holds no later one
  back: alone, beside a batch, beside a batch that the gate never stops, and against LitServe with the same
  decoder, alone and beside the usual batch loop in a thread;
- the batches with no request beside them, so that it can be told what share of their speed they keep.

--stages prints where the time of one request goes, and nothing else. --plot draws some tenths of a second
with the gate and without. The last line is the figure.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import realtime_plot
from benchmarks.figures import say
from benchmarks.peers.rivals import Rival, Service, peer, service
from benchmarks.realtime_stages import print_table, stages_table
from benchmarks.service.client import Caller
from benchmarks.service.server import jittered, registry_and_rows, write_input

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DISTINCT_ROWS = 2_000
BATCH_ROWS = 400_000  # more than any round gets through
CLOSED_REQUESTS = 400
WARM_REQUESTS = 100


@dataclass
class Seen:
    """What the rounds of one kind saw: one entry a round, but for latencies, in ms, one a request."""

    latencies_ms: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    rows_per_s: list[float] = field(default_factory=list)
    paused_share: list[float] = field(default_factory=list)

    def add(self, latencies_ms: Sequence[float]) -> None:
        """Note a round's latencies."""
        self.latencies_ms += latencies_ms
        p50, p99 = np.percentile(latencies_ms, [50, 99])
        self.p50_ms.append(float(p50))
        self.p99_ms.append(float(p99))

    def line(self) -> str:
        """Percentiles over all requests."""
        p50, p90, p99, worst = np.percentile(self.latencies_ms, [50, 90, 99, 100])
        count = len(self.latencies_ms)
        return f"p50 {p50:6.2f}  p90 {p90:6.2f}  p99 {p99:6.2f}  max {worst:6.2f} ms  ({count:,} requests)"


def closed_loop(rival: Rival, path: str, bodies: Sequence[bytes], seen: Seen) -> None:
    """One request after the other on one connection."""
    caller = Caller(rival.port)
    for body in bodies[:WARM_REQUESTS]:
        caller.latency_ms(path, body)
    seen.add([caller.latency_ms(path, body) for body in bodies[:CLOSED_REQUESTS]])
    caller.close()


def open_loop(
    rival: Rival, bodies: Sequence[bytes], rate: float, seconds: float, seen: Seen, *, batch: bool
) -> None:
    """Requests at Poisson moments, beside a batch or not; none at rate 0."""
    if rate:
        rival.requests.send(bodies, rate=rate, seconds=min(seconds, 0.5), seed=0)  # connections, caches
    if batch:
        rival.start_batch()
    started, before = time.monotonic(), rival.rows_written() if batch else 0.0
    if rate:
        answered = rival.requests.send(bodies, rate=rate, seconds=seconds, seed=len(seen.p50_ms) + 1)
        seen.add([answer.latency_ms for answer in answered])
    else:
        time.sleep(seconds)
    if batch:
        elapsed = time.monotonic() - started
        seen.rows_per_s.append((rival.rows_written() - before) / elapsed)
        rival.end_batch()
        seen.paused_share.append(rival.paused_s / elapsed)


def measure(
    ours: Service,
    ungated: Service,
    other: Rival | None,
    peers: Mapping[str, Rival],
    bodies: Sequence[bytes],
    options: argparse.Namespace,
) -> dict[str, Seen]:
    """Run the rounds; give what each kind saw."""
    found: dict[str, Seen] = {}
    kinds: list[Callable[[], None]] = []
    closed: list[tuple[str, Rival, str]] = [
        ("closed, single row", ours, "/v1/upsample"),
        ("closed, no-op", ours, "/noop"),
        *((f"closed, {name}", rival, "/predict") for name, rival in peers.items()),
    ]
    for kind, rival, path in closed:
        found[kind] = Seen()
        kinds.append(partial(closed_loop, rival, path, bodies, found[kind]))
    rivals: list[tuple[str, Rival, float, bool]] = [
        ("alone", ours, options.rate, False),
        ("beside a batch", ours, options.rate, True),
        ("beside a batch, gate off", ungated, options.rate, True),
        ("the batch alone", ours, 0, True),
    ]
    if other is not None:
        rivals += [
            ("LitServe alone", other, options.rate, False),
            ("LitServe beside the usual loop", other, options.rate, True),
            ("the usual loop alone", other, 0, True),
        ]
    for kind, rival, rate, batch in rivals:
        found[kind] = Seen()
        kinds.append(partial(open_loop, rival, bodies, rate, options.seconds, found[kind], batch=batch))
    shuffler = random.Random(0)
    gc.disable()
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}")
        shuffler.shuffle(kinds)
        for kind_of_round in kinds:
            kind_of_round()
    gc.enable()
    return found


def report(found: dict[str, Seen], options: argparse.Namespace) -> None:
    """Print; the figure last."""

    def middle(values: Sequence[float]) -> float:
        return float(np.median(values))

    print(
        f"{options.rounds} rounds of {options.seconds:g} s; {os.cpu_count()} cores; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for kind, seen in found.items():
        if not seen.latencies_ms:
            continue
        if kind == "alone":
            print(f"open loop, {options.rate:g} requests/s, Poisson")
        print(f"{kind:31} {seen.line()}")
    noop = found["closed, no-op"]
    for kind, seen in found.items():
        if kind.startswith("closed") and seen is not noop:
            ratios = [one / other for one, other in zip(seen.p50_ms, noop.p50_ms, strict=True)]
            print(
                f"{kind}: p50 {middle(seen.p50_ms):.2f} ms, {middle(ratios):.2f} x that of a no-op, "
                "medians of the rounds"
            )
    kept = {}
    for name, under_load, by_itself in (
        ("the batch", "beside a batch", "the batch alone"),
        ("the batch, gate off", "beside a batch, gate off", "the batch alone"),
        ("the usual loop", "LitServe beside the usual loop", "the usual loop alone"),
    ):
        if by_itself in found:
            loaded, solo = middle(found[under_load].rows_per_s), middle(found[by_itself].rows_per_s)
            kept[name] = loaded / solo if solo else math.nan  # too short a run for a single block
            paused = middle(found[under_load].paused_share)
            print(
                f"{name:20} {solo:7,.0f} rows/s alone, {loaded:7,.0f} beside requests, keeps {kept[name]:.0%}"
                + (f", paused {paused:.0%} of the time" if paused else "")
            )
    alone, beside, ungated = (found[kind] for kind in ("alone", "beside a batch", "beside a batch, gate off"))
    base = middle(alone.p99_ms)
    figure = (
        f"realtime p99: {base:.2f} ms alone, {middle(beside.p99_ms):.2f} beside a batch"
        f" ({middle(beside.p99_ms) / base:.2f} x), {middle(ungated.p99_ms):.2f} with the gate off"
    )
    if (litserve := found.get("LitServe beside the usual loop")) is not None:
        figure += f", {middle(litserve.p99_ms):.2f} of LitServe beside the usual loop"
    print(figure + f"; the batch keeps {kept['the batch']:.0%} of its speed")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Realtime latency, alone and beside a batch.")
    parser.add_argument("--registry", type=Path, help="folder of published decoders; default: one is fitted")
    parser.add_argument("--source", help="where rows come from: folder, two URLs, or sample[:ROWS]")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second, on average")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of one round of the open loop")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind")
    parser.add_argument("--stages", action="store_true", help="print where the time of one request goes")
    parser.add_argument("--plot", type=Path, help="draw a PNG there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embup-realtime-") as made, ExitStack() as servers:
        folder = Path(made)
        registry, rows = registry_and_rows(options.registry, options.source, folder)
        source, pauses = folder / "in.txt", folder / "pauses"
        write_input(source, rows, BATCH_ROWS)
        bodies = [
            json.dumps({"embedding": row.tolist()}).encode() for row in jittered(rows, DISTINCT_ROWS, seed=0)
        ]
        ours = servers.enter_context(service(registry, folder / "gate", source, pauses=pauses))
        if options.stages:
            print_table(stages_table(ours, registry, bodies, options.rounds))
            return
        ungated = servers.enter_context(service(registry, folder / "open", source, open_gate=True))
        other, peers = None, {}
        if find_spec("litserve") is not None:  # which brings FastAPI along
            other = servers.enter_context(peer(registry, source))
            peers = {
                "LitServe": other,
                "FastAPI": servers.enter_context(peer(registry, source, "fastapi")),
            }
        else:
            say("LitServe is not installed and left out: pip install -e '.[bench]'")
        found = measure(ours, ungated, other, peers, bodies, options)
        if options.plot:
            panels = [
                realtime_plot.record("with the gate", ours, bodies, options.rate, pauses),
                realtime_plot.record("with the gate off", ungated, bodies, options.rate, None),
            ]
            options.plot.write_bytes(realtime_plot.draw(panels, options.rate))
    report(found, options)


if __name__ == "__main__":
    main()
