"""SIGTERM at random moments, with realtime requests in flight and a batch at work: nothing is cut or lost."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.conftest import BatchStatistics, Case, Scale, Watcher
    from tests.serving.conftest import Service

SEED = 6
EXIT_WITHIN_S = 10.0


@dataclass
class Client:
    """One connection after another, one request after another on each, until the service is gone.

    Speaks HTTP over a bare socket: only that tells an answer that never began from one that was cut.
    """

    port: int
    body: bytes
    chance: random.Random
    statuses: list[int] = field(default_factory=list)
    in_flight: bool = False
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Send until nobody listens any more."""
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
            except OSError:
                return
            with connection:
                while self._one_request(connection):
                    time.sleep(self.chance.uniform(0, 0.01))  # the batch's turn

    def _one_request(self, connection: socket.socket) -> bool:
        """Send a request and read its answer; False when the connection is of no more use."""
        received = b""
        head = (
            "POST /v1/upsample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        ).encode()
        try:
            middle = len(self.body) // 2
            connection.sendall(head + self.body[:middle])
            self.in_flight = True
            connection.sendall(self.body[middle:])
            while not is_whole(received):
                if not (some := connection.recv(1 << 20)):
                    break
                received += some
        except OSError:
            pass
        finally:
            self.in_flight = False
        if not received:
            # On a connection that the service was closing, or not accepted: it must not have begun it.
            self.unanswered += 1
            return False
        if not is_whole(received):
            self.wrong.append(f"an answer was cut after {len(received)} bytes: {received[:200]!r}")
            return False
        self.statuses.append(int(received.split(b" ", 2)[1]))
        self._check(received)
        return b"connection: close" not in received.partition(b"\r\n\r\n")[0].lower()

    def _check(self, received: bytes) -> None:
        answer: dict[str, Any] = json.loads(received.partition(b"\r\n\r\n")[2])
        if self.statuses[-1] == 200:
            if not all(len(row) == 1536 for row in answer["embeddings"]):
                self.wrong.append("an answer of 200 without its rows")
        elif self.statuses[-1] != 503 or answer["status"] != 503 or not answer["detail"]:
            self.wrong.append(str(answer))


def is_whole(received: bytes) -> bool:
    """Whether an answer has all its bytes."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    lengths = [
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    ]
    return bool(lengths) and len(body) >= lengths[0]


def check_log(service: Service, lines_before: int, statuses: list[int]) -> None:
    """Check that clients got an answer to each request that the service began, and no other one."""
    begun: Counter[int] = Counter()
    for line in service.log.read_text().splitlines()[lines_before:]:
        entry = json.loads(line)
        if entry["event"] == "request" and entry["path"] == "/v1/upsample":
            begun[entry["status"]] += 1
    assert begun == Counter(statuses)


def test_a_stop_cuts_no_request_ends_in_time_and_the_batch_goes_on(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    hold_the_gate: Callable[[Service], Any],
    watcher: Watcher,
    statistics: BatchStatistics,
    scale: Scale,
) -> None:
    statistics.require("SIGTERM", scale.stops)
    statistics.require("requests in flight at a SIGTERM", scale.stops // 2)
    statistics.require("half sent requests that were finished after it", scale.stops // 2)
    chance = random.Random(SEED)
    some = case(4000)
    service = serve(access_log=True, log_format="json", checkpoint_interval_s=60)
    rows = np.random.default_rng(0).normal(size=(64, 32)).round(4).tolist()
    bodies = [json.dumps({"embeddings": rows[:count]}).encode() for count in (1, 4, 16, 64)]
    job, target, jobs, slowest_s = "", service.data, 0, 0.0
    for stop in range(scale.stops):
        if not job or service.status(job)["phase"] == "COMPLETED":
            if job:
                some.check(target)
                watcher.forget(target)
                target.unlink()
            target = service.data / "out" / f"{jobs}.txt"
            watcher.watch(target, some.size_bytes)
            job = service.submit(some.source, target)
            jobs += 1
        lines_before = len(service.log.read_text().splitlines())
        time.sleep(chance.uniform(0, 0.1))  # the batch alone
        clients = [Client(service.port, body, random.Random(stop)) for body in bodies]
        threads = [threading.Thread(target=client.run) for client in clients]
        with hold_the_gate(service) if stop % 2 else nullcontext() as half_sent:
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.02, 0.2))  # the random moment
            statistics.add("requests in flight at a SIGTERM", sum(client.in_flight for client in clients))
            started = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            statuses = []
            if half_sent is not None:
                time.sleep(chance.uniform(0, 0.05))
                received = half_sent.finish()
                assert is_whole(received)
                statuses.append(int(received.split(b" ", 2)[1]))
                assert statuses == [200]
                statistics.add("half sent requests that were finished after it")
        service.process.wait(3 * EXIT_WITHIN_S)  # without a second signal, which would cut requests off
        code = service.end()
        assert code == 0, "\n".join(service.log.read_text().splitlines()[lines_before:])
        slowest_s = max(slowest_s, time.monotonic() - started)
        for thread in threads:
            thread.join()
        assert slowest_s < EXIT_WITHIN_S
        assert not [found for client in clients for found in client.wrong]
        statuses += [status for client in clients for status in client.statuses]
        check_log(service, lines_before, statuses)
        statistics.add("SIGTERM")
        statistics.add("requests answered", len(statuses))
        statistics.add("of them by 503", statuses.count(503))
        statistics.add("requests never begun", sum(client.unanswered for client in clients))
        service.start()
    assert service.final(job)["phase"] == "COMPLETED"
    some.check(target)
    statistics.add("batches completed", jobs)
    statistics.add("ms that the slowest stop took", round(slowest_s * 1e3))
