"""POST /v1/upsample against the real service: answers, formats, and every kind of bad input."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.upsampler import Upsampler

PATH = "/v1/upsample"
JSON = {"Content-Type": "application/json"}


def test_one_embedding_is_answered_with_a_unit_vector(
    shared_service: Any, rows: Callable[..., Any], upsampler: Upsampler
) -> None:
    z = rows(1)
    answer = shared_service.http.post(PATH, json={"embedding": z[0].tolist()})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert set(found) == {"embedding", "model_version", "confidence"}
    expected, confidence = upsampler.upsample(z.astype(np.float32))
    assert len(found["embedding"]) == 1536
    assert abs(np.linalg.norm(found["embedding"]) - 1) < 1e-6
    assert np.abs(found["embedding"] - expected[0]).max() < 1e-6
    assert found["model_version"] == upsampler.version
    assert found["confidence"] == pytest.approx(float(confidence[0]), abs=1e-5)


@pytest.mark.parametrize("count", [1, 5, 256])
def test_several_embeddings_are_answered_in_order(
    shared_service: Any, rows: Callable[..., Any], upsampler: Upsampler, count: int
) -> None:
    z = rows(count, seed=count)
    answer = shared_service.http.post(PATH, json={"embeddings": z.tolist()})
    assert answer.status_code == 200
    found = answer.json()
    expected, _ = upsampler.upsample(z.astype(np.float32))
    assert np.abs(np.array(found["embeddings"]) - expected).max() < 1e-6
    assert len(found["confidence"]) == count


@pytest.mark.parametrize("count", [1, 7])
def test_raw_float32_is_answered_when_asked_for(
    shared_service: Any, rows: Callable[..., Any], upsampler: Upsampler, count: int
) -> None:
    z = rows(count)
    answer = shared_service.http.post(
        PATH, json={"embeddings": z.tolist()}, headers={"Accept": "application/octet-stream"}
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["embup-model-version"] == upsampler.version
    assert (answer.headers["embup-rows"], answer.headers["embup-dims"]) == (str(count), "1536")
    found = np.frombuffer(answer.content, "<f4").reshape(count, 1536)
    expected, _ = upsampler.upsample(z.astype(np.float32))
    assert np.abs(found - expected).max() < 1e-6


GOOD = [0.1] * 32
BAD_BODIES: list[tuple[str, bytes, int, str]] = [
    ("no body", b"", 400, "expected JSON, found nothing"),
    ("cut off", b'{"embedding": [1, 2', 400, "truncated"),
    ("not JSON", b"embedding=1", 400, "malformed"),
    ("not UTF-8", b'{"\xff": 1}', 400, "UTF-8"),
    ("nested as a whole", b"[" * 100_000, 400, "Expected `object`, got `array`"),
    ("nested in a row", b'{"embedding": ' + b"[" * 100_000, 400, "Expected `float`, got `array`"),
    ("nested in an unknown field", b'{"x": ' + b'{"x":' * 100_000, 400, "unknown field `x`"),
    ("a list", b"[1, 2]", 400, "Expected `object`, got `array`"),
    ("31 numbers", f'{{"embedding": {GOOD[1:]}}}'.encode(), 400, "expected 32 numbers, found 31"),
    ("33 numbers", f'{{"embedding": {[*GOOD, 0.1]}}}'.encode(), 400, "expected 32 numbers, found 33"),
    ("a short row", f'{{"embeddings": [{GOOD}, {GOOD[1:]}]}}'.encode(), 400, "embeddings[1]: expected 32"),
    ("no rows", b'{"embeddings": []}', 400, "expected 1 to 256 rows, found 0"),
    ("257 rows", f'{{"embeddings": {[GOOD] * 257}}}'.encode(), 400, "expected 1 to 256 rows, found 257"),
    ("neither field", b"{}", 400, "found neither"),
    ("both fields", f'{{"embedding": {GOOD}, "embeddings": [{GOOD}]}}'.encode(), 400, "found both"),
    ("an unknown field", b'{"embeding": [1]}', 400, "unknown field `embeding`"),
    ("text in a number", f'{{"embedding": ["x", {str(GOOD[1:])[1:]}}}'.encode(), 400, "Expected `float`"),
    ("a number as text", f'{{"embedding": ["0.1", {str(GOOD[1:])[1:]}}}'.encode(), 400, "got `str`"),
    ("a null", f'{{"embedding": [null, {str(GOOD[1:])[1:]}}}'.encode(), 400, "Expected `float`"),
    ("a boolean", f'{{"embedding": [true, {str(GOOD[1:])[1:]}}}'.encode(), 400, "Expected `float`"),
    ("NaN", f'{{"embedding": [NaN, {str(GOOD[1:])[1:]}}}'.encode(), 400, "malformed"),
    ("1e400", f'{{"embedding": [1e400, {str(GOOD[1:])[1:]}}}'.encode(), 400, "out of range"),
    ("1e39", f'{{"embedding": [1e39, {str(GOOD[1:])[1:]}}}'.encode(), 422, "embedding[0]: expected a number"),
    ("only zeros", f'{{"embedding": {[0] * 32}}}'.encode(), 422, "only zeros"),
    ("too long", b'{"embedding": [' + b" " * 1_100_000 + b"]}", 413, "at most 1048576 bytes"),
]


@pytest.mark.parametrize(
    ("body", "status", "said"), [case[1:] for case in BAD_BODIES], ids=[c[0] for c in BAD_BODIES]
)
def test_bad_bodies_are_refused_with_a_reason(
    shared_service: Any, check: Callable[..., dict[str, Any]], body: bytes, status: int, said: str
) -> None:
    problem = check(shared_service.http.post(PATH, content=body, headers=JSON), status)
    assert said in problem["detail"]
    assert problem["remedy"]


@pytest.mark.parametrize("accept", ["application/json", "application/octet-stream"])
def test_rows_that_are_not_unit_are_made_so_and_counted(
    shared_service: Any, rows: Callable[..., Any], accept: str
) -> None:
    """Only a row's direction counts; a header says how many had another length than 1."""
    z = rows(3)

    def post(**body: Any) -> Any:
        return shared_service.http.post(PATH, json=body, headers={"Accept": accept})

    unit = post(embeddings=z.tolist())
    assert "embup-normalised" not in unit.headers
    longer = post(embeddings=(z * [[1.0005], [2.0], [1e-3]]).tolist())
    assert longer.headers["embup-normalised"] == "2"
    if accept == "application/json":
        found, expected = (np.array(answer.json()["embeddings"]) for answer in (longer, unit))
    else:
        found, expected = (np.frombuffer(answer.content, "<f4") for answer in (longer, unit))
    assert np.abs(found - expected).max() < 1e-6
    assert post(embedding=(z[0] * 3).tolist()).headers["embup-normalised"] == "1"


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_does_not_say_it_is_json_is_refused(
    shared_service: Any, check: Callable[..., dict[str, Any]], media_type: str | None
) -> None:
    """Any web page can post such a body to a local service."""
    headers = {} if media_type is None else {"Content-Type": media_type}
    body = f'{{"embedding": {GOOD}}}'.encode()
    problem = check(shared_service.http.post(PATH, content=body, headers=headers), 415)
    assert "application/json" in problem["detail"]


