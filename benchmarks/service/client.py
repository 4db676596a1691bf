"""Just enough HTTP over loopback: a full client costs more than what it measures."""

from __future__ import annotations

import asyncio
import json
import math
import random
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEAD_END = b"\r\n\r\n"
RECEIVE_BYTES = 1 << 16
_UNLIMITED = 1 << 20


class Answered(NamedTuple):
    """When a request was sent, on the monotonic clock, and how long its answer took, in milliseconds."""

    sent_s: float
    latency_ms: float


def _request_bytes(method: str, path: str, content: bytes, accept: str = "*/*") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def _content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))


class Caller:
    """One blocking keep-alive connection: the next request is sent when the last answer is there.

    Parameters
    ----------
    port
        On the loopback.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, method: str, path: str, content: bytes = b"") -> tuple[int, bytes]:
        """Send one request; give status and body."""
        self._socket.sendall(_request_bytes(method, path, content))
        data = self._socket.recv(RECEIVE_BYTES)
        while (end := data.find(HEAD_END)) < 0:
            data += self._received()
        whole = end + len(HEAD_END) + _content_length(data[:end])
        while len(data) < whole:
            data += self._received()
        return int(data[9:12]), data[end + len(HEAD_END) :]

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request that must succeed; give what it answered."""
        status, answer = self.request(method, path, b"" if body is None else json.dumps(body).encode())
        if status >= 300:
            raise SystemExit(f"error: {method} {path}: {status} {answer.decode()}")
        return json.loads(answer)

    def latency_ms(self, path: str, content: bytes) -> float:
        """Post once; give how long the answer took, first byte sent to last byte received."""
        started = time.perf_counter()
        status, answer = self.request("POST", path, content)
        elapsed = time.perf_counter() - started
        if status != 200:
            raise SystemExit(f"error: POST {path}: {status} {answer.decode()}")
        return elapsed * 1e3

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _received(self) -> bytes:
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise SystemExit("error: the server closed the connection in the middle of an answer")
        return data


def call(port: int, method: str, path: str, body: Any = None) -> Any:
    """Send one request that must succeed, on a connection of its own; give what it answered."""
    caller = Caller(port)
    try:
        return caller.json(method, path, body)
    finally:
        caller.close()


class OpenLoop:
    """Sends requests at moments of its own, on as many connections as that takes.

    Parameters
    ----------
    port
        On the loopback.
    path
        What is asked.
    accept
        Media type asked for.
    on_answer
        Gets the request's body, the answer's head and its body, of each answer that came.
    """

    def __init__(
        self,
        port: int,
        path: str,
        *,
        accept: str = "*/*",
        on_answer: Callable[[bytes, bytes, bytes], None] = lambda *_: None,
    ) -> None:
        self._port = port
        self._path = path
        self._accept = accept
        self._on_answer = on_answer
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def send(
        self,
        bodies: Sequence[bytes],
        *,
        rate: float,
        seconds: float,
        seed: int,
        connections: int | None = None,
        refusals: bool = False,
    ) -> list[Answered]:
        """Send at Poisson moments: a slow answer holds no later request back.

        Parameters
        ----------
        bodies
            Of the requests; each sends one of them.
        rate
            Requests a second, on average.
        seconds
            How long.
        seed
            Of the moments.
        connections
            Most at a time: a request that is due waits for a free one, and that counts as its latency. None:
            as many as it takes.
        refusals
            Whether another status than 200 counts as an answer that takes for ever; otherwise it ends the
            benchmark.
        """
        limit = asyncio.Semaphore(connections or _UNLIMITED)
        return self._runner.run(self._send(bodies, rate, seconds, random.Random(seed), limit, refusals))

    def close(self) -> None:
        """Close every connection."""
        for _, writer in self._idle:
            writer.close()
        self._runner.close()

    async def _send(
        self,
        bodies: Sequence[bytes],
        rate: float,
        seconds: float,
        draw: random.Random,
        limit: asyncio.Semaphore,
        refusals: bool,
    ) -> list[Answered]:
        answered: list[Answered] = []

        async def one(body: bytes) -> None:
            started = time.monotonic()
            async with limit:
                status, head, answer = await self._request(body)
            latency_ms = (time.monotonic() - started) * 1e3
            if status != 200 and refusals:
                answered.append(Answered(started, math.inf))
                return
            if status != 200:
                raise SystemExit(f"error: POST {self._path}: {status} {answer.decode()}")
            answered.append(Answered(started, latency_ms))
            self._on_answer(body, head, answer)

        async with asyncio.TaskGroup() as tasks:
            due = start = time.monotonic()
            while due - start < seconds:
                due += draw.expovariate(rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                tasks.create_task(one(draw.choice(bodies)))
        return answered

    async def _request(self, content: bytes) -> tuple[int, bytes, bytes]:
        reader, writer = await self._connection()
        writer.write(_request_bytes("POST", self._path, content, self._accept))
        head = await reader.readuntil(HEAD_END)
        answer = await reader.readexactly(_content_length(head))
        self._idle.append((reader, writer))
        return int(head[9:12]), head, answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()  # servers close what was idle for seconds
        return await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
