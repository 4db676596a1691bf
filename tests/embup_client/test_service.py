"""Both clients against the real service, through its restarts too."""

from __future__ import annotations

import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np
import pytest

from embup_client import (
    BadRequestError,
    BatchStatus,
    Client,
    ConflictError,
    ConnectionFailedError,
    NotFoundError,
    UnprocessableError,
    calls,
    following,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.artifacts.registry import Registry
    from tests.conftest import AnchoredSource
    from tests.serving.conftest import Service


@pytest.fixture
def url(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


@pytest.fixture
def rows() -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32, shape (5, 32)."""
    return np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32)


def test_vectors_are_decoded_one_by_one_as_lists_and_as_arrays(
    connect: type[Client], url: str, rows: np.ndarray[Any, np.dtype[np.float32]], registry: Registry
) -> None:
    with connect(url) as client:
        one = client.upsample(rows[0])
        same = client.upsample(rows[0].tolist())
        many = client.upsample_many(list(rows))
        array = client.upsample_array(rows)
    assert one == same
    assert one.model_version == many.model_version == array.model_version == registry.current_version()
    assert (str(array.embeddings.dtype), array.embeddings.shape) == ("float32", (5, 1536))
    assert array.embeddings.flags.writeable
    np.testing.assert_allclose(many.embeddings, array.embeddings, rtol=0, atol=1e-7)
    np.testing.assert_allclose(one.embedding, array.embeddings[0], rtol=0, atol=1e-6)
    assert one.confidence is not None
    assert array.confidence.tolist() == pytest.approx(many.confidence, abs=1e-5)
    assert array.confidence[0] == pytest.approx(one.confidence, abs=1e-5)


def test_what_cannot_be_decoded_is_said(connect: type[Client], url: str) -> None:
    with connect(url) as client:
        with pytest.raises(BadRequestError, match="expected 32 numbers, found 2") as raised:
            client.upsample([1.0, 2.0])
        with pytest.raises(UnprocessableError, match="within float32"):
            client.upsample([1e39] * 32)
    assert raised.value.type == "/problems/malformed-request"
    assert raised.value.remedy


def test_a_batch_is_submitted_followed_listed_and_refused(
    connect: type[Client], service: Service, url: str, request: pytest.FixtureRequest
) -> None:
    source = service.write_input("in ö.txt", 300)
    target = service.data / f"out {request.node.callspec.id}.txt"
    with connect(url) as client:
        batch_request_id = client.submit_batch(source, target)
        statuses = list(client.follow(batch_request_id))
        last = client.batch(batch_request_id)
        assert last == statuses[-1] == client.wait(batch_request_id)
        assert batch_request_id in [batch.batch_request_id for batch in client.batches(status="COMPLETED")]
        assert client.batches(phase="FAILED") == []
        assert len(client.batches(limit=1)) == 1
        with pytest.raises(UnprocessableError, match="exists"):
            client.submit_batch(source, target)
        again = client.submit_batch(source, target, overwrite=True)
        with pytest.raises(ConflictError):
            client.cancel(batch_request_id)
        assert client.wait(again).phase == "COMPLETED"
        with pytest.raises(NotFoundError, match="no-such"):
            client.batch("no-such")
        with pytest.raises(NotFoundError):
            client.wait("no-such")
    assert (last.status, last.num_records_processed, last.is_final) == ("COMPLETED", 300, True)
    assert all(after != before for before, after in pairwise(statuses))


def test_a_bad_row_is_named(connect: type[Client], service: Service, url: str) -> None:
    early, source = service.write_input("early.txt", 3), service.write_input("bad.txt", 300)
    for file in (early, source):
        with file.open("a") as lines:
            lines.write("1,2\n")
    with connect(url) as client:
        with pytest.raises(UnprocessableError, match="expected 32 numbers, found 2") as refused:
            client.submit_batch(early, service.data / "bad.out.txt", overwrite=True)
        failed = client.wait(client.submit_batch(source, service.data / "bad.out.txt", overwrite=True))
        kept = client.submit_batch(source, service.data / "bad.out.txt", on_bad_row="nan", overwrite=True)
        last = client.wait(kept)
    assert (failed.phase, failed.error and failed.error.line) == ("FAILED", 301)
    assert refused.value.line == 4
    assert (last.phase, last.failed_rows) == ("COMPLETED", 1)


def test_models_are_listed_and_reloaded(connect: type[Client], url: str, registry: Registry) -> None:
    with connect(url) as client:
        assert client.models().in_service == registry.current_version()
        assert client.reload().changed is False
        assert client.ready().model_version == registry.current_version()
        assert client.live().status == "alive"
        assert client.is_ready()


class Between:
    """Stands between a client and a service: at the first submission it does what it is told and hangs up."""

    def __init__(self, service: Service, misfortune: Callable[[Callable[[], httpx.Response]], None]) -> None:
        self.keys: list[str] = []
        keys = self.keys

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                keys.append(self.headers["Idempotency-Key"])

                def forward() -> httpx.Response:
                    address = f"http://127.0.0.1:{service.port}{self.path}"
                    return httpx.post(address, content=body, headers=dict(self.headers), trust_env=False)

                if len(keys) == 1:
                    misfortune(forward)
                    return
                answer = forward()
                self.send_response(answer.status_code)
                self.end_headers()
                self.wfile.write(answer.content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize(
    ("connect", "taken"),
    [("sync", True), ("async", False)],
    ids=["after it was taken", "before it came"],
    indirect=["connect"],
)
def test_a_service_killed_between_two_tries_of_a_submission_has_one_batch(
    connect: type[Client], serve: Callable[..., Service], taken: bool
) -> None:
    service = serve()
    source, accepted = service.write_input("in.txt", 50), []

    def misfortune(forward: Callable[[], httpx.Response]) -> None:
        if taken:
            accepted.append(forward().json()["batch_request_id"])
        service.restart(signal.SIGKILL)

    between = Between(service, misfortune)
    try:
        with connect(between.url) as client:
            batch_request_id = client.submit_batch(source, service.data / "out.txt")
    finally:
        between.close()
    with connect(f"http://127.0.0.1:{service.port}") as client:
        assert client.wait(batch_request_id).phase == "COMPLETED"
        assert [batch.batch_request_id for batch in client.batches()] == [batch_request_id]
    assert accepted in ([], [batch_request_id])
    assert len(between.keys) == 2
    assert len(set(between.keys)) == 1


@pytest.mark.parametrize(
    ("connect", "how"),
    [("sync", signal.SIGTERM), ("async", signal.SIGKILL)],
    ids=["stopped", "killed"],
    indirect=["connect"],
)
def test_a_batch_is_followed_through_a_restart(
    connect: type[Client], serve: Callable[..., Service], how: signal.Signals
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = serve(port=port, checkpoint_interval_s=0.05)
    source = service.write_input("in.txt", 12_000)
    seen: list[BatchStatus] = []
    with connect(f"http://127.0.0.1:{port}") as client:
        batch_request_id = client.submit_batch(source, service.data / "out.txt")
        for status in client.follow(batch_request_id):
            if status.num_records_processed and not any(one.num_records_processed for one in seen):
                assert not status.is_final
                threading.Thread(target=service.restart, args=(how,)).start()
            seen.append(status)
    assert (seen[-1].phase, seen[-1].num_records_processed) == ("COMPLETED", 12_000)
    assert seen[-1].attempts == 2
    processed = [status.num_records_processed for status in seen]
    assert processed == sorted(processed)


def test_following_ends_when_the_service_stays_away(connect: type[Client]) -> None:
    with connect("http://127.0.0.1:9") as client, pytest.raises(ConnectionFailedError):
        client.wait("one", patience_s=0.5)


@pytest.fixture
def two_statuses(service: Service, url: str) -> tuple[BatchStatus, BatchStatus]:
    """A status of a batch that runs, and of one that has ended."""
    with Client(url) as client:
        source = service.write_input("two.txt", 5)
        last = client.wait(client.submit_batch(source, service.data / "two.out.txt", overwrite=True))
    return msgspec.structs.replace(last, status="IN PROGRESS", phase="RUNNING"), last


@pytest.mark.parametrize("kept_back", ["no stream", "silent"])
def test_without_a_stream_the_status_is_asked_for(
    connect: type[Client],
    scripted: Any,
    answer: Any,
    two_statuses: tuple[BatchStatus, BatchStatus],
    monkeypatch: pytest.MonkeyPatch,
    kept_back: str,
) -> None:
    """As behind something that keeps events back until the stream ends."""
    monkeypatch.setattr(calls, "SILENCE_S", 0.2)
    monkeypatch.setattr(following, "POLL_S", 0.05)
    running, last = (answer.of(msgspec.to_builtins(status)) for status in two_statuses)
    stream = answer.of({}) if kept_back == "no stream" else answer(200, silent_s=1)
    server = scripted(stream, running, running, last)
    with connect(server.url) as client:
        assert list(client.follow("one", patience_s=0.1)) == list(two_statuses)
    paths = [request.path for request in server.seen]
    assert paths == ["/v1/batches/one/events", *["/v1/batches/one"] * 3]


def test_a_stream_is_read_as_the_standard_has_it(
    connect: type[Client], scripted: Any, answer: Any, two_statuses: tuple[BatchStatus, BatchStatus]
) -> None:
    """Comments, other events, both kinds of line ends, a stream that ends early and begins again."""
    running, last = (msgspec.json.encode(status).decode() for status in two_statuses)
    head, comma, tail = running.partition(",")
    first = (
        f": hello\r\n\r\nevent: other\r\ndata: 1\r\n\r\nevent: status\ndata: {head}{comma}\ndata:{tail}\n\n"
    )
    second = f"event: status\ndata: {running}\n\nid: 7\nevent: status\ndata: {last}\n\n"
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    server = scripted(
        answer(200, first.encode(), headers), answer(503), answer(200, second.encode(), headers)
    )
    with connect(server.url) as client:
        assert list(client.follow("one")) == list(two_statuses)
    assert len(server.seen) == 3


def test_leaving_the_loop_leaves_the_client_usable(connect: type[Client], service: Service, url: str) -> None:
    source = service.write_input("long.txt", 20_000)
    with connect(url) as client:
        batch_request_id = client.submit_batch(source, service.data / "long.out.txt")
        for _ in client.follow(batch_request_id):
            break
        assert client.cancel(batch_request_id).cancel_requested
        assert client.wait(batch_request_id).phase == "CANCELLED"


def test_vectors_and_files_have_the_basis_that_was_asked_for(
    connect: type[Client],
    anchored_registry: Registry,
    anchored_source: AnchoredSource,
    service_of: Callable[[Registry], Service],
) -> None:
    service, z = service_of(anchored_registry), anchored_source.unseen_projected[:5]
    np.save(service.data / "in.npy", z)
    expected, _ = anchored_registry.load().upsample(z, basis="original")
    with connect(f"http://127.0.0.1:{service.port}") as client:
        one = client.upsample(z[0], basis="original").embedding
        many = client.upsample_many(z, basis="original").embeddings
        array = client.upsample_array(z, basis="original").embeddings
        target = service.data / f"{connect.__name__}.npy"
        last = client.wait(client.submit_batch(service.data / "in.npy", target, basis="original"))
        (entry,) = client.models().models
        usual = client.upsample_array(z).embeddings
    assert (last.phase, last.basis) == ("COMPLETED", "original")
    for found in ([one], many, array, np.load(target)):
        np.testing.assert_allclose(found, expected[: len(found)], atol=2e-6)
    assert np.abs(usual - expected).max() > 0.01
    assert entry.anchors is not None
    assert (entry.anchors.anchors, entry.anchors.r2 > 0.8) == (300, True)


def test_a_decoder_without_anchors_is_a_refusal(connect: type[Client], url: str) -> None:
    with connect(url) as client:
        with pytest.raises(UnprocessableError, match="embup anchors") as caught:
            client.upsample([0.1] * 32, basis="original")
        assert client.models().models[0].anchors is None
    assert caught.value.type == "/problems/no-anchors"
