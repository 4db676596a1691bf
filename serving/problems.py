"""Every error as an RFC 9457 problem: one type to raise, one table from the domain's errors, no traceback.

The table lives here and nowhere else, so that a controller raises what happened and never thinks of HTTP.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, get_args

import duckdb
import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, InternalServerException, ValidationException

from embup_core.errors import (
    ArtifactError,
    BadRowError,
    EmbupError,
    InputError,
    JobConflictError,
    JobError,
    NoArtifactError,
    OutputError,
    UnknownJobError,
)
from serving.jobs.model import OnBadRow, Phase, RequestStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar.connection import ASGIConnection
    from litestar.handlers import BaseRouteHandler
    from litestar.types import ExceptionHandlersMap

log = structlog.get_logger("embup.serving")

CLIENT_CLOSED_REQUEST = 499  # in no RFC, but what proxies write for it
_CLIENT_LEFT = "client disconnected prematurely"  # Litestar has no class of its own for it
PROBLEM_JSON = "application/problem+json"

# The first class that fits decides: status, type, title.
_DOMAIN: tuple[tuple[type[EmbupError], tuple[int, str, str]], ...] = (
    (UnknownJobError, (404, "unknown-batch-request", "No such batch request")),
    (JobConflictError, (409, "batch-conflict", "The batch request contradicts another one")),
    (JobError, (503, "job-database", "The job database cannot be used")),
    (NoArtifactError, (503, "no-decoder", "No decoder is published yet")),
    (ArtifactError, (503, "invalid-decoder", "The published decoder cannot be used")),
    (BadRowError, (422, "bad-row", "A row cannot be used")),
    (InputError, (422, "bad-input", "The input cannot be used")),
    (OutputError, (422, "bad-output", "The output cannot be written")),
)
_TITLES = {
    400: ("malformed-request", "The request cannot be understood"),
    404: ("not-found", "There is nothing at this address"),
    405: ("method-not-allowed", "The method is not offered at this address"),
    408: ("too-slow", "The request took too long to arrive"),
    413: ("too-large", "The request body is too large"),
    415: ("unsupported-media-type", "The body's media type is not understood"),
}
_CHOICES = {
    "status": get_args(RequestStatus),
    "phase": tuple(Phase),
    "on_bad_row": get_args(OnBadRow),
}
_INVALID_CHOICE = re.compile(r"Invalid enum value (?P<found>'.*')")
_PLACE = re.compile(r" - at `\$\.(?P<name>\w+)")
_REMEDIES = {
    404: "The addresses are listed at /docs.",
    405: "The methods are listed at /docs.",
    413: "Send fewer rows at a time, or a file through POST /v1/batches.",
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as RFC 9457 has it. `line`, `remedy` and `errors` are extension members."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    remedy: str = ""
    line: int | None = None
    errors: list[dict[str, str]] = []


class ProblemError(Exception):
    """Raised by controllers for what has no error in the domain's tree.

    Parameters
    ----------
    status
        HTTP status code.
    kind
        Last part of the problem's type, such as `bad-row`.
    title
        What kind of problem this is, the same for every occurrence.
    detail
        What was expected and what was found this time.
    remedy
        What the caller can do.
    """

    def __init__(self, status: int, kind: str, title: str, detail: str, *, remedy: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.remedy = remedy


def problem_type(kind: str) -> str:
    """Name a problem's type: a relative reference, so that it means the same behind any host."""
    return f"/problems/{kind}"


def domain_problem(error: EmbupError, instance: str = "") -> Problem:
    """Translate an error of the domain's tree."""
    status, name, title = next(
        (answer for kind, answer in _DOMAIN if isinstance(error, kind)),
        (500, "internal", "The service failed"),
    )
    return Problem(
        type=problem_type(name),
        title=title,
        status=status,
        detail=error.message,
        instance=instance,
        remedy=error.remedy,
        line=error.line if isinstance(error, BadRowError) else None,
    )


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """Answer with a problem."""
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=dict(headers or {}),
    )


def _on_domain_error(request: Request[Any, Any, Any], error: EmbupError) -> Response[bytes]:
    problem = domain_problem(error, request.url.path)
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR or problem.type == problem_type("job-database"):
        log.error("request failed", path=request.url.path, error=str(error))
    return problem_response(problem, {"Retry-After": "10"} if problem.status == 503 else None)


def _on_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    return problem_response(
        Problem(
            type=problem_type(error.kind),
            title=error.title,
            status=error.status,
            detail=error.detail,
            instance=request.url.path,
            remedy=error.remedy,
        )
    )


