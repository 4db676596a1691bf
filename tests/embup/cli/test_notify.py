"""`embup notify` against a webhook on the loopback address."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[tuple[Path, list[Any]]]:
    """A file with the webhook's address, and what it has received."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    file = tmp_path / "addresses"
    file.write_text(f"json://127.0.0.1:{server.server_port}/\n")
    file.chmod(0o600)
    yield file, received
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_test_message_goes_out_each_time(
    embup: Callable[..., Any], hook: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    file, received = hook
    for count in (1, 2):
        result = embup("notify", "test", "--notify-file", file, "--data", tmp_path)
        assert result.returncode == 0, result.stderr
        assert ["line", "1", "(json)", "sent"] in [line.split() for line in result.stdout.splitlines()]
        assert len(received) == count
    with file.open("a") as opened:
        opened.write("json://127.0.0.1:1/\n")
    result = embup("notify", "test", "--data", tmp_path, EMBUP_NOTIFY_FILE=str(file))
    assert result.returncode == 1
    assert "line 2 (json)" in result.stdout


def test_a_message_of_a_script_goes_out_once(
    embup: Callable[..., Any], hook: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    file, received = hook
    for key in ("down-1", "down-1", "down-2"):
        result = embup(
            "notify", "send", "the service is down", "--key", key, "--notify-file", file, "--data", tmp_path
        )
        assert result.returncode == 0, result.stderr
    assert [one["title"] for one in received] == ["the service is down"] * 2
    assert received[0]["type"] == "failure"


def test_without_addresses_it_says_what_to_set(embup: Callable[..., Any], tmp_path: Path) -> None:
    result = embup("notify", "test", "--data", tmp_path)
    assert result.returncode == 2
    assert "EMBUP_NOTIFY_FILE" in result.stderr
