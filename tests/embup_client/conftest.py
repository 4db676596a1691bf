"""Both clients under one set of tests, the real service, and a server that fails as it is told."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest

from embup_client import AsyncClient, Client
from tests.serving.conftest import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from embup_core.artifacts.registry import Registry


class Awaited:
    """`AsyncClient` as if it were `Client`: each call runs an event loop to its end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(*arguments, **options)

    def __repr__(self) -> str:
        return repr(self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            found = method(*arguments, **options)
            if isinstance(found, AsyncGenerator):
                return self._each(found)
            return self._loop.run_until_complete(found)

        return call if callable(method) else method

    def _each(self, found: AsyncGenerator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run_until_complete(anext(found))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(found.aclose())


KINDS: Mapping[str, Any] = {"sync": Client, "async": Awaited}


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> type[Client]:
    """Either client."""
    kind: type[Client] = KINDS[request.param]
    return kind


@dataclass(frozen=True)
class Answer:
    """What the server does with one request: answer, or hang up when there is no status."""

    status: int | None = None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    silent_s: float = 0.0

    @classmethod
    def of(cls, content: object, status: int = 200, **headers: str) -> Self:
        """Answer with JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | named)


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float


class Scripted:
    """A server that answers each request with the next of `answers`, the last one for ever."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        self.seen: list[Seen] = []
        script = list(answers)
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen.append(Seen(self.command, self.path, headers, body, time.monotonic()))
                answer = script.pop(0) if len(script) > 1 else script[0]
                time.sleep(answer.silent_s)
                if answer.status is None:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = answer  # noqa: N815  the base class calls them so
            do_POST = answer  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """Start a server: ``scripted(answer, answer, …)``."""
    servers: list[Scripted] = []

    def start(*answers: Answer, port: int = 0) -> Scripted:
        servers.append(Scripted(*answers, port=port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def answer() -> type[Answer]:
    """What a scripted server does."""
    return Answer


@pytest.fixture(scope="module")
def service(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real service."""
    started = Service(registry.root, tmp_path_factory.mktemp("service"))
    yield started
    assert started.end() == 0


@pytest.fixture
def service_of(tmp_path: Path) -> Iterator[Callable[[Registry], Service]]:
    """Start a real service on another registry: ``service_of(registry)``; it is killed with the test."""
    started: list[Service] = []

    def start(other: Registry) -> Service:
        started.append(Service(other.root, tmp_path / "other"))
        return started[-1]

    yield start
    for one in started:
        one.end(signal.SIGKILL)


@pytest.fixture
def serve(registry: Registry, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a real service of its own: ``serve(**settings)``; it is killed with the test."""
    started: list[Service] = []

    def start(**settings: Any) -> Service:
        started.append(Service(registry.root, tmp_path / "data", **settings))
        return started[-1]

    yield start
    for one in started:
        one.end(signal.SIGKILL)
