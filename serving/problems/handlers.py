"""Exceptions become problems: the application's whole mapping, and the table from the domain's errors.

Controllers raise what happened; status codes and titles come from here and `serving.problems.kinds` alone.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

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
    NoAnchorsError,
    NoArtifactError,
    OutputError,
    UnknownJobError,
)
from serving.problems.expected import completed, field_of
from serving.problems.problem import (
    CLIENT_CLOSED_REQUEST,
    LOOK_INTO_THE_LOG,
    PROBLEM_JSON,
    UNEXPECTED,
    ProblemError,
    headers_of,
    make_problem,
    request_id_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from litestar.connection import ASGIConnection
    from litestar.handlers import BaseRouteHandler
    from litestar.types import ExceptionHandlersMap

log = structlog.get_logger("embup.serving")

_CLIENT_LEFT = "client disconnected prematurely"  # Litestar has no class of its own for it
# The first class that fits decides.
_DOMAIN: tuple[tuple[type[EmbupError], str], ...] = (
    (UnknownJobError, "unknown-batch-request"),
    (JobConflictError, "batch-conflict"),
    (JobError, "job-database"),
    (NoArtifactError, "no-decoder"),
    (ArtifactError, "invalid-decoder"),
    (BadRowError, "bad-row"),
    (NoAnchorsError, "no-anchors"),
    (InputError, "bad-input"),
    (OutputError, "bad-output"),
)
# What Litestar raises itself.
_STATUSES = {
    400: "malformed-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
}
_REMEDIES = {
    400: "The shape of each request is described, with examples, at /docs.",
    404: "The addresses are listed at /docs.",
    405: "The methods are listed at /docs.",
    413: "Send fewer rows at a time, or a file through POST /v1/batches.",
}


def _answer(
    request: Request[Any, Any, Any],
    kind: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response[bytes]:
    problem = make_problem(
        kind, detail, instance=request.url.path, request_id=request_id_of(request.scope), **members
    )
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=headers_of(kind, headers),
    )


def _on_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    return _answer(request, error.kind, error.detail, remedy=error.remedy, headers=error.headers)


def _malformed(
    request: Request[Any, Any, Any], detail: str, errors: list[dict[str, str]] | None = None
) -> Response[bytes]:
    return _answer(request, "malformed-request", detail, remedy=_REMEDIES[400], errors=errors)


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    status = error.status_code
    if isinstance(error, InternalServerException) and error.detail == _CLIENT_LEFT:
        log.debug("the client left before its request was whole", path=request.url.path)
        return Response(b"", status_code=CLIENT_CLOSED_REQUEST)  # not read by anyone; counted in the metrics
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _on_unexpected(request, error)
    if status == HTTPStatus.BAD_REQUEST:
        return _on_bad_request(request, error)
    detail = error.detail
    if status == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {request.url.path}."
    elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = f"Expected a body of at most {request.route_handler.resolve_request_max_body_size()} bytes."
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not offered at {request.url.path}."
    return _answer(
        request,
        _STATUSES.get(status, "refused"),
        detail,
        status=status,
        remedy=_REMEDIES.get(status, ""),
        headers=error.headers,
    )


def _on_bad_request(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    errors = []
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        for found in error.extra:
            if isinstance(found, dict):
                where = str(found.get("key", "")) or str(found.get("source", "body"))
                errors.append(_described(request, where, str(found.get("message", ""))))
    cause = _cause(error)
    if errors:
        detail = "; ".join(f"{found['where']}: {found['message']}" for found in errors)
    elif isinstance(cause, msgspec.MsgspecError | UnicodeError):
        detail = f"The body cannot be read: {cause}."
    else:
        detail = error.detail
    return _malformed(request, detail, errors)


def _described(request: Request[Any, Any, Any], where: str, message: str) -> dict[str, str]:
    """Say where in a request what was expected and found; a body is the `data` of a handler."""
    handler = request.route_handler
    if where == "data":
        if message == "'data'":
            message = "expected JSON, found nothing"
        declared = None if handler.parsed_data_field is None else handler.parsed_data_field.annotation
        field = field_of(message)
        where = "body" if field is None else f"body, field {field}"
    else:
        parameter = handler.parsed_fn_signature.parameters.get(where)
        declared = None if parameter is None else parameter.annotation
    return {"where": where, "message": completed(message, declared)}


def _on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    cause = _cause(error)
    if isinstance(cause, UnicodeDecodeError):
        return _malformed(
            request, f"Expected a body in UTF-8, found the byte 0x{cause.object[cause.start]:02x}."
        )
    if isinstance(cause, RecursionError):
        return _malformed(request, "The body's JSON is nested too deeply.")
    if isinstance(cause, msgspec.MsgspecError):
        return _malformed(request, f"The body is not what is expected: {cause}.")
    log.error("request failed", path=request.url.path, method=request.method, exc_info=error)
    return _answer(request, "internal", UNEXPECTED, remedy=LOOK_INTO_THE_LOG)


def exception_handlers(public: Callable[[str], str]) -> ExceptionHandlersMap:
    """Give the application its whole mapping from exceptions to answers.

    Parameters
    ----------
    public
        Redacts a text for clients.
    """

    def on_domain_error(request: Request[Any, Any, Any], error: EmbupError) -> Response[bytes]:
        kind = next((kind for known, kind in _DOMAIN if isinstance(error, known)), "internal")
        if kind in {"internal", "job-database"}:
            log.error("request failed", path=request.url.path, error=str(error))
        # A batch's paths are what the client named; every other path is one of the service's own.
        of_its_own = isinstance(error, ArtifactError) or kind in {"internal", "job-database"}
        shown = public if of_its_own else str
        return _answer(
            request,
            kind,
            shown(error.message),
            remedy=shown(error.remedy),
            line=error.line if isinstance(error, BadRowError) else None,
        )

    def on_database_error(request: Request[Any, Any, Any], error: duckdb.Error) -> Response[bytes]:
        """Say that the disk of the job database refuses; any other error of the database is ours."""
        reason = str(error).partition("\n")[0].rstrip(".")
        # There is one connection, so that no commit fails for another transaction: it is the disk.
        uncommitted = isinstance(error, duckdb.TransactionException) and "Failed to commit" in reason
        if not uncommitted and not isinstance(error, duckdb.IOException | duckdb.FatalException):
            return _on_unexpected(request, error)
        log.error("the job database cannot be written", path=request.url.path, error=reason)
        return _answer(
            request,
            "job-database",
            f"The job database cannot be written: {public(reason)}.",
            remedy="Free space on the disk of the service's data folder, then send the request again.",
        )

    handlers: dict[int | type[Exception], Any] = {
        EmbupError: on_domain_error,
        ProblemError: _on_problem,
        HTTPException: _on_http_exception,
        duckdb.Error: on_database_error,
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
        raise ProblemError(
            "unsupported-media-type",
            f"Expected a body of the media type application/json, found {found}.",
            remedy="Send the header `Content-Type: application/json`.",
        )
