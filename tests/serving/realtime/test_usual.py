"""The usual request is answered without the route, and as the route answers it, byte for byte."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.realtime.stages import RealtimeStages
from serving.realtime.usual import UsualRequests

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.upsampler import Upsampler

USUAL = "application/json"
BY_THE_ROUTE = "application/json;"
"""The same media type, in a form that the short way does not know."""
ROW = [0.1] * 32


def post(port: int, content: bytes, *headers: str, kind: str = USUAL) -> bytes:
    """Send one request with an id; give the whole answer, without the date."""
    head = [
        "POST /v1/upsample HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}", "X-Request-ID: same",
        f"Content-Length: {len(content)}", "Connection: close", *headers,
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + content)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return re.sub(rb"date: [^\r]*\r\n", b"", answer)


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


CASES = {
    "a row": body(embedding=ROW),
    "whole numbers": body(embedding=[1, -2] * 16),
    "not a unit row": body(embedding=[1e30] * 32),
    "tiny": body(embedding=[1e-300, *[0] * 31]),
    "named twice": b'{"embedding": [1], ' + body(embedding=ROW)[1:],
    "white space": b"\n {" + body(embedding=ROW)[1:] + b" \t",
    "a basis": body(embedding=ROW, basis="decoded"),
    "a basis that is not there": body(embedding=ROW, basis="original"),
    "rows": body(embeddings=[ROW]),
    "null": body(embedding=None),
    "both": body(embedding=ROW, embeddings=None),
    "31 numbers": body(embedding=ROW[1:]),
    "zeros": body(embedding=[0] * 32),
    "beyond float32": body(embedding=[1e39, *ROW[1:]]),
    "beyond float64": body(embedding=ROW).replace(b"0.1", b"1e999", 1),
    "text": body(embedding=["0.1", *ROW[1:]]),
    "true": body(embedding=[True, *ROW[1:]]),
    "NaN": body(embedding=[float("nan"), *ROW[1:]]),
    "another field": body(embedding=ROW, more=1),
    "not UTF-8": b'{"\xff": 1}',
    "cut off": body(embedding=ROW)[:-1],
    "two documents": body(embedding=ROW) * 2,
    "nothing": b"",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("accept", ["", "Accept: */*", "Accept: application/octet-stream"])
def test_both_ways_have_the_same_answer(shared_service: Any, case: str, accept: str) -> None:
    headers = [accept] if accept else []
    found = post(shared_service.port, CASES[case], *headers)
    assert found == post(shared_service.port, CASES[case], *headers, kind=BY_THE_ROUTE)
    assert found.startswith(b"HTTP/1.1 ")


def metrics(service: Any) -> dict[str, float]:
    lines = service.http.get("/metrics").text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def counted(service: Any, send: Callable[[], object]) -> dict[str, float]:
    """Counters and counts that one request raises, and by how much."""
    before = metrics(service)
    send()
    after = metrics(service)
    watched = re.compile(
        r"embup_realtime_rows_total|embup_\w+_count\b.*|embup_requests_total.*|embup_\w+_total.*"
    )
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if watched.fullmatch(name) and not re.search("/metrics|seconds_total|loop_lag", name)
        and value != before.get(name, 0)
    }  # fmt: skip


def test_both_ways_are_counted_alike(serve: Callable[..., Any]) -> None:
    service = serve()
    usual, by_the_route = (
        counted(service, lambda kind=kind: post(service.port, CASES["a row"], kind=kind))  # type: ignore[misc]
        for kind in (USUAL, BY_THE_ROUTE)
    )
    assert usual == by_the_route
    assert usual["embup_realtime_rows_total"] == 1
    assert len(usual) > 3


def scope(*headers: tuple[str, str], method: str = "POST") -> Any:
    return {
        "type": "http",
        "method": method,
        "path": "/v1/upsample",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }


def message(content: bytes, *, more: bool = False) -> Any:
    return {"type": "http.request", "body": content, "more_body": more}


def test_the_short_way_takes_the_usual_request_and_no_other(upsampler: Upsampler) -> None:
    rows = 0

    def count() -> None:
        nonlocal rows
        rows += 1

    requests = UsualRequests(lambda: upsampler, count, max_body_bytes=2_000)
    usual = scope(("content-type", USUAL), ("accept", "*/*"))
    whole = message(CASES["a row"])
    stages = RealtimeStages()
    answered = requests.answer(usual, whole, stages)
    assert answered is not None
    start, end = answered
    assert start["status"] == 200
    assert len(json.loads(end["body"])["embedding"]) == upsampler.output_dims
    assert rows == 1
    assert stages.parsed <= stages.decoding <= stages.decoded
    assert stages.z is not None
    np.testing.assert_allclose(stages.z[0], ROW, rtol=1e-6)
    raw = scope(("content-type", USUAL), ("accept", "application/octet-stream"))
    long = message(CASES["a row"] + b" " * 2_000)
    for other, first in (
        (scope(), whole),
        (scope(("content-type", BY_THE_ROUTE)), whole),
        (scope(("content-type", USUAL), ("content-type", USUAL)), whole),
        (scope(("content-type", USUAL), method="PUT"), whole),
        (raw, whole),
        (usual, long),
        (usual, message(CASES["a row"], more=True)),
        (usual, {"type": "http.disconnect"}),
        *((usual, message(CASES[name])) for name in list(CASES)[6:]),
    ):
        assert requests.answer(other, first, stages) is None
    assert rows == 1


def test_keys_hold_on_the_short_way(serve: Callable[..., Any], tmp_path: Any) -> None:
    from serving.access.keys import new_key

    (batch, no), (realtime, yes) = (new_key(name, [name]) for name in ("batch", "realtime"))
    (tmp_path / "keys").write_text(f"{no.line()}\n{yes.line()}\n")
    (tmp_path / "keys").chmod(0o600)
    service = serve(api_keys_file=tmp_path / "keys")
    for key, status in ((None, 401), ("no", 401), (batch, 403), (realtime, 200)):
        headers = [] if key is None else [f"Authorization: Bearer {key}"]
        found = post(service.port, CASES["a row"], *headers)
        assert found == post(service.port, CASES["a row"], *headers, kind=BY_THE_ROUTE)
        assert found.startswith(f"HTTP/1.1 {status} ".encode())
