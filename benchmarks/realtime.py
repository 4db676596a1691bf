"""Realtime latency, alone and beside a batch that has more to do than it can: the figure this service is for.

    python -m benchmarks.realtime [--registry DIR] [--rate 100] [--seconds 8] [--rounds 3]

Starts the real server on a free port and sends single-row JSON requests over loopback, at moments drawn from
a Poisson process: a slow answer holds no later request back. Latency is from the first byte sent to the last
byte received.
Rounds alone and beside a batch take turns, so that a slow minute of the machine hits both. The last line is
the figure.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Coroutine

DIMS = 32
DISTINCT_ROWS = 2_000
BATCH_ROWS = 400_000  # more than any run gets through
START_S = 60.0
LONGEST_WAIT = "embup_gate_realtime_waited_max_seconds"


@dataclass
class Round:
    """What one round saw. Latencies in milliseconds."""

    latencies_ms: list[float] = field(default_factory=list)
    batch_rows_per_s: float = 0.0
    paused_share: float = 0.0
    longest_wait_ms: float = 0.0


class Client:
    """Keep-alive connections to one server, and just enough HTTP: a full client costs more than it measures.

    Parameters
    ----------
    port
        On the loopback.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Send one request; give status and body."""
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        answer = await reader.readexactly(length)
        self._idle.append((reader, writer))
        return int(head[9:12]), answer

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request that must succeed; give what it answered."""
        status, answer = await self.request(method, path, body)
        if status >= 300:
            raise SystemExit(f"error: {method} {path}: {status} {answer.decode()}")
        return json.loads(answer)

    def close(self) -> None:
        """Close every connection."""
        for _, writer in self._idle:
            writer.close()


async def send(client: Client, bodies: list[bytes], *, rate: float, seconds: float, seed: int) -> list[float]:
    """Send requests at Poisson moments; give their latencies in milliseconds."""
    draw = random.Random(seed)
    latencies: list[float] = []

    async def one(body: bytes) -> None:
        started = time.perf_counter()
        status, _ = await client.request("POST", "/v1/upsample", body)
        if status != 200:
            raise SystemExit(f"error: a realtime request was answered {status}")
        latencies.append((time.perf_counter() - started) * 1e3)

    async with asyncio.TaskGroup() as tasks:
        due = start = time.perf_counter()
        while due - start < seconds:
            due += draw.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(one(draw.choice(bodies)))
    return latencies


async def beside_a_batch(
    client: Client, folder: Path, number: int, sending: Coroutine[Any, Any, list[float]]
) -> tuple[list[float], float, float]:
    """Send while a batch runs; give latencies, the batch's rows a second and its share of time paused."""
    accepted = await client.json(
        "POST",
        "/v1/batches",
        {"input_filepath": str(folder / "in.txt"), "output_filepath": str(folder / f"out{number}.txt")},
    )
    path = f"/v1/batches/{accepted['batch_request_id']}"
    while (before := await client.json("GET", path))["num_records_processed"] == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    started = time.perf_counter()
    latencies = await sending
    after = await client.json("GET", path)
    elapsed = time.perf_counter() - started
    if after["status"] != "IN PROGRESS":
        raise SystemExit(f"error: the batch ended during the round: {after}")
    await client.json("POST", path + "/cancel")
    while (await client.json("GET", path))["phase"] != "CANCELLED":  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)
    rows = after["num_records_processed"] - before["num_records_processed"]
    return latencies, rows / elapsed, (after["paused_s"] - before["paused_s"]) / elapsed


