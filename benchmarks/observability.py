"""What metrics and traces cost a realtime request: on and off, in one run.

    python -m benchmarks.observability [--registry DIR] [--source DIR] [--rounds 30] [--requests 200]

Services with the same decoder answer on loopback: one measures nothing, and so does a second one, whose
difference from it is chance; one has metrics; one has metrics and sends a trace of every request to a
receiver that runs beside it. One connection to each sends single rows one after the other. A round asks each
service in turn, in changing order, so that a slow moment of the machine hits all; a ratio is that of a
round's medians, and the figure is the median of the rounds' ratios. Beside it stands the processor time of
the service's process for a request, which a busy machine changes less (Linux).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import say, table
from benchmarks.service.client import Caller
from benchmarks.service.server import START_S, jittered, registry_and_rows, serving_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PATH = "/v1/upsample"
DISTINCT_ROWS = 1_000
WARM_REQUESTS = 300
OFF, AGAIN, METRICS, TRACES = "off", "off, again", "metrics", "metrics and traces"


@contextmanager
def span_sink(folder: Path) -> Iterator[str]:
    """Run a receiver of spans; give its address."""
    port_file = folder / "sink"
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.service.span_sink", port_file])
    try:
        deadline = time.monotonic() + START_S
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("error: the receiver of spans did not start")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port_file.read_text()}"
    finally:
        process.kill()
        process.wait()


@dataclass
class Asked:
    """One of the services, and what it did.

    Attributes
    ----------
    caller, pid
        The connection to it, and its process.
    rounds_ms
        Latencies of each round's requests.
    processor_s
        Processor time of its process in all rounds.
    """

    caller: Caller
    pid: int
    rounds_ms: list[list[float]] = field(default_factory=list)
    processor_s: float = 0.0

    def ask(self, bodies: Sequence[bytes]) -> None:
        """Send one round's requests."""
        before_s = _processor_s(self.pid)
        self.rounds_ms.append([self.caller.latency_ms(PATH, body) for body in bodies])
        self.processor_s += _processor_s(self.pid) - before_s

    @property
    def processor_us(self) -> float:
        """Processor time of a request."""
        return 1e6 * self.processor_s / sum(map(len, self.rounds_ms))


def _processor_s(pid: int) -> float:
    """Processor time that all threads of a process have had; 0 where the system does not say."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def measure(services: Mapping[str, Asked], bodies: Sequence[bytes], rounds: int, requests: int) -> None:
    """Ask each service in turns."""
    for service in services.values():
        for number in range(WARM_REQUESTS):
            service.caller.latency_ms(PATH, bodies[number % len(bodies)])
    draw = random.Random(0)
    turns = list(services.values())
    gc.disable()
    for number in range(rounds):
        if number % 10 == 0:
            say(f"round {number + 1} of {rounds}")
        draw.shuffle(turns)
        sent = draw.choices(bodies, k=requests)
        for service in turns:
            service.ask(sent)
    gc.enable()


def report(services: Mapping[str, Asked]) -> None:
    """Print; the figure last."""
    medians = {kind: np.median(np.array(asked.rounds_ms), axis=1) for kind, asked in services.items()}
    none = services[OFF]
    lines = []
    figures = []
    for kind, asked in services.items():
        p50, p99 = np.percentile(np.array(asked.rounds_ms), [50, 99])
        ratios = medians[kind] / medians[OFF]
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        lines.append(
            [
                kind,
                f"{p50:.3f}",
                f"{p99:.3f}",
                f"{middle:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{asked.processor_us:.0f}",
                f"{asked.processor_us - none.processor_us:+.0f}",
            ]
        )
        if kind != OFF:
            figures.append(f"{kind} {100 * (middle - 1):+.1f} %")
    print(
        f"{len(none.rounds_ms)} rounds of {len(none.rounds_ms[0])} requests to each; {os.cpu_count()} cores; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print(
        table(("", "p50 ms", "p99 ms", "p50 / off", "half of the rounds", "processor us", "more us"), lines)
    )
    print(f"observability: p50 of a realtime request, against none: {', '.join(figures)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What metrics and traces cost a realtime request.")
    parser.add_argument("--registry", type=Path, help="folder of published decoders; default: one is fitted")
    parser.add_argument("--source", help="where rows come from: folder, two URLs, or sample[:ROWS]")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of each kind")
    parser.add_argument("--requests", type=int, default=200, help="requests of one round to each service")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embup-observability-") as made, ExitStack() as running:
        folder = Path(made)
        registry, rows = registry_and_rows(options.registry, options.source, folder)
        bodies = [
            json.dumps({"embedding": row.tolist()}).encode() for row in jittered(rows, DISTINCT_ROWS, seed=0)
        ]
        environments = {
            OFF: {"EMBUP_METRICS": "false"},
            AGAIN: {"EMBUP_METRICS": "false"},
            METRICS: {"EMBUP_METRICS": "true"},
        }
        if find_spec("opentelemetry.sdk") is not None:
            sink = running.enter_context(span_sink(folder))
            environments[TRACES] = {
                "EMBUP_METRICS": "true", "EMBUP_TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": sink,
            }  # fmt: skip
        else:
            say("OpenTelemetry is not installed and left out: pip install -e '.[otel]'")
        started = {
            kind: running.enter_context(
                serving_process(registry, folder / f"data{number}", environment=environment)
            )
            for number, (kind, environment) in enumerate(environments.items())
        }
        services = {}  # connected only now: a service closes a connection on which nothing is asked
        for kind, (process, port) in started.items():
            services[kind] = Asked(Caller(port), process.pid)
            running.callback(services[kind].caller.close)
        measure(services, bodies, options.rounds, options.requests)
    report(services)


if __name__ == "__main__":
    main()