def test_a_stalled_client_is_told_and_does_not_hold_the_batch(serve: Callable[..., Any]) -> None:
    """Half a body holds the gate for the deadline at most."""
    service = serve(realtime_deadline_s=6)
    with socket.create_connection(("127.0.0.1", service.port)) as stalled:
        stalled.sendall(
            b"POST /v1/upsample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"embedding'
        )
        job = service.submit(service.write_input("in.txt", 50), service.data / "out.txt")
        service.until(lambda: service.status(job)["phase"] == "PAUSED")
        assert stalled.recv(1000).startswith(b"HTTP/1.1 408")
    final = service.final(job)
    assert final["status"] == "COMPLETED"
    assert final["pause_count"] >= 1
    assert final["paused_s"] > 0.1


def test_an_idle_connection_holds_nothing(serve: Callable[..., Any]) -> None:
    """Only the first byte of a body takes the gate."""
    service = serve()
    with socket.create_connection(("127.0.0.1", service.port)) as idle:
        idle.sendall(
            b"POST /v1/upsample HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        )
        job = service.submit(service.write_input("in.txt", 50), service.data / "out.txt")
        assert service.final(job)["pause_count"] == 0


def test_more_rows_than_the_setting_allows_are_refused_with_its_number(
    serve: Callable[..., Any], rows: Callable[..., Any], check: Callable[..., Any]
) -> None:
    service = serve(max_realtime_rows=2)
    post = service.http.post
    assert post("/v1/upsample", json={"embeddings": rows(2).tolist()}).status_code == 200
    problem = check(post("/v1/upsample", json={"embeddings": rows(3).tolist()}), 400)
    assert "1 to 2 rows, found 3" in problem["detail"]
    assert "1 to 2 rows" in problem["remedy"]
