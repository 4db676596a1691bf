"""A webhook and a mail server on the loopback address, and files of addresses."""

from __future__ import annotations

import json
import socket
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from aiosmtpd.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message as Mail
    from pathlib import Path


class Webhook:
    """What was posted, and what the next posts are answered with."""

    def __init__(self, port: int) -> None:
        self.url = f"json://user:secret-word@127.0.0.1:{port}/hook"
        self.received: list[dict[str, Any]] = []
        self.status = 200

    @property
    def titles(self) -> list[str]:
        return [str(one["title"]) for one in self.received]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        hook: ClassVar[Webhook]

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.hook.status == 200:
                self.hook.received.append(content)
            self.send_response(self.hook.status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.hook = Webhook(server.server_port)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield Handler.hook
    server.shutdown()
    thread.join()
    server.server_close()


class MailSink:
    """Mails that were taken."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"


@pytest.fixture
def mails() -> Iterator[tuple[MailSink, str]]:
    """The sink and its address."""
    sink = MailSink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(sink, hostname="127.0.0.1", port=port, ready_timeout=30)
    controller.start()
    yield sink, f"mailto://127.0.0.1:{port}?from=embup@example.org&to=team@example.org&mode=insecure"
    controller.stop()


@pytest.fixture
def addresses(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of addresses that only its owner may read."""

    def write(*urls: str) -> Path:
        file = tmp_path / "addresses"
        file.write_text("# where messages go\n\n" + "\n".join(urls) + "\n")
        file.chmod(0o600)
        return file

    return write
