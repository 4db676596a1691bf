"""Realtime latency, alone and beside a batch that has more to do than it can: the figure this service is for.

    python -m benchmarks.realtime [--registry DIR] [--rate 100] [--seconds 8] [--rounds 3]

Starts the real server on a free port and sends single-row JSON requests over loopback, at moments drawn from
a Poisson process: a slow answer holds no later request back. Latency is from the first byte sent to the last
byte received.
Rounds alone, beside a batch, and beside the same work done without the gate by a process of its own at idle
priority take turns, so that a slow minute of the machine hits all. The last line is the figure.
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

from benchmarks.server import publish_sample_decoder, start_server

if TYPE_CHECKING:
    from collections.abc import Coroutine

DIMS = 32
DISTINCT_ROWS = 2_000
ROW_BYTES = 1536 * 12
BATCH_ROWS = 400_000  # more than any run gets through
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


async def beside_a_process(
    registry: Path, folder: Path, sending: Coroutine[Any, Any, list[float]]
) -> tuple[list[float], float]:
    """Send while a process of its own, without the gate, works on the file; give latencies and its rows/s."""
    output = folder / "process.txt"
    part = output.with_name(output.name + ".part")
    embup = Path(sys.executable).with_name("embup")
    process = subprocess.Popen(  # noqa: ASYNC220 - nothing is sent yet
        [embup, "upsample", folder / "in.txt", output, "--registry", registry],
        stderr=subprocess.DEVNULL,
    )
    os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
    try:
        while not part.exists() or part.stat().st_size == 0:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
        started, before = time.perf_counter(), part.stat().st_size
        latencies = await sending
        rows = (part.stat().st_size - before) / ROW_BYTES
        return latencies, rows / (time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        part.unlink(missing_ok=True)


async def measure(
    port: int, registry: Path, folder: Path, *, rate: float, seconds: float, rounds: int
) -> tuple[Round, Round, Round]:
    """Run the rounds; give what was seen alone, beside a batch and beside a process."""
    rows = np.random.default_rng(0).normal(size=(DISTINCT_ROWS, DIMS))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    lines = "".join(",".join(f"{value:.8f}" for value in row) + "\n" for row in rows)
    with (folder / "in.txt").open("w") as file:
        for _ in range(BATCH_ROWS // DISTINCT_ROWS):
            file.write(lines)
    bodies = [json.dumps({"embedding": row.tolist()}).encode() for row in rows]
    client = Client(port)
    alone, beside, apart = Round(), Round(), Round()
    await send(client, bodies, rate=rate, seconds=1.0, seed=0)  # connections, caches
    gc.disable()
    for number in range(rounds):
        alone.latencies_ms += await send(client, bodies, rate=rate, seconds=seconds, seed=3 * number + 1)
        latencies, rows_per_s, paused_share = await beside_a_batch(
            client, folder, number, send(client, bodies, rate=rate, seconds=seconds, seed=3 * number + 2)
        )
        beside.latencies_ms += latencies
        beside.batch_rows_per_s += rows_per_s / rounds
        beside.paused_share += paused_share / rounds
        latencies, rows_per_s = await beside_a_process(
            registry, folder, send(client, bodies, rate=rate, seconds=seconds, seed=3 * number + 3)
        )
        apart.latencies_ms += latencies
        apart.batch_rows_per_s += rows_per_s / rounds
    _, metrics = await client.request("GET", "/metrics")
    waits = [line for line in metrics.decode().splitlines() if line.startswith(LONGEST_WAIT)]
    beside.longest_wait_ms = float(waits[0].split()[1]) * 1e3
    client.close()
    return alone, beside, apart


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
            alone, beside, apart = asyncio.run(
                measure(
                    port,
                    registry,
                    folder,
                    rate=options.rate,
                    seconds=options.seconds,
                    rounds=options.rounds,
                )
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    p99_alone, p99_beside = (float(np.percentile(found.latencies_ms, 99)) for found in (alone, beside))
    load = os.getloadavg()[0]
    print(f"{options.rate:g} single-row requests/s, Poisson; {os.cpu_count()} cores; load {load:.1f}")
    print(f"alone           {summary(alone)}")
    print(f"beside a batch  {summary(beside)}")
    print(f"beside a process without the gate  {summary(apart)}")
    print(f"work of that process {apart.batch_rows_per_s:6,.0f} rows/s")
    share = beside.paused_share
    print(f"batch beside it {beside.batch_rows_per_s:6,.0f} rows/s, paused {share:.0%} of the time")
    print(f"longest wait of a request for the batch: {beside.longest_wait_ms:.2f} ms")
    ratio = p99_beside / p99_alone
    print(f"realtime p99: {p99_alone:.2f} ms alone, {p99_beside:.2f} ms beside a batch ({ratio:.2f} x)")


if __name__ == "__main__":
    main()