async def measure(
    port: int, folder: Path, *, rate: float, seconds: float, rounds: int
) -> tuple[Round, Round]:
    """Run the rounds; give what was seen alone and beside a batch."""
    rows = np.random.default_rng(0).normal(size=(DISTINCT_ROWS, DIMS))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    lines = "".join(",".join(f"{value:.8f}" for value in row) + "\n" for row in rows)
    with (folder / "in.txt").open("w") as file:
        for _ in range(BATCH_ROWS // DISTINCT_ROWS):
            file.write(lines)
    bodies = [json.dumps({"embedding": row.tolist()}).encode() for row in rows]
    client = Client(port)
    alone, beside = Round(), Round()
    await send(client, bodies, rate=rate, seconds=1.0, seed=0)  # connections, caches
    gc.disable()
    for number in range(rounds):
        alone.latencies_ms += await send(client, bodies, rate=rate, seconds=seconds, seed=2 * number + 1)
        latencies, rows_per_s, paused_share = await beside_a_batch(
            client, folder, number, send(client, bodies, rate=rate, seconds=seconds, seed=2 * number + 2)
        )
        beside.latencies_ms += latencies
        beside.batch_rows_per_s += rows_per_s / rounds
        beside.paused_share += paused_share / rounds
    _, metrics = await client.request("GET", "/metrics")
    waits = [line for line in metrics.decode().splitlines() if line.startswith(LONGEST_WAIT)]
    beside.longest_wait_ms = float(waits[0].split()[1]) * 1e3
    client.close()
    return alone, beside


def publish_sample_decoder(folder: Path) -> Path:
    """Fit the kriging decoder on the built-in sample; give the registry."""
    from embup_core.artifact import Provenance, golden_inputs
    from embup_core.coordinates import recover_coordinates
    from embup_core.cosine_matrix import CosineMatrix
    from embup_core.decoders import DECODERS
    from embup_core.registry import Registry
    from embup_core.sources import resolve_source

    files = resolve_source("sample", cache_dir=folder / "sample")
    projected = np.load(files.projected)
    decoder = DECODERS["kriging"]().fit(projected, recover_coordinates(CosineMatrix.open(files.cosines)))
    Registry(folder / "registry").publish(
        decoder,
        golden=golden_inputs(projected),
        provenance=Provenance("sample", "0" * 64, len(projected), {}, {}, {}),
    )
    return folder / "registry"


def start_server(registry: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the service in a process of its own; give it and its port."""
    port_file = folder / "port"
    code = (
        "import sys; from pathlib import Path\n"
        "from serving.server import run_server; from serving.settings import ServingSettings\n"
        "registry, data, port_file = map(Path, sys.argv[1:])\n"
        "run_server(ServingSettings(registry=registry, data=data, port=0, batch_roots=str(data),"
        " log_level='warning'), port_file=port_file)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(registry), str(folder), str(port_file)])
    deadline = time.monotonic() + START_S
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit("error: the service did not start")
        time.sleep(0.02)
    return process, int(port_file.read_text())


def summary(found: Round) -> str:
    """Give one round's percentiles as text."""
    p50, p90, p99, worst = np.percentile(found.latencies_ms, [50, 90, 99, 100])
    count = len(found.latencies_ms)
    return f"p50 {p50:6.2f}  p90 {p90:6.2f}  p99 {p99:6.2f}  max {worst:6.2f} ms  ({count} requests)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Realtime latency, alone and beside a batch.")
    parser.add_argument("--registry", type=Path, help="folder of published decoders; default: one is fitted")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second, on average")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embup-realtime-") as name:
        folder = Path(name)
        registry = options.registry or publish_sample_decoder(folder)
        process, port = start_server(registry, folder)
        try:
            alone, beside = asyncio.run(
                measure(port, folder, rate=options.rate, seconds=options.seconds, rounds=options.rounds)
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    p99_alone, p99_beside = (float(np.percentile(found.latencies_ms, 99)) for found in (alone, beside))
    load = os.getloadavg()[0]
    print(f"{options.rate:g} single-row requests/s, Poisson; {os.cpu_count()} cores; load {load:.1f}")
    print(f"alone           {summary(alone)}")
    print(f"beside a batch  {summary(beside)}")
    share = beside.paused_share
    print(f"batch beside it {beside.batch_rows_per_s:6,.0f} rows/s, paused {share:.0%} of the time")
    print(f"longest wait of a request for the batch: {beside.longest_wait_ms:.2f} ms")
    ratio = p99_beside / p99_alone
    print(f"realtime p99: {p99_alone:.2f} ms alone, {p99_beside:.2f} ms beside a batch ({ratio:.2f} x)")


if __name__ == "__main__":
    main()
