"""Where a browser gives an API key once, and where it ends its session."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Redirect

from serving.access.control import LOGIN_PATH, OPEN
from serving.access.keys import ApiKeys
from serving.access.sessions import COOKIE, Sessions, Viewer
from serving.pages.console.forms import own_path, read_form
from serving.pages.layout import page

LONGEST_WAY_BACK = 4096


class LoginController(Controller):
    """Log in and out."""

    path = "/console"
    include_in_schema = False
    opt = {"access": OPEN, "page": True}  # noqa: RUF012 - Litestar's own attribute

    @get("/login")
    async def ask(
        self,
        request: Request[Any, Any, Any],
        viewer: NamedDependency[Viewer],
        wanted: Annotated[str, QueryParameter(name="next", max_length=LONGEST_WAY_BACK)] = "/",
    ) -> Response[Any]:
        """Show the form."""
        back = own_path(wanted)
        if not viewer.keyed:
            return Redirect(back, status_code=303)
        # Whoever follows a link from another site comes without the cookie, which is not sent along then. A
        # step from this page is one of our own.
        again = request.headers.get("sec-fetch-site") == "cross-site"
        return page("console/login.html", viewer, title="Log in", back=back, again=again, refused="")

    @post("/login")
    async def start(
        self,
        request: Request[Any, Any, Any],
        viewer: NamedDependency[Viewer],
        sessions: NamedDependency[Sessions],
        keys: NamedDependency[ApiKeys | None],
    ) -> Response[Any]:
        """Start a session with the key of the form."""
        form = await read_form(request, sessions)
        back = own_path(form.get("next", "/"))
        key = None if keys is None else keys.find(form.get("key", "").strip().encode())
        if key is None:
            return page(
                "console/login.html",
                viewer,
                title="Log in",
                status_code=403,
                back=back,
                again=False,
                refused="The service does not know this key. Look whether it was copied whole, or ask for a "
                "new one.",
            )
        sessions.end(request.scope)
        # A browser says by the origin of a form whether it reached the service, or a proxy before it, safely.
        secure = request.headers.get("origin", "").startswith("https://")
        cookie = Cookie(COOKIE, value=sessions.start(key), httponly=True, samesite="strict", secure=secure)
        return Redirect(back, status_code=303, cookies=[cookie])

    @post("/logout")
    async def end(self, request: Request[Any, Any, Any], sessions: NamedDependency[Sessions]) -> Redirect:
        """End the session."""
        await read_form(request, sessions)
        sessions.end(request.scope)
        return Redirect(
            LOGIN_PATH, status_code=303, cookies=[Cookie(COOKIE, value="", max_age=0, samesite="strict")]
        )
