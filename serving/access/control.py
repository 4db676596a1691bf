"""Asks for a key before anything of a request's body is read, and before it counts as realtime.

Which scope a handler needs stands in its `opt` as `access`. One without it needs `admin`, so that a new
handler is closed until its author opens it.

A handler that is a page (`page` in its `opt`) leads a browser without a key to where one can be given. The
cookie of a session stands for its key where a request changes nothing, and for a page's own forms, which a
token guards as well; never for other requests that change something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import structlog
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware

from serving.access.keys import ADMIN
from serving.access.sessions import VIEWER
from serving.problems.problem import send_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.types import (
        ASGIApp,
        HTTPResponseBodyEvent,
        HTTPResponseStartEvent,
        HTTPScope,
        Receive,
        Scope,
        Send,
    )

    from serving.access.keys import ApiKey, ApiKeys
    from serving.access.sessions import Sessions, Viewer

LOGIN_PATH: Final = "/console/login"
OPEN = "open"
STILL_ALLOWED = "still_allowed"  # in a request's state


class AccessControl(ASGIMiddleware):
    """Asks for a key before anything of a request's body is read, and before it counts as realtime.

    Parameters
    ----------
    keys
        Those in force; None lets everybody do everything.
    sessions
        Of browsers that gave one of them.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, keys: ApiKeys | None, sessions: Sessions) -> None:
        self._keys = keys
        self._sessions = sessions

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Let a request through, or answer 401 or 403."""
        if scope["type"] != ScopeType.HTTP:
            await next_app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await _tell_methods(scope, send)
            return
        if self._keys is None:
            await next_app(scope, receive, send)
            return
        handler = scope["route_handler"]
        needed, presented = needed_scope(handler), _presented(scope)
        viewer: Viewer | None = None
        if presented is None and (scope["method"] == "GET" or is_page(handler)):  # HEAD is GET by now
            viewer = scope["state"][VIEWER] = self._sessions.find(scope)
        if needed == OPEN:
            await next_app(scope, receive, send)
            return
        key = _key_of(viewer) if presented is None else self._keys.find(presented)
        if key is None:
            await self._ask_for_a_key(scope, send, presented)
            return
        structlog.contextvars.bind_contextvars(api_key=key.name)
        if not key.allows(needed):
            await send_problem(
                scope,
                send,
                "key-without-scope",
                f"Expected a key with the scope {needed}, found {key.name} with "
                f"{','.join(sorted(key.scopes))}.",
                remedy="Use a key with that scope.",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed}"'},
            )
            return
        if viewer is None:
            scope["state"][VIEWER] = self._sessions.with_key(key)
        scope["state"][STILL_ALLOWED] = lambda: self._stands(key, viewer)
        await next_app(scope, receive, send)

    def _stands(self, key: ApiKey, viewer: Viewer | None) -> bool:
        if viewer is not None:
            return self._sessions.stands(viewer)
        return self._keys is not None and key in self._keys.keys

    @staticmethod
    async def _ask_for_a_key(scope: HTTPScope, send: Send, presented: bytes | None) -> None:
        if presented is None and is_page(scope["route_handler"]) and accepts_html(scope):
            wanted = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
            back = f"?next={quote(wanted, safe='/')}" if scope["method"] == "GET" else ""
            await _redirect(send, LOGIN_PATH + back)
            return
        await send_problem(
            scope,
            send,
            "no-valid-key",
            "Expected an API key, found none."
            if presented is None
            else "Expected an API key of this service, found one that it does not know.",
            remedy="Send the header `Authorization: Bearer <key>`; `embup keys new` makes a key.",
            headers={"WWW-Authenticate": "Bearer" if presented is None else 'Bearer error="invalid_token"'},
        )


def still_allowed(scope: Scope) -> bool:
    """Whether the key that let a request in stands as it did; what answers for long asks now and then."""
    allowed: Callable[[], bool] | None = scope["state"].get(STILL_ALLOWED)
    return allowed is None or allowed()


def needed_scope(handler: Any) -> str:
    """Give the scope that a route handler needs; `open` means none."""
    return str(handler.opt.get("access", ADMIN))


def is_page(handler: Any) -> bool:
    """Whether people look at what a route handler answers."""
    return bool(handler.opt.get("page", False))


def accepts_html(scope: Scope) -> bool:
    """Whether a request asks for HTML by name, as browsers do when they open a page."""
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


async def _redirect(send: Send, where: str) -> None:
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": 303,
        "headers": [
            (b"location", where.encode()),
            (b"content-length", b"0"),
            (b"cache-control", b"no-store"),
        ],
    }
    whole: HTTPResponseBodyEvent = {"type": "http.response.body", "body": b"", "more_body": False}
    await send(start)
    await send(whole)


async def _tell_methods(scope: HTTPScope, send: Send) -> None:
    """Answer OPTIONS, open as a 405 is; Litestar's own answer knows one of the handlers of a path."""
    methods = {
        method
        for route in scope["litestar_app"].routes
        if route.path_format == scope["path_template"]
        for method in getattr(route, "methods", ())
    }
    if "GET" in methods:
        methods.add("HEAD")
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": 204,
        "headers": [(b"allow", ", ".join(sorted(methods)).encode())],
    }
    whole: HTTPResponseBodyEvent = {"type": "http.response.body", "body": b"", "more_body": False}
    await send(start)
    await send(whole)


def _key_of(viewer: Viewer | None) -> ApiKey | None:
    return None if viewer is None else viewer.key


def _presented(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, key = value.partition(b" ")
            return key.strip() if kind.lower() == b"bearer" else b""
    return None
