"""Clients that hang up at any point of a request: nothing is left of them, and the batch goes on."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.conftest import BatchStatistics, Case, Scale
    from tests.serving.conftest import Service

AT_ONCE = 8
BODY = json.dumps({"embeddings": [[0.1] * 32] * 16}).encode()
JSON = {"Content-Type": "application/json"}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: the peer sees a reset instead of an end
MORE_MEMORY_BYTES = 48 << 20  # what the allocator keeps for the most that was answered at once


def request_bytes(dice: random.Random, job: str) -> bytes:
    """Make a whole request of any kind: realtime, batch, status, events, metrics, or one that is wrong."""
    path, body = dice.choice(
        [
            ("POST /v1/upsample", BODY),
            ("POST /v1/upsample", b'{"embedding": [1, 2'),
            ("POST /v1/batches", b'{"input_filepath": "none.txt", "output_filepath": "none too.txt"}'),
            ("POST /v1/models/reload", b""),
            (f"GET /v1/batches/{job}", b""),
            (f"GET /v1/batches/{job}/events", b""),
            ("GET /metrics", b""),
            ("GET /docs", b""),
        ]
    )
    head = f"{path} HTTP/1.1\r\nHost: localhost\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def hang_up(port: int, job: str, seed: int) -> str:
    """Send a part of a request, or all of it and take a part of the answer; then leave. Say when."""
    dice = random.Random(seed)
    request = request_bytes(dice, job)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        if dice.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if dice.random() < 0.6:
            connection.sendall(request[: dice.randrange(len(request))])
            when = "within the request"
        else:
            connection.sendall(request)
            when = "before the answer"
            if dice.random() < 0.5:
                connection.recv(dice.choice([1, 100, 10_000]))
                when = "within the answer"
        time.sleep(dice.choice([0, 0, 0.002, 0.02]))
    return f"clients that left {when}"


def metric(service: Service, name: str) -> float:
    """Read one metric without labels."""
    lines = service.http.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def has_moved(service: Service, job: str, rows: int) -> bool:
    """Whether a batch has more durable rows than that, or is through."""
    status = service.status(job)
    return bool(status["num_records_processed"] > rows or status["phase"] == "COMPLETED")


def test_clients_that_hang_up_at_any_point_leave_nothing_behind(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    await_progress: Callable[[Service, str], None],
    statistics: BatchStatistics,
    scale: Scale,
) -> None:
    long = case(40_000)
    service = serve(realtime_deadline_s=100, receive_deadline_s=100)
    process = psutil.Process(service.process.pid)
    outputs = (service.data / "out" / f"{number}.txt" for number in count())
    job = service.submit(long.source, next(outputs))
    await_progress(service, job)

    def hang_ups(clients: range) -> None:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for when in threads.map(lambda seed: hang_up(service.port, job, seed), clients):
                statistics.add(when)

    def is_quiet() -> bool:
        return metric(service, "embup_gate_realtime_holders") == 0 and len(process.net_connections()) <= 2

    hang_ups(range(AT_ONCE))  # what is opened and allocated once
    service.until(is_quiet)
    descriptors, memory = process.num_fds(), process.memory_full_info().uss
    for first in range(AT_ONCE, scale.hang_ups, 50):
        hang_ups(range(first, min(first + 50, scale.hang_ups)))
        before = service.status(job)["num_records_processed"]
        service.until(partial(has_moved, service, job, before))
        if service.status(job)["phase"] == "COMPLETED":
            job = service.submit(long.source, next(outputs))
    assert (
        sum(times for what, times in statistics.counts.items() if what.startswith("clients"))
        >= scale.hang_ups
    )
    service.until(is_quiet)
    assert metric(service, "embup_http_requests_in_progress") == 1, "the one that asks"
    service.until(lambda: process.num_fds() <= descriptors)
    assert process.memory_full_info().uss < memory + MORE_MEMORY_BYTES
    assert service.http.post("/v1/upsample", content=BODY, headers=JSON).status_code == 200
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "request failed" not in log
    service.http.post(f"/v1/batches/{job}/cancel")


def test_polls_beside_a_batch_all_have_an_answer_and_never_go_back(
    serve: Callable[..., Service], case: Callable[..., Case], statistics: BatchStatistics, scale: Scale
) -> None:
    statistics.require("polls", scale.polls)
    long = case(40_000)
    service = serve()
    target = service.data / "out" / "o.txt"
    job = service.submit(long.source, target)

    def poll(count: int) -> list[dict[str, Any]]:
        return [service.status(job) for _ in range(count)]

    while statistics["polls"] < scale.polls:
        with ThreadPoolExecutor(4) as clients:
            for seen in clients.map(poll, [25] * 4):
                statistics.add("polls", len(seen))
                rows = [status["num_records_processed"] for status in seen]
                assert rows == sorted(rows)
                assert {status["status"] for status in seen} <= {"IN PROGRESS", "COMPLETED"}
        if service.status(job)["phase"] == "COMPLETED":
            long.check(target)
            statistics.add("batches completed beside them")
            job = service.submit(long.source, target, overwrite=True)
    final = service.final(job)
    assert final["phase"] == "COMPLETED"
    statistics.add("batches completed beside them")
    long.check(target)
