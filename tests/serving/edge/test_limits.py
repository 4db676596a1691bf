"""Limits on what a client sends, on how long it takes, and on how many there are: refused with a reason."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embup_core.artifacts.registry import Registry

BODY = json.dumps({"embedding": [0.1] * 32}).encode()
DEADLINE_S = 1.0


@pytest.fixture(scope="module")
def limited(
    service_class: Any, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A service with limits that are soon reached; whatever is done to it, it logs no fault."""
    service = service_class(
        registry.root,
        tmp_path_factory.mktemp("limited"),
        receive_deadline_s=DEADLINE_S,
        send_deadline_s=DEADLINE_S,
        realtime_deadline_s=5 * DEADLINE_S,
        max_connections=12,
        max_realtime_requests=3,
        max_head_bytes=4096,
        max_body_bytes=2_000_000,
    )
    yield service
    assert service.end() == 0
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "Exception" not in log


def connect(service: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def refused(answer: bytes, status: int, kind: str) -> dict[str, Any]:
    """Check that an answer is one whole problem; give it."""
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(f"HTTP/1.1 {status} ".encode()), answer[:500]
    headers = dict(line.lower().split(b": ", 1) for line in top.split(b"\r\n")[1:])
    assert headers[b"content-type"] == b"application/problem+json"
    assert int(headers[b"content-length"]) == len(body)
    problem: dict[str, Any] = json.loads(body)
    assert problem["type"] == f"/problems/{kind}"
    assert problem["status"] == status
    assert problem["request_id"].encode() == headers[b"x-request-id"]
    assert problem["detail"]
    return problem


HEAD = b"POST /v1/upsample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LONG = b"x" * 5000
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "no HTTP": (b"hello\r\n\r\n", 400, "invalid-http"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid-http"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid-http"),
    "a header without a colon": (b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n", 400, "invalid-http"),
    "a NUL in a header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: \0\r\n\r\n", 400, "invalid-http"),
    "a line end in a header": (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\rc: d\r\n\r\n",
        400,
        "invalid-http",
    ),
    "no Host": (b"GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "invalid-http"),
    "two Hosts": (
        b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
        400,
        "invalid-http",
    ),
    "a host in the address": (
        b"GET http://localhost/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
        400,
        "invalid-http",
    ),
    "CONNECT": (b"CONNECT evil.test:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "invalid-http"),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "invalid-http"),
    "length and chunks": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "invalid-http",
    ),
    "a broken chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "invalid-http"),
    "a body behind an upgrade": (
        HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
        400,
        "invalid-http",
    ),
    "a long header": (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + LONG + b"\r\n\r\n",
        431,
        "head-too-large",
    ),
    "a long header without an end": (b"GET / HTTP/1.1\r\nA: " + LONG, 431, "head-too-large"),
    "long names": (b"GET / HTTP/1.1\r\n" + b"x" * 2100 + b": y\r\n" + LONG, 431, "head-too-large"),
    "many headers": (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 100 + b"\r\n",
        431,
        "head-too-large",
    ),
    "a long address": (
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        414,
        "target-too-long",
    ),
}


@pytest.mark.parametrize("sent", REFUSED)
def test_what_is_no_request_or_too_large_a_head_is_refused(limited: Any, sent: str) -> None:
    request, status, kind = REFUSED[sent]
    with connect(limited) as client:
        client.sendall(request)
        refused(read_all(client), status, kind)


def test_a_request_behind_one_that_wants_another_protocol_is_told_to_come_again(limited: Any) -> None:
    """The parser leaves out what follows; a connection that stayed would give its answer to the next one."""
    ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
    with connect(limited) as client:
        client.sendall(ask + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + ask + b"\r\n")
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer.lower()


def test_a_head_that_comes_byte_by_byte_is_not_waited_for_for_ever(limited: Any) -> None:
    """The deadline is that of the whole head: a byte now and then does not push it back."""
    with connect(limited) as slow:
        began = time.monotonic()
        slow.settimeout(0.1)
        answer = b""
        for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 1000:
            try:
                slow.sendall(bytes([byte]))
                answer = slow.recv(65536)
            except TimeoutError:
                continue
            break
        assert time.monotonic() - began < 20 * DEADLINE_S
        assert "head" in refused(answer, 408, "too-slow")["detail"]


def test_connections_on_which_nothing_is_asked_end(limited: Any) -> None:
    with connect(limited) as silent, connect(limited) as line_ends:
        line_ends.sendall(b"\r\n\r\n")
        assert silent.recv(100) == b""
        assert line_ends.recv(100) == b""


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/upsample", 408), ("/v1/batches", 408), ("/v1/models", 405)]
)
def test_a_body_that_stops_coming_is_not_waited_for(limited: Any, path: str, status: int) -> None:
    """With an answer already given, only the connection is left to end."""
    with connect(limited) as stalled:
        stalled.sendall(HEAD.replace(b"/v1/upsample", path.encode()) + b"Content-Length: 100\r\n\r\n{")
        answer = read_all(stalled)
    if status == 408:
        assert "body" in refused(answer, 408, "too-slow")["detail"]
    else:
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert answer.count(b"HTTP/1.1") == 1
    limited.until(lambda: "embup_gate_realtime_holders 0.0" in limited.http.get("/metrics").text)


def test_trailers_and_bodies_without_an_end_are_cut_off(limited: Any) -> None:
    """What comes after a body is dropped, and a body that is not read goes on only so long."""
    chunk = b"%x\r\n%b\r\n" % (len(BODY), BODY)
    with connect(limited) as client:
        client.sendall(
            HEAD
            + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            + chunk
            + b"0\r\nHost: evil\r\n\r\n"
        )
        assert read_all(client).startswith(b"HTTP/1.1 200 ")
    sent = 0
    with connect(limited) as client:
        client.sendall(
            HEAD.replace(b"POST /v1/upsample", b"GET /v1/models") + b"Content-Length: 999999999\r\n\r\n"
        )
        try:
            while sent < 200_000_000:
                sent += client.send(b"x" * 65536)
        except OSError:
            pass
    assert sent < 100_000_000


