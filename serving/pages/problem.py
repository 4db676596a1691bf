"""Problems for people: what each kind means, and pages in place of JSON where a browser met one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from serving.access.control import OPEN, accepts_html
from serving.access.sessions import Sessions, Viewer, viewer_of
from serving.pages.layout import PAGE_HEADERS, page, render
from serving.problems.kinds import KINDS
from serving.problems.problem import PROBLEM_JSON, Problem

if TYPE_CHECKING:
    from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send


@get(
    "/problems/{kind:str}",
    include_in_schema=False,
    opt={"access": OPEN, "page": True},
    sync_to_thread=False,
)
def problem_page(kind: FromPath[str], viewer: NamedDependency[Viewer]) -> Response[str]:
    """Show what a kind of problem means."""
    found = KINDS.get(kind)
    if found is None:
        raise NotFoundException
    # Backquotes are all the Markdown there is in a meaning.
    return page(
        "problem_kind.html",
        viewer,
        title=found.title,
        kind=kind,
        found=found,
        meaning=found.meaning.split("`"),
    )


class ProblemPages:
    """Answers problems as pages where a browser opens an address; programs get JSON.

    Parameters
    ----------
    app
        The application, which answers problems as JSON.
    sessions
        Of browsers.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and make a page of the problem that it may be answered with."""
        if scope["type"] != ScopeType.HTTP or not accepts_html(scope):
            await self._app(scope, receive, send)
            return
        begun: HTTPResponseStartEvent | None = None
        document = b""

        async def watched_send(message: Message) -> None:
            nonlocal begun, document
            if message["type"] == "http.response.start" and _is_problem(message):
                begun = message
            elif message["type"] == "http.response.body" and begun is not None:
                document += message.get("body", b"")
                if not message.get("more_body", False):
                    await self._answer(scope, send, begun, document)
            else:
                await send(message)

        await self._app(scope, receive, watched_send)

    async def _answer(self, scope: Scope, send: Send, begun: HTTPResponseStartEvent, document: bytes) -> None:
        problem = msgspec.json.decode(document, type=Problem)
        viewer = viewer_of(scope, self._sessions)
        body = render("problem.html", viewer, title=problem.title, problem=problem).encode()
        kept = [
            (name, value)
            for name, value in begun["headers"]
            if name.lower() not in {b"content-type", b"content-length"}
        ]
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            **PAGE_HEADERS,
        }
        begun["headers"] = kept + [(name.encode(), value.encode()) for name, value in headers.items()]
        await send(begun)
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _is_problem(begun: HTTPResponseStartEvent) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(PROBLEM_JSON.encode())
        for name, value in begun["headers"]
    )