def _malformed(request: Request[Any, Any, Any], detail: str, errors: list[dict[str, str]]) -> Response[bytes]:
    kind, title = _TITLES[400]
    return problem_response(
        Problem(
            type=problem_type(kind),
            title=title,
            status=400,
            detail=detail,
            instance=request.url.path,
            remedy="The shape of each request is described, with examples, at /docs.",
            errors=errors,
        )
    )


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    status = error.status_code
    if isinstance(error, InternalServerException) and error.detail == _CLIENT_LEFT:
        log.debug("the client left before its request was whole", path=request.url.path)
        return Response(b"", status_code=CLIENT_CLOSED_REQUEST)  # nobody reads it; the metrics count it
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _on_unexpected(request, error)
    if status == HTTPStatus.BAD_REQUEST:
        return _on_bad_request(request, error)
    kind, title = _TITLES.get(status, ("http", HTTPStatus(status).phrase))
    detail = error.detail
    if status == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {request.url.path}."
    elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = f"Expected a body of at most {request.route_handler.resolve_request_max_body_size()} bytes."
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not offered at {request.url.path}."
    return problem_response(
        Problem(
            type=problem_type(kind),
            title=title,
            status=status,
            detail=detail,
            instance=request.url.path,
            remedy=_REMEDIES.get(status, ""),
        ),
        error.headers,
    )


def _on_bad_request(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    errors = []
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        for found in error.extra:
            if isinstance(found, dict):
                where = str(found.get("key", "")) or str(found.get("source", "body"))
                errors.append(_described(where, str(found.get("message", ""))))
    cause = _cause(error)
    if errors:
        detail = "; ".join(f"{found['where']}: {found['message']}" for found in errors)
    elif isinstance(cause, msgspec.MsgspecError | UnicodeError):
        detail = f"The body is not what is expected: {cause}."
    else:
        detail = error.detail
    return _malformed(request, detail, errors)


def _described(where: str, message: str) -> dict[str, str]:
    """Say where in a request what was expected and found; a body is the `data` of a handler."""
    if where == "data":
        where = "body"
        if message == "'data'":
            message = "expected JSON, found nothing"
    place = _PLACE.search(message)
    choices = _CHOICES.get(place["name"] if place else where)
    if choices and (invalid := _INVALID_CHOICE.search(message)):
        message = f"expected one of {', '.join(choices)}, found {invalid['found']}"
    return {"where": f"body, field {place['name']}" if place else where, "message": message}


def _on_database_error(request: Request[Any, Any, Any], error: duckdb.Error) -> Response[bytes]:
    """Say that the disk of the job database refuses; any other error of the database is ours."""
    reason = str(error).partition("\n")[0].rstrip(".")
    # There is one connection, so that no commit fails for another transaction: it is the disk.
    uncommitted = isinstance(error, duckdb.TransactionException) and "Failed to commit" in reason
    if not uncommitted and not isinstance(error, duckdb.IOException | duckdb.FatalException):
        return _on_unexpected(request, error)
    log.error("the job database cannot be written", path=request.url.path, error=reason)
    return problem_response(
        Problem(
            type=problem_type("job-database"),
            title="The job database cannot be used",
            status=503,
            detail=f"The job database cannot be written: {reason}.",
            instance=request.url.path,
            remedy="Free space on the disk of the service's data folder, then send the request again.",
        ),
        {"Retry-After": "10"},
    )


def _on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    cause = _cause(error)
    if isinstance(cause, UnicodeDecodeError):
        detail = f"Expected a body in UTF-8, found the byte 0x{cause.object[cause.start]:02x}."
        return _malformed(request, detail, [])
    if isinstance(cause, RecursionError):
        return _malformed(request, "The body's JSON is nested too deeply.", [])
    if isinstance(cause, msgspec.MsgspecError):
        return _malformed(request, f"The body is not what is expected: {cause}.", [])
    log.error("request failed", path=request.url.path, method=request.method, exc_info=error)
    return problem_response(
        Problem(
            type=problem_type("internal"),
            title="The service failed",
            status=500,
            detail="An unexpected error happened; it is written in the service's log.",
            instance=request.url.path,
            remedy="Try again; if it stays, look into the log and report what it says.",
        )
    )


def exception_handlers() -> ExceptionHandlersMap:
    """Give the application its whole mapping from exceptions to answers."""
    handlers: dict[int | type[Exception], Any] = {
        EmbupError: _on_domain_error,
        ProblemError: _on_problem,
        HTTPException: _on_http_exception,
        duckdb.Error: _on_database_error,
        Exception: _on_unexpected,
    }
    return handlers


async def require_json(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse a body that does not say it is JSON: any web page may post text/plain to a local service.

    Asynchronous although it waits for nothing: Litestar takes any other guard to a thread and back.

    Raises
    ------
    ProblemError
        415, when the media type is another than application/json, or none is given.
    """
    found = connection.headers.get("content-type", "none")
    if found.partition(";")[0].strip().lower() != MediaType.JSON:
        kind, title = _TITLES[415]
        raise ProblemError(
            415,
            kind,
            title,
            f"Expected a body of the media type application/json, found {found}.",
            remedy="Send the header `Content-Type: application/json`.",
        )
