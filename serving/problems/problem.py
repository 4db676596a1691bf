"""An error as an RFC 9457 problem: the document, the exception that controllers raise, the ASGI answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serving.problems.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Scope, Send

CLIENT_CLOSED_REQUEST = 499  # in no RFC, but what proxies write for it
PROBLEM_JSON = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as RFC 9457 has it. `request_id`, `line`, `remedy` and `errors` are extension members."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    request_id: str = ""
    remedy: str = ""
    line: int | None = None
    errors: list[dict[str, str]] = []


class ProblemError(Exception):
    """Raised by controllers for what has no error in the domain's tree.

    Parameters
    ----------
    kind
        A key of `serving.problems.kinds.KINDS`, such as `bad-row`; it has the status and the title.
    detail
        What was expected and what was found this time.
    remedy
        What the caller can do.
    headers
        More headers of the answer.
    """

    def __init__(
        self, kind: str, detail: str, *, remedy: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.remedy = remedy
        self.headers = headers


def problem_type(kind: str) -> str:
    """Name a problem's type: a relative reference, so that it means the same behind any host."""
    return f"/problems/{kind}"


def make_problem(
    kind: str,
    detail: str,
    *,
    instance: str = "",
    request_id: str = "",
    remedy: str = "",
    status: int | None = None,
    line: int | None = None,
    errors: list[dict[str, str]] | None = None,
) -> Problem:
    """Make a problem of a kind of `serving.problems.kinds`."""
    known = KINDS[kind]
    return Problem(
        type=problem_type(kind),
        title=known.title,
        status=status or known.status,
        detail=detail,
        instance=instance,
        request_id=request_id,
        remedy=remedy,
        line=line,
        errors=errors or [],
    )


def headers_of(kind: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the headers of a kind's answers besides those of its body, with those of one occurrence."""
    retry_after_s = KINDS[kind].retry_after_s
    said = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return said | dict(more or {})


def request_id_of(scope: Scope) -> str:
    """Give the id that the boundary gave a request; empty without one."""
    return str(scope.get("state", {}).get("request_id", ""))


async def send_problem(
    scope: Scope,
    send: Send,
    kind: str,
    detail: str,
    *,
    remedy: str = "",
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with a problem from below Litestar, where there is no response to return."""
    problem = make_problem(
        kind, detail, instance=scope["path"], request_id=request_id_of(scope), remedy=remedy
    )
    body = msgspec.json.encode(problem)
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": problem.status,
        "headers": [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in headers_of(kind, headers).items()),
        ],
    }
    whole: HTTPResponseBodyEvent = {"type": "http.response.body", "body": body, "more_body": False}
    await send(start)
    await send(whole)


UNEXPECTED = "An unexpected error happened; it is written in the service's log."
LOOK_INTO_THE_LOG = "Try again; if it stays, look into the log and report what it says."
