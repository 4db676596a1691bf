"""How many realtime requests a second one core answers in time: the service and its peers.

    python -m benchmarks.capacity [--registry DIR] [--source DIR] [--clients 32] [--seconds 3] [--rounds 5]
                                  [--bentoml PYTHON]

Each server runs on the first core and the client on the second. Single rows are due at moments drawn from a
Poisson process; 32 connections send them, and a request that finds none free waits, which counts. In each
round each server, in changing order, is asked at 500 requests a second, and then at ever higher rates, a
quarter more each time, until the p99 passes 50 ms, or an answer is an error. --bentoml names the Python of an
environment with BentoML; see `benchmarks.peers.bentoml`. The last line is the figure.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import say
from benchmarks.peers.rivals import Rival, peer, service
from benchmarks.service.server import jittered, registry_and_rows, write_input

if TYPE_CHECKING:
    from collections.abc import Sequence

DISTINCT_ROWS = 2_000
STATED_RATE = 500.0
MOST_RATE = 20_000.0
STEP = 1.25
LATE_MS = 50.0


@dataclass
class Seen:
    """What a server did: one entry a round."""

    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    errors: int = 0
    capacity: list[float] = field(default_factory=list)


def percentiles(
    rival: Rival, bodies: Sequence[bytes], rate: float, options: argparse.Namespace, seed: int, seen: Seen
) -> tuple[float, float]:
    """p50 and p99 in ms at a rate."""
    answered = rival.requests.send(
        bodies, rate=rate, seconds=options.seconds, seed=seed, connections=options.clients, refusals=True
    )
    latencies = np.array([answer.latency_ms for answer in answered])
    seen.errors += int(np.isinf(latencies).sum()) if rate == STATED_RATE else 0
    p50, p99 = np.percentile(latencies, [50, 99], method="higher")
    return float(p50), float(p99)


def one_round(
    rival: Rival, bodies: Sequence[bytes], options: argparse.Namespace, seed: int, seen: Seen
) -> None:
    """Ask at the stated rate, then at higher ones until answers are late."""
    rival.requests.send(bodies, rate=200, seconds=0.5, seed=seed, connections=options.clients)  # warm up
    rate, reached = STATED_RATE, 0.0
    while rate < MOST_RATE:
        p50, p99 = percentiles(rival, bodies, rate, options, seed, seen)
        if rate == STATED_RATE:
            seen.p50_ms.append(p50)
            seen.p99_ms.append(p99)
        if not p99 <= LATE_MS:
            break
        reached, rate = rate, rate * STEP
    seen.capacity.append(reached)
    time.sleep(0.5)  # what waits is answered before the next server's turn


def report(found: dict[str, Seen], options: argparse.Namespace) -> None:
    """Print; the figure last."""
    print(
        f"{options.clients} connections, one core, {options.rounds} rounds of {options.seconds:g} s a rate; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':10}  {'at 500/s: p50':>13} {'p99 ms':>8} {'errors':>7}   in time up to, requests/s")
    for name, seen in found.items():
        rates = f"{np.median(seen.capacity):,.0f} ({min(seen.capacity):,.0f} to {max(seen.capacity):,.0f})"
        p50, p99 = np.median(seen.p50_ms), np.median(seen.p99_ms)
        print(f"{name:10}  {p50:13.2f} {p99:8.2f} {seen.errors:7}   {rates}")
    ours = found["embup"]
    others = ", ".join(
        f"{name} {np.median(seen.capacity):,.0f}" for name, seen in found.items() if name != "embup"
    )
    print(
        f"capacity: p99 {np.median(ours.p99_ms):.2f} ms at 500/s, {ours.errors} errors; at most {LATE_MS:g} "
        f"ms up to {np.median(ours.capacity):,.0f} requests/s; {others}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Realtime requests a second on one core.")
    parser.add_argument("--registry", type=Path, help="folder of published decoders; default: one is fitted")
    parser.add_argument("--source", help="where rows come from: folder, two URLs, or sample[:ROWS]")
    parser.add_argument("--clients", type=int, default=32, help="connections")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds at a rate")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each server")
    parser.add_argument("--bentoml", metavar="PYTHON", help="interpreter of an environment with BentoML")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="embup-capacity-") as made, ExitStack() as servers:
        folder = Path(made)
        registry, rows = registry_and_rows(options.registry, options.source, folder)
        source = folder / "in.txt"
        write_input(source, rows, 1)
        bodies = [
            json.dumps({"embedding": row.tolist()}).encode() for row in jittered(rows, DISTINCT_ROWS, seed=0)
        ]
        os.sched_setaffinity(0, cores[:1])  # inherited by what starts now
        rivals: dict[str, Rival] = {
            "embup": servers.enter_context(service(registry, folder / "service", source)),
            "FastAPI": servers.enter_context(peer(registry, source, "fastapi")),
            "LitServe": servers.enter_context(peer(registry, source)),
        }
        if options.bentoml:
            rivals["BentoML"] = servers.enter_context(
                peer(registry, source, "bentoml", python=options.bentoml, ready="/readyz")
            )
        os.sched_setaffinity(0, cores[1:] or cores)
        found = {name: Seen() for name in rivals}
        order, shuffler = list(rivals), random.Random(0)
        for number in range(1, options.rounds + 1):
            say(f"round {number} of {options.rounds}")
            shuffler.shuffle(order)
            for name in order:
                one_round(rivals[name], bodies, options, number, found[name])
    report(found, options)


if __name__ == "__main__":
    main()
