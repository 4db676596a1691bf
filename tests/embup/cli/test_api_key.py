"""The API key of commands: it goes to the service, and nowhere else."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    Run = Callable[..., subprocess.CompletedProcess[str]]

KEY = "a-key-of-mine"
REFUSAL = (
    b'{"type": "/problems/no-valid-key", "title": "t", "status": 401, "detail": "This key may not.",'
    b' "remedy": "Send the header `Authorization: Bearer <key>`."}'
)


@pytest.fixture
def refusing() -> Iterator[tuple[str, list[str | None]]]:
    """A service that refuses everything, and the keys that came."""
    keys: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
            pass

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            keys.append(self.headers["Authorization"])
            self.send_response(401)
            self.send_header("Content-Length", str(len(REFUSAL)))
            self.end_headers()
            self.wfile.write(REFUSAL)

        do_POST = do_GET  # noqa: N815  the base class calls it so

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", keys
        server.shutdown()


def test_commands_send_the_key_and_say_what_to_do_when_it_is_refused(
    embup: Run, refusing: tuple[str, list[str | None]]
) -> None:
    url, keys = refusing
    by_variable = [
        embup(*command, "--url", url, EMBUP_API_KEY=KEY)
        for command in (("submit", "a", "b"), ("status", "one"), ("watch", "one"), ("cancel", "one"))
    ]
    by_option = embup("list", "--url", url, "--api-key", KEY)
    assert keys == [f"Bearer {KEY}"] * 5
    for result in (*by_variable, by_option):
        assert result.returncode == 2
        assert result.stderr.startswith("error: This key may not.\n")
        assert "--api-key or EMBUP_API_KEY" in result.stderr
        assert "Bearer" not in result.stderr, "a shell sends no headers by hand"
        assert KEY not in result.stdout + result.stderr


def test_the_help_does_not_show_the_key(embup: Run) -> None:
    shown = embup("submit", "--help", EMBUP_API_KEY=KEY)
    assert "EMBUP_API_KEY" in shown.stdout
    assert KEY not in shown.stdout


def test_a_key_that_cannot_be_sent_is_not_shown(embup: Run) -> None:
    result = embup("list", EMBUP_API_KEY=f"{KEY} {KEY}")
    assert result.returncode == 2
    assert "--api-key" in result.stderr
    assert KEY not in result.stderr


def test_results_alone_are_on_stdout_when_a_request_is_tried_again(embup: Run) -> None:
    result = embup("list", "--json", "--url", "http://127.0.0.1:9")
    assert result.returncode == 1
    assert result.stdout == ""
