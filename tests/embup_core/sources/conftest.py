"""A real HTTP server with the faults that real servers have, and a small valid pair of files to damage."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.sources import SampleParameters, SourceFiles, generate_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAST_MODIFIED = "Tue, 05 Mar 2024 10:00:00 GMT"


@dataclass
class FileServer:
    """What is served, how it misbehaves, and what was asked of it."""

    files: dict[str, bytes] = field(default_factory=dict)
    drop_after_bytes: int | None = None
    """Close the connection after that many bytes of a body."""
    drops_left: int = 0
    claim_extra_bytes: int = 0
    """Content-Length says that many bytes more than are sent."""
    failures: list[int] = field(default_factory=list)
    """Status codes to answer first."""
    validators: bool = True
    conditions: bool = True
    """Whether If-Range, If-None-Match and If-Modified-Since are honoured."""
    chunked: bool = False
    """Neither Content-Length nor ranges."""
    content_encoding: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    sent_bytes: int = 0
    url: str = ""

    def etag(self, body: bytes) -> str:
        return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'

    def start(self) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        return server


def _handler(state: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
            pass

        def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            state.answers.append(status)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            if (
                state.drop_after_bytes is not None
                and state.drops_left > 0
                and len(body) > state.drop_after_bytes
            ):
                state.drops_left -= 1
                body = body[: state.drop_after_bytes]
            state.sent_bytes += len(body)
            self.wfile.write(body)

        def do_GET(self) -> None:
            state.requests.append(dict(self.headers))
            if state.failures:
                self.answer(state.failures.pop(0), {"Content-Length": "0"})
                return
            body = state.files.get(self.path.split("?")[0])
            if body is None:
                self.answer(404, {"Content-Length": "0"})
                return
            etag = state.etag(body)
            headers = {"ETag": etag, "Last-Modified": LAST_MODIFIED} if state.validators else {}
            if state.content_encoding:
                headers["Content-Encoding"] = state.content_encoding
            if state.conditions and self.headers.get("If-None-Match") == etag:
                self.answer(304, headers)
                return
            if state.chunked:
                self.answer(200, headers, body)
                return
            first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if first and (
                not state.conditions or self.headers.get("If-Range", etag) in (etag, LAST_MODIFIED)
            ):
                start = int(first[1])
                if start >= len(body):
                    self.answer(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
                    return
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                headers["Content-Length"] = str(len(body) - start)
                self.answer(206, headers, body[start:])
                return
            headers["Content-Length"] = str(len(body) + state.claim_extra_bytes)
            self.answer(200, headers, body)

    return Handler


@pytest.fixture
def server() -> Iterator[FileServer]:
    state = FileServer()
    running = state.start()
    yield state
    running.shutdown()
    running.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the machine must not stand between a test and 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def pair(tmp_path: Path) -> SourceFiles:
    """A valid pair of 200 rows that a test may damage."""
    return generate_sample(tmp_path / "pair", parameters=SampleParameters(rows=200))