def test_a_client_that_does_not_take_its_answers_is_dropped(limited: Any) -> None:
    """Long before the deadline of the request itself."""
    row = json.dumps({"embeddings": [[0.1] * 32] * 256}).encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(row) + row
    with ExitStack() as clients:
        deaf = clients.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(20)
        deaf.connect(("127.0.0.1", limited.port))
        deaf.sendall(request)
        limited.until(lambda: "the client does not take what it is sent" in limited.log.read_text())
        limited.until(lambda: "embup_gate_realtime_holders 0.0" in limited.http.get("/metrics").text)


def test_more_realtime_requests_than_allowed_are_refused(limited: Any) -> None:
    """From the first byte of their bodies on; and the places become free again."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(limited)) for _ in range(4)]
        for client in clients:
            client.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n{" % len(BODY))
        limited.until(lambda: "embup_gate_realtime_holders 3.0" in limited.http.get("/metrics").text)
        tried = limited.http.get("/console/try/vector/npy", params={"row": ",".join(["0.1"] * 32)})
        assert tried.status_code == 429  # a page is no way round
        answers = sorted(read_all(client) for client in clients)  # by status
    for waited_for in answers[:3]:
        refused(waited_for, 408, "too-slow")
    refused(answers[3], 429, "too-many-requests")
    assert b"\r\nretry-after: 1\r\n" in answers[3]
    limited.until(lambda: limited.http.post("/v1/upsample", content=BODY, headers=JSON).status_code == 200)


def test_connections_that_send_only_a_head_keep_no_request_out(limited: Any) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(connect(limited)).sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY))
        limited.until(lambda: _metric(limited, "embup_http_requests_in_progress") >= 8)
        assert limited.http.post("/v1/upsample", content=BODY, headers=JSON).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/upsample", 413), ("/v1/batches", 413), ("/v1/models", 405)]
)
@pytest.mark.parametrize(
    ("connection", "megabytes"), [(b"keep-alive", 5), (b"keep-alive", 40), (b"close", 5), (b"close", 40)]
)
def test_a_body_that_is_too_long_does_not_lose_its_answer(
    limited: Any, path: str, status: int, connection: bytes, megabytes: int
) -> None:
    """The client sends all of it before it reads, as most do."""
    head = HEAD.replace(b"/v1/upsample", path.encode())
    body = b" " * 1_000_000
    with connect(limited) as client:
        client.sendall(
            head + b"Connection: %b\r\nContent-Length: %d\r\n\r\n" % (connection, megabytes * len(body))
        )
        for _ in range(megabytes):
            client.sendall(body)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(65536):  # a reset would raise
            answer += part
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_what_is_refused_before_the_application_is_counted(limited: Any) -> None:
    def counted(status: int) -> float:
        return _metric(
            limited, f'embup_http_requests_total{{method="other",route="none",status_code="{status}"}}'
        )

    before = {status: counted(status) for status in (400, 408)}
    with connect(limited) as slow, connect(limited) as broken:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        broken.sendall(b"hello\r\n\r\n")
        refused(read_all(broken), 400, "invalid-http")
        refused(read_all(slow), 408, "too-slow")
    assert {status: counted(status) for status in before} == {400: before[400] + 1, 408: before[408] + 1}


def test_a_body_that_stops_coming_is_counted_once_under_its_route(limited: Any) -> None:
    series = 'embup_http_requests_total{method="POST",route="/v1/batches",status_code="%d"}'
    before = {status: _metric(limited, series % status) for status in (408, 499)}
    with connect(limited) as stalled:
        stalled.sendall(HEAD.replace(b"/v1/upsample", b"/v1/batches") + b"Content-Length: 100\r\n\r\n{")
        refused(read_all(stalled), 408, "too-slow")
    limited.until(lambda: _metric(limited, series % 408) == before[408] + 1)
    assert _metric(limited, series % 499) == before[499]


def _metric(service: Any, series: str) -> float:
    """Value of a series; 0 before it exists."""
    for line in service.http.get("/metrics").text.splitlines():
        if line.startswith(f"{series} "):
            return float(line.rpartition(" ")[2])
    return 0.0


JSON = {"Content-Type": "application/json"}


def test_more_connections_than_allowed_are_told_so(limited: Any) -> None:
    """What is open goes on; one too many hears why, and gets in once there is room."""
    assert limited.http.get("/health/live").status_code == 200
    with ExitStack() as clients:
        for _ in range(11):
            clients.enter_context(connect(limited))
        one_more = clients.enter_context(connect(limited))
        one_more.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        answer = read_all(one_more)
        refused(answer, 503, "too-many-connections")
        assert b"\r\nretry-after: 10\r\n" in answer
    with connect(limited) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 200 ")


def test_requests_sent_behind_each_other_are_answered_in_order(limited: Any) -> None:
    """Each under its own id: nothing of the first is on the second."""
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %b\r\n%b\r\n"
    with connect(limited) as client:
        client.sendall(request % (b"first", b"") + request % (b"second", b"Connection: close\r\n"))
        answer = read_all(client)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert 0 < answer.index(b"x-request-id: first") < answer.index(b"x-request-id: second")


def test_a_short_upload_that_is_refused_leaves_the_connection_usable(
    limited: Any, check: Callable[..., Any]
) -> None:
    check(limited.http.post("/v1/models", content=b"x" * 100_000), 405)
    assert limited.http.get("/health/live").status_code == 200
