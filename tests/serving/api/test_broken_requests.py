"""Requests that never become whole: clients leave, stall or announce too much, or the service stops."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


def connect(service: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=20)


def head(path: str, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def answered(answer: bytes, status: int) -> dict[str, Any]:
    """Check that a raw answer is a problem of this status; give it."""
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"application/problem+json" in top
    problem: dict[str, Any] = json.loads(body)
    assert problem["status"] == status
    return problem


@pytest.mark.parametrize("path", ["/v1/upsample", "/v1/batches"])
def test_clients_that_leave_in_the_middle_of_a_body_are_no_faults_of_the_service(
    serve: Callable[..., Any], path: str
) -> None:
    """No traceback and no 5xx, whether something of the body came or nothing, and the gate is free again."""
    service = serve()
    for i in range(20):
        with connect(service) as leaving:
            length = "Transfer-Encoding: chunked" if i % 3 == 0 else "Content-Length: 100"
            part = b"" if i % 3 == 1 else b'b\r\n{"embedding\r\n' if i % 3 == 0 else b'{"embedding'
            leaving.sendall(head(path, length) + part)
            time.sleep(0.01)

    def counted() -> list[str]:
        metrics = service.http.get("/metrics").text.splitlines()
        return [line for line in metrics if line.startswith("embup_http_requests_total") and path in line]

    service.until(lambda: sum(float(line.rsplit(" ", 1)[1]) for line in counted()) == 20)
    assert all('status_code="499"' in line for line in counted()), counted()
    metrics = service.http.get("/metrics").text
    assert "embup_gate_realtime_holders 0.0" in metrics
    assert 'status_code="5' not in metrics
    assert service.final(service.submit(service.write_input("in.txt", 3), "out.txt"))["phase"] == "COMPLETED"
    assert service.end() == 0
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "error" not in log.lower().replace("error=none", ""), log


@pytest.mark.parametrize("path", ["/v1/upsample", "/v1/batches"])
def test_a_request_that_hangs_while_the_service_stops_is_told(serve: Callable[..., Any], path: str) -> None:
    service = serve(shutdown_s=1)
    with connect(service) as hanging:
        hanging.sendall(head(path, "Content-Length: 100") + b'{"embedding')
        time.sleep(0.3)
        assert service.end() == 0
        problem = answered(read_all(hanging), 503)
    assert problem["type"] == "/problems/stopping"
    assert "the service is stopping" in problem["detail"].lower()
    assert problem["remedy"]
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "CancelledError" not in log


def test_a_body_that_never_starts_is_not_waited_for_for_ever(serve: Callable[..., Any]) -> None:
    service = serve(realtime_deadline_s=0.5)
    with connect(service) as stalled:
        stalled.sendall(head("/v1/upsample", "Content-Length: 100"))
        problem = answered(read_all(stalled), 408)
    assert "0.5 s" in problem["detail"]
    assert "embup_gate_realtime_acquisitions_total 0.0" in service.http.get("/metrics").text


@pytest.mark.parametrize("path", ["/v1/upsample", "/v1/batches"])
def test_a_body_announced_too_long_is_refused_before_it_is_read(shared_service: Any, path: str) -> None:
    with connect(shared_service) as client:
        client.sendall(head(path, "Content-Length: 1048577", "Connection: close"))
        assert "at most 1048576 bytes" in answered(read_all(client), 413)["detail"]
