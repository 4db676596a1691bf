"""The outermost layer of the application: what holds for every request, whatever it asks for.

It gives each request an id, refuses those that are addressed to another name (a page on the web can have its
name lead to 127.0.0.1) or that come from another web page, and sees that every request has an answer: a
problem when it is cut off by the stop or when something unforeseen comes up, the end of the connection when
an answer had begun. Plain ASGI, because it is on the way of realtime requests: a few microseconds in all.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from ipaddress import ip_address
from itertools import count
from typing import TYPE_CHECKING

import structlog
from litestar.enums import ScopeType

from serving.problems.problem import LOOK_INTO_THE_LOG, UNEXPECTED, send_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

log = structlog.get_logger("embup.serving")

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Said with every answer, by uvicorn: no page may frame one, guess its type, or take it in.
ANSWER_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(:[0-9]{1,5})?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_START_ID = secrets.token_hex(6)
_numbers = count(1)


def new_request_id() -> str:
    """Give an id that no other request has, of this start or of another."""
    return f"{_START_ID}-{next(_numbers):x}"


class HostNames:
    """The names by which the service may be addressed.

    Parameters
    ----------
    address
        The IP address that is listened on. On a loopback address only the names of that are known; on all
        addresses (0.0.0.0, ::) every address is, since no page on the web can have an address of ours as its
        name.
    host
        The name or address as it was set.
    allowed
        Further names.
    """

    def __init__(self, address: str, host: str, allowed: Iterable[str] = ()) -> None:
        listening = ip_address(address.partition("%")[0])
        self._any_address = listening.is_unspecified
        self._names = {*LOOPBACK_NAMES, *allowed}
        if not listening.is_unspecified:
            self._names |= {f"[{name}]" if ":" in name else name.lower() for name in (str(listening), host)}
        self._seen: set[bytes] = set()

    def __contains__(self, host: bytes) -> bool:
        if host in self._seen:
            return True
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].decode().lower()
        known = name in self._names or (self._any_address and _is_address(name))
        if known and len(self._seen) < 64:
            self._seen.add(host)
        return known


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class Boundary:
    """Lets through what is addressed to the service and not sent by another web page; answers everything.

    Parameters
    ----------
    app
        The application.
    names
        By which the service may be addressed.
    """

    def __init__(self, app: ASGIApp, names: HostNames) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through, or refuse it."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id")
        request_id = given.decode() if given and _REQUEST_ID.fullmatch(given) else new_request_id()
        scope["state"]["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        named = (b"x-request-id", request_id.encode())
        answering = False

        async def watched_send(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                message["headers"] = [*message["headers"], named]
            await send(message)

        refusal = self._refusal(scope, headers)
        # HEAD is GET without the answer's body, which uvicorn leaves out where its own scope says HEAD.
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            if refusal is None:
                try:
                    await self._app(asked, receive, watched_send)
                finally:
                    scope["path_template"] = asked.get("path_template", "")  # who counts requests reads it
            else:
                await send_problem(scope, watched_send, refusal[0], refusal[1], remedy=refusal[2])
        except asyncio.CancelledError:
            # uvicorn cancels what is left of a stop, and takes what comes out of that for a fault of ours.
            log.info("a request was cut off by the stop", method=scope["method"], path=scope["path"])
            if not answering:
                await send_problem(
                    scope,
                    watched_send,
                    "stopping",
                    "The service is stopping, and the request was not whole in the time it had left.",
                    remedy="Send it again once the service is back.",
                    headers={"Connection": "close"},
                )
        except Exception as error:
            if not answering:
                log.exception("request failed", method=scope["method"], path=scope["path"])
                await send_problem(scope, watched_send, "internal", UNEXPECTED, remedy=LOOK_INTO_THE_LOG)
                return
            await _end_answer(scope, error)

    def _refusal(self, scope: HTTPScope, headers: dict[bytes, bytes]) -> tuple[str, str, str] | None:
        """Say why a request is refused: kind, detail, remedy; None when it is not."""
        host = headers.get(b"host")
        if host is None or _hosts(scope) > 1:
            found = "none" if host is None else "several"
            return "invalid-http", f"Expected one Host header, found {found}.", "Send one."
        if host not in self._names:
            return (
                "unknown-host",
                f"Expected a Host header that names this service, found {host[:255].decode('latin-1')}.",
                "Use the address that the service listens on, or have the name added to EMBUP_ALLOWED_HOSTS.",
            )
        origin = headers.get(b"origin")
        if origin is not None and origin not in {b"http://" + host, b"https://" + host}:
            return "foreign-origin", _PAGE.format(origin[:255].decode("latin-1")), _NO_PAGE
        site = headers.get(b"sec-fetch-site")
        if site in {b"cross-site", b"same-site"} and not _follows_a_link(scope, headers):
            return "foreign-origin", _PAGE.format("another"), _NO_PAGE
        return None


_PAGE = (
    "Expected no web page, or one of the service's own, to send this request, found a page of the origin {}."
)
_NO_PAGE = "Send it from a program, or serve the page under the service's own address."


def _hosts(scope: HTTPScope) -> int:
    return sum(name == b"host" for name, _ in scope["headers"])


def _follows_a_link(scope: HTTPScope, headers: dict[bytes, bytes]) -> bool:
    """Whether the browser follows a link to a page of ours; the linking page cannot see the answer."""
    return (
        scope["method"] == "GET"
        and headers.get(b"sec-fetch-mode") == b"navigate"
        and headers.get(b"sec-fetch-dest") == b"document"
    )


async def _end_answer(scope: HTTPScope, error: Exception) -> None:
    """End the connection of an answer that cannot be completed: its length is promised already."""
    if isinstance(error.__cause__ or error, TimeoutError):
        log.info("a client did not take its answer in time", method=scope["method"], path=scope["path"])
    else:
        log.error(
            "request failed while it was answered",
            method=scope["method"],
            path=scope["path"],
            exc_info=error,
        )
    drop: Callable[[], None] | None = scope["state"].get("drop_connection")
    if drop is None:
        raise error
    drop()
    await asyncio.sleep(0.01)  # the protocol hears of it meanwhile, and asks for no rest of the answer
