"""A prediction API on this machine, with the faults that such services have."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = tuple[int, dict[str, str], bytes]


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Who asks may be killed."""


class PredictionApi:
    """Answers each text with its first word as label; `misbehave` may answer otherwise.

    Parameters
    ----------
    misbehave
        Called with the texts and the number of the request, from 1; gives status, headers and body of another
        answer, or None.

    Attributes
    ----------
    asked
        How often each text was asked about, in requests that were answered rightly.
    sizes
        Rows of each request.
    keys
        Values of the header X-API-KEY.
    most_at_once
        Requests that were under way together.
    """

    def __init__(self, misbehave: Callable[[list[str], int], Answer | None] | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self.sizes: list[int] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self.slow_s = 0.0
        self._misbehave = misbehave
        self._lock = threading.Lock()
        self._now = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                api._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/projects/411/predict"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        texts = [entry["text"] for entry in body["data"]]
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.sizes.append(len(texts))
            self.keys.append(request.headers["X-API-KEY"])
            number = len(self.sizes)
        if self.slow_s:
            time.sleep(self.slow_s)
        other = self._misbehave(texts, number) if self._misbehave else None
        if other is None:
            with self._lock:
                self.asked.update(texts)
            other = 200, {}, json.dumps([entry_of(text) for text in texts]).encode()
        status, headers, content = other
        with self._lock:
            self._now -= 1
        try:
            request.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(content)
        except OSError:  # who asked has gone
            request.close_connection = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def entry_of(text: str, **other: Any) -> dict[str, Any]:
    """What the API says of one text: two labels."""
    value = [
        {"label": text.split(maxsplit=1)[0], "confidence": 0.75},
        {"label": "other", "confidence": 0.125},
    ]
    return {"predictions": [{"value": other.get("value", value)}]}
