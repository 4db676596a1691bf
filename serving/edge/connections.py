"""HTTP/1.1 on one connection: uvicorn's protocol, with limits on what a client sends and does not take.

What uvicorn has no limit for: the time until a request's head is there, and its body; their bytes; the number
of headers; the time in which an answer is taken. And what uvicorn answers as plain text (no HTTP, too many
connections) is a problem here.

A timer is set only when a request did not come whole in one piece, so that a usual one pays for none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httptools
import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.edge.boundary import new_request_id
from serving.edge.observed import REFUSED_STATUS
from serving.problems.problem import PROBLEM_JSON, headers_of, make_problem

if TYPE_CHECKING:
    from asyncio import TimerHandle, Transport
    from collections.abc import Callable

    from serving.observability.requests import RequestObservations

log = structlog.get_logger("embup.serving.connections")

MAX_HEADERS = 100
MAX_TARGET_BYTES = 8192
LINGER_S = 2.0
"""Seconds without input after which a connection with an unread body is ended (nginx: lingering_timeout)."""
LINGER_BYTES = 64 << 20
"""Most bytes of such a body that are discarded. Without it the client would get a reset, not its answer."""
FRAMING = 8
"""How much longer than its content a body of chunks may be: one byte a chunk takes six."""

_ANNOUNCES_A_BODY = {b"content-length", b"transfer-encoding"}

# Between two requests, in a request's head, in its body.
_IDLE, _HEAD, _BODY = range(3)


@dataclass(frozen=True)
class ConnectionLimits:
    """What a client may do with a connection. Times in seconds.

    Attributes
    ----------
    connections
        How many may be open at once.
    head_bytes, body_bytes
        How long a request's head and body may be.
    receive_s
        In which the head must be there, and then the body.
    send_s
        In which what is sent must be taken.
    """

    connections: int
    head_bytes: int
    body_bytes: int
    receive_s: float
    send_s: float


class _RefusedRequestError(Exception):
    """Leaves the parser from within one of its callbacks."""

    def __init__(self, kind: str, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.remedy = remedy


class _AnswerTransport:
    """The transport as uvicorn's request cycle uses it; how it is closed is the connection's to decide."""

    def __init__(self, transport: Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    Parameters
    ----------
    limits
        What its client may do.
    observations
        Where requests that do not reach the application are counted; None counts none.
    arguments
        As uvicorn gives them.
    """

    def __init__(
        self, *, limits: ConnectionLimits, observations: RequestObservations | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._observations = observations
        self._phase = _IDLE
        self._fed_bytes = 0  # of the head or of the body that is being received
        self._lingering = False
        self._linger_timer: TimerHandle | None = None
        self._linger_until_s = 0.0
        self._discarded_bytes = self._seen_discarded_bytes = 0
        self._too_many = False
        self._receive_timer: TimerHandle | None = None
        self._send_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin: the first request's head must come in time."""
        super().connection_made(transport)
        self._answer_transport = _AnswerTransport(transport, self._close)
        open_now = len(self.connections)
        self._too_many = open_now > self._limits.connections
        if open_now > 2 * self._limits.connections:
            self._drop("too many connections")  # too many even for an answer
            return
        self._await_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._received()
        self._taken()
        if self._linger_timer is not None:
            self._linger_timer.cancel()

    # Receiving.

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless the connection only waits for the client to close it."""
        if self._lingering:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # no other protocol is offered: it is a request like any other
        except httptools.HttpParserError as error:
            cause = error.__context__
            if not isinstance(cause, _RefusedRequestError):
                cause = _RefusedRequestError("invalid-http", f"Expected a request of HTTP/1.1: {error}.")
            self._refuse(cause)
            return
        if self._phase == _IDLE:
            if not self._in_flight:
                self._await_rest()  # line ends before a request, or the rest of an answered one
            return
        self._fed_bytes += len(data)
        self._await_rest()
        if self._phase == _HEAD and self._fed_bytes > self._limits.head_bytes:
            self._refuse(self._head_too_large())
        elif self._fed_bytes > FRAMING * self._limits.body_bytes + self._limits.head_bytes:
            if self._in_flight:
                self._drop("the body does not end")
            else:
                self._linger()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._phase = _HEAD
        self.scope["state"]["drop_connection"] = self.transport.abort

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those after a body of chunks mean nothing here."""
        if self._phase == _HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, and let the request go its way."""
        self._received()
        if self._too_many:
            raise _RefusedRequestError(
                "too-many-connections",
                f"Expected at most {self._limits.connections} connections at once, found one more.",
                "Try again later; use connections again instead of opening new ones.",
            )
        if len(self.url) > MAX_TARGET_BYTES:
            raise _RefusedRequestError(
                "target-too-long",
                f"Expected an address of at most {MAX_TARGET_BYTES} bytes, found {len(self.url)}.",
            )
        if not self.url.startswith(b"/"):
            # An address with a host of its own in it would go before the Host header.
            raise _RefusedRequestError(
                "invalid-http", "Expected an address that begins with /, found another."
            )
        if self.parser.should_upgrade() and any(name in _ANNOUNCES_A_BODY for name, _ in self.headers):
            raise _RefusedRequestError(  # the parser would leave the body out
                "invalid-http",
                "Expected a request of HTTP/1.1, found one with a body that wants another (Upgrade).",
                "Have the client speak HTTP/1.1 from the start.",
            )
        size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.head_bytes or len(self.headers) > MAX_HEADERS:
            raise self._head_too_large()
        self._phase = _BODY
        super().on_headers_complete()
        self.cycle.transport = self._answer_transport  # type: ignore[assignment]
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # the parser takes nothing of what comes after it

    def on_message_complete(self) -> None:
        """End a request: all of it is here."""
        self._phase = _IDLE
        self._received()
        super().on_message_complete()

    @property
    def _in_flight(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _head_too_large(self) -> _RefusedRequestError:
        return _RefusedRequestError(
            "head-too-large",
            f"Expected at most {MAX_HEADERS} headers of {self._limits.head_bytes} bytes altogether, found "
            "more.",
            "Send fewer headers.",
        )

    def _await_rest(self) -> None:
        if self._receive_timer is None:
            self._receive_timer = self.loop.call_later(self._limits.receive_s, self._too_slow)

    def _received(self) -> None:
        self._fed_bytes = 0
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _too_slow(self) -> None:
        self._receive_timer = None
        if self._phase == _IDLE:
            self.transport.close()  # nothing was asked
            return
        if self._phase == _BODY and not self._in_flight:
            self._linger()  # it is answered
            return
        part = "head" if self._phase == _HEAD else "body"
        self._refuse(
            _RefusedRequestError(
                "too-slow",
                f"Expected the request's {part} within {self._limits.receive_s:g} s, found a part of it.",
                "Send it at once.",
            )
        )

    # Refusing.

    def _refuse(self, why: _RefusedRequestError) -> None:
        """Answer with a problem, and end the connection once the client can have read it."""
        cycle, in_flight = self.cycle, self._in_flight
        self._received()
        if self.transport.is_closing():
            return
        if in_flight:
            # The application hears that its client has left, and what it still says goes nowhere.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self._drop(why.detail)
                return
        known = cycle.scope["state"].get("request_id") if in_flight else None
        problem = make_problem(why.kind, why.detail, request_id=known or new_request_id(), remedy=why.remedy)
        log.info(
            "refused", kind=why.kind, detail=why.detail, request_id=problem.request_id, client=self.client
        )
        if in_flight:
            cycle.scope["state"][REFUSED_STATUS] = problem.status  # counted where the request is watched
        elif self._observations is not None:
            self._observations.count_refused(problem.status)
        body = msgspec.json.encode(problem)
        headers = {
            "content-type": PROBLEM_JSON,
            "content-length": str(len(body)),
            "x-request-id": problem.request_id,
            "connection": "close",
        } | {name.lower(): value for name, value in headers_of(why.kind).items()}
        lines = [STATUS_LINE[problem.status]]
        lines += [b"%b: %b\r\n" % named for named in self.server_state.default_headers]
        lines += [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
        self.transport.write(b"".join([*lines, b"\r\n", body]))
        self._linger()

    def _close(self) -> None:
        """End the connection after an answer, at once if the whole request was received."""
        if self._phase == _BODY:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Send nothing more, and discard input until the client closes, falls silent or sends too much.

        The kernel answers input on a closed socket with a reset, which makes the client's kernel discard
        what the client has not read yet: the answer.
        """
        if self._lingering:
            return
        self._lingering = True
        self._received()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger_until_s = self.loop.time() + self._limits.receive_s
        self._linger_timer = self.loop.call_later(LINGER_S, self._end_lingering)

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > LINGER_BYTES:
            self._drop("the rest of an answered body is too long")

    def _end_lingering(self) -> None:
        still_sending = self._discarded_bytes > self._seen_discarded_bytes
        if still_sending and self.loop.time() < self._linger_until_s:
            self._seen_discarded_bytes = self._discarded_bytes
            self._linger_timer = self.loop.call_later(LINGER_S, self._end_lingering)
        else:
            self.transport.abort()

    def _drop(self, why: str) -> None:
        log.info("a connection was dropped", reason=why, client=self.client)
        if self._observations is not None:
            self._observations.dropped += 1
        self._lingering = True
        self.transport.abort()

    # Sending.

    def pause_writing(self) -> None:
        """Wait for a client that takes less than it is sent; not for ever."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """Stop the timer of an answer that is not taken."""
        super().resume_writing()
        self._taken()

    def on_response_complete(self) -> None:
        """End a request's answer; what of it is still here must be taken in time."""
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._await_taking()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that nothing was asked on for long; or whose last answer was not taken."""
        if self.transport.get_write_buffer_size():
            self._drop("the answer was not taken")
        else:
            super().timeout_keep_alive_handler()

    def _await_taking(self) -> None:
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(
                self._limits.send_s, self._drop, "the client does not take what it is sent"
            )

    def _taken(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None
