"""What is sent again, when, and what never is: against a real server that fails as often as it is told."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from embup_client import (
    Client,
    ConflictError,
    ConnectionFailedError,
    TooManyRequestsError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

UPSAMPLED = {"embedding": [1.0], "model_version": "1", "confidence": 0.5}
STATUS = {"status": "alive"}
UNSAFE: dict[str, Callable[[Client], object]] = {
    "cancel": lambda client: client.cancel("one"),
    "reload": lambda client: client.reload(),
    "promote": lambda client: client.promote("1"),
    "rollback": lambda client: client.rollback(),
}


@pytest.fixture
def accepted(answer: Any) -> Any:
    return answer.of({"batch_request_id": "one"}, 202)


def test_a_call_is_sent_until_the_service_is_back(connect: type[Client], scripted: Any, answer: Any) -> None:
    server = scripted(answer(), answer(502), answer(429, b"", {"Retry-After": "0"}), answer.of(UPSAMPLED))
    with connect(server.url) as client:
        assert client.upsample([0.5] * 32).embedding == [1.0]
    assert len(server.seen) == 4
    assert len({request.body for request in server.seen}) == 1


def test_waits_grow(scripted: Any, answer: Any) -> None:
    server = scripted(*[answer(504)] * 3, answer.of(UPSAMPLED))
    with Client(server.url) as client:
        client.upsample([0.5] * 32)
    came = [request.at_s for request in server.seen]
    waits = [after - before for before, after in pairwise(came)]
    assert all(wait >= 0.1 * 2**i for i, wait in enumerate(waits))


def test_the_time_that_the_service_asks_for_is_waited(
    connect: type[Client], scripted: Any, answer: Any
) -> None:
    server = scripted(answer(503, b"", {"Retry-After": "1"}), answer.of(UPSAMPLED))
    with connect(server.url) as client:
        client.upsample([0.5] * 32)
    first, second = server.seen
    assert second.at_s - first.at_s >= 1


def test_the_time_may_be_a_date(scripted: Any, answer: Any) -> None:
    at = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    date = format_datetime(at, usegmt=True)
    server = scripted(answer(429, b"", {"Retry-After": date}), answer.of(UPSAMPLED))
    with Client(server.url) as client:
        client.upsample([0.5] * 32)
    assert datetime.now(UTC) >= at
    assert len(server.seen) == 2


@pytest.mark.parametrize("senseless", ["soon", "-1", "1e3", "", "Mon, 99 Foo 2026"])
def test_a_senseless_time_is_none(scripted: Any, answer: Any, senseless: str) -> None:
    server = scripted(answer(503, b"", {"Retry-After": senseless}), answer.of(UPSAMPLED))
    with Client(server.url, retry_s=20) as client:
        assert client.upsample([0.5] * 32).model_version == "1"


def test_a_time_longer_than_the_client_has_is_an_error_at_once(
    connect: type[Client], scripted: Any, answer: Any
) -> None:
    server = scripted(answer(503, b"", {"Retry-After": "60"}))
    with connect(server.url, retry_s=5) as client, pytest.raises(UnavailableError) as raised:
        client.upsample([0.5] * 32)
    assert raised.value.retry_after_s == 60
    assert len(server.seen) == 1


def test_patience_ends(connect: type[Client], scripted: Any, answer: Any) -> None:
    server = scripted(answer())
    with connect(server.url, retry_s=0.6) as client, pytest.raises(ConnectionFailedError) as raised:
        client.models()
    assert server.url in str(raised.value)
    assert 2 <= len(server.seen) <= 10


def test_no_second_try_is_made_where_none_is_wanted(
    connect: type[Client], scripted: Any, answer: Any
) -> None:
    server = scripted(answer(503))
    with connect(server.url, retry_s=0) as client, pytest.raises(UnavailableError):
        client.models()
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 422, 500])
def test_what_a_second_try_would_not_mend_is_sent_once(scripted: Any, answer: Any, status: int) -> None:
    server = scripted(answer(status))
    with Client(server.url) as client, pytest.raises(Exception, match="the service answered") as raised:
        client.upsample([0.5] * 32)
    assert getattr(raised.value, "status", None) == status
    assert len(server.seen) == 1


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("failing", [None, 503])
def test_what_may_have_been_done_is_not_sent_again(
    scripted: Any, answer: Any, name: str, failing: int | None
) -> None:
    server = scripted(answer(failing))
    with Client(server.url) as client, pytest.raises((ConnectionFailedError, UnavailableError)):
        UNSAFE[name](client)
    assert len(server.seen) == 1


def test_an_error_tells_what_was_never_sent_from_what_may_have_been_done(
    connect: type[Client], scripted: Any, answer: Any
) -> None:
    with connect("http://127.0.0.1:9", retry_s=0) as client, pytest.raises(ConnectionFailedError) as nobody:
        client.rollback()
    assert "no service answers at http://127.0.0.1:9" in nobody.value.detail
    assert "EMBUP_SERVICE_URL" in nobody.value.remedy
    with connect(scripted(answer()).url) as client, pytest.raises(ConnectionFailedError) as broken:
        client.rollback()
    assert "no whole answer" in broken.value.detail
    assert "may have done" in broken.value.remedy


@pytest.mark.parametrize("name", UNSAFE)
def test_what_was_refused_unread_is_sent_again(scripted: Any, answer: Any, name: str) -> None:
    server = scripted(answer(429, b"", {"Retry-After": "0"}), answer(409))
    with Client(server.url) as client, pytest.raises(ConflictError):
        UNSAFE[name](client)
    assert len(server.seen) == 2


def test_what_was_never_sent_is_sent_when_the_service_is_there(
    connect: type[Client], scripted: Any, answer: Any
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reloaded = answer.of({"model_version": "2"})
    late = threading.Timer(0.5, lambda: scripted(reloaded, port=port))
    late.start()
    with connect(f"http://127.0.0.1:{port}") as client:
        assert client.reload().model_version == "2"
    late.join()


def test_a_second_try_of_a_submission_has_the_key_of_the_first(
    connect: type[Client], scripted: Any, answer: Any, accepted: Any
) -> None:
    server = scripted(answer(), answer(503), accepted)
    with connect(server.url) as client:
        assert client.submit_batch("in.txt", "out.txt") == "one"
        assert client.submit_batch("in.txt", "out.txt") == "one"
        client.submit_batch("in.txt", "out.txt", idempotency_key="mine")
    first, second, third, another, own = (request.headers["idempotency-key"] for request in server.seen)
    assert first == second == third
    assert another != first
    assert own == "mine"


def test_how_things_are_now_is_asked_once(connect: type[Client], scripted: Any, answer: Any) -> None:
    server = scripted(answer(503, b'{"detail": "no decoder"}'))
    with connect(server.url) as client:
        for ask in (client.live, client.ready):
            with pytest.raises(UnavailableError, match="no decoder"):
                ask()
        assert client.is_ready() is False
    assert len(server.seen) == 3


def test_a_service_that_is_too_busy_for_too_long_says_so(scripted: Any, answer: Any) -> None:
    server = scripted(answer(429))
    with Client(server.url, retry_s=0.3) as client, pytest.raises(TooManyRequestsError):
        client.upsample([0.5] * 32)
