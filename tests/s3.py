"""A real S3 server in a thread, moto's, that can be told to fail: unavailable, slow, cut, expired, gone."""

from __future__ import annotations

import io
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import httpx
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Fault: TypeAlias = Literal["unavailable", "slow", "cut", "expired", "denied", "lost answer", "other etag"]

KEY_ID, SECRET = "AKIAKEYOFTHETESTS", "s3cr3t-0f-th3-t3sts"
SLOW_S = 3.0

_XML = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>no</Message>'
    f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>"
)
_REFUSALS = {
    "unavailable": ("503 Service Unavailable", "SlowDown"),
    "expired": ("400 Bad Request", "ExpiredToken"),
    "denied": ("403 Forbidden", "AccessDenied"),
}


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


class S3Server:
    """One server for all tests; each takes a bucket of its own.

    Attributes
    ----------
    requests
        Method, path and status of what was answered, in order.
    """

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._writing = threading.Lock()
        self._fault: tuple[Fault, Callable[[str, str], bool], list[int]] | None = None
        self.requests: list[tuple[str, str, str]] = []
        self.port = 0
        self.start()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client finds it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = make_server("127.0.0.1", self.port, self, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections; the buckets stay."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def new_bucket(self) -> str:
        """Make an empty bucket; give its address."""
        name = f"b{uuid.uuid4().hex[:12]}"
        assert httpx.put(f"{self.endpoint}/{name}").status_code == 200
        return f"s3://{name}"

    @contextmanager
    def failing(
        self, fault: Fault, *, times: int = 1 << 30, method: str = "", path: str = ""
    ) -> Iterator[None]:
        """Fail so many requests of this method whose path contains this."""
        self._fault = (fault, lambda m, p: m.startswith(method) and path in p, [times])
        try:
            yield
        finally:
            self._fault = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request, or fail it."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        fault = self._fault_for(method, path)
        if fault in _REFUSALS:
            status, code = _REFUSALS[fault]
            return self._answered(method, path, start_response, status, [], [_XML.format(code=code).encode()])
        if fault == "slow":
            time.sleep(SLOW_S)
        head: list[Any] = []

        def keep_head(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            head[:] = [status, headers]
            return lambda _: None

        if method == "PUT" or (method == "POST" and "uploadId" in environ["QUERY_STRING"]):
            with self._writing:  # moto looks at a condition and writes in two steps, S3 in one
                # And it knows no condition of a completion.
                if method == "POST" and environ.get("HTTP_IF_NONE_MATCH") == "*" and self._exists(environ):
                    refusal = [_XML.format(code="PreconditionFailed").encode()]
                    status = "412 Precondition Failed"
                    return self._answered(method, path, start_response, status, [], refusal)
                body = list(self._app(environ, keep_head))
        else:
            body = list(self._app(environ, keep_head))
        status, headers = head
        if fault == "lost answer":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        if fault == "other etag":
            headers = [(name, '"0"' if name.lower() == "etag" else value) for name, value in headers]
        if fault == "cut":
            return self._answered(method, path, start_response, status, headers, _cut(b"".join(body)))
        return self._answered(method, path, start_response, status, headers, body)

    def _exists(self, environ: dict[str, Any]) -> bool:
        """Whether there is an object at a request's key."""
        found: list[str] = []
        head = {**environ, "REQUEST_METHOD": "HEAD", "QUERY_STRING": "", "CONTENT_LENGTH": "0"}
        head |= {"wsgi.input": io.BytesIO()}
        list(self._app(head, lambda status, *_: found.append(status)))
        return found[0].startswith("200")

    def _fault_for(self, method: str, path: str) -> str:
        if self._fault is None:
            return ""
        fault, matches, left = self._fault
        if not matches(method, path) or left[0] <= 0:
            return ""
        left[0] -= 1
        return fault

    def _answered(
        self,
        method: str,
        path: str,
        start_response: Any,
        status: str,
        headers: list[tuple[str, str]],
        body: Iterable[bytes],
    ) -> Iterable[bytes]:
        self.requests.append((method, path, status))
        start_response(status, headers)
        return body


def _cut(body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    raise ConnectionAbortedError
