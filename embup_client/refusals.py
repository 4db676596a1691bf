"""From what went wrong to the error that says so: refusals, and answers that never came whole."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import msgspec

from embup_client.errors import (
    ConnectionFailedError,
    EmbupServiceError,
    UnexpectedAnswerError,
    error_class,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN_CHARACTERS = 300  # of an answer that is no problem+json
# What fails before a byte of the request has left.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Problem(msgspec.Struct, frozen=True):
    """An error as RFC 9457 has it; every member may be missing."""

    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    remedy: str = ""
    request_id: str = ""
    line: int | None = None
    errors: list[dict[str, str]] = []


def refusal(response: httpx.Response) -> EmbupServiceError:
    """Turn an answer that is no success into its error, with all that the service said of it."""
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # of something in between, or of another service
        problem = Problem(detail=response.text[:SHOWN_CHARACTERS].strip())
    return error_class(response.status_code)(
        problem.detail or problem.title or f"the service answered {_named(response.status_code)}.",
        remedy=problem.remedy,
        title=problem.title,
        type=problem.type,
        status=response.status_code,
        request_id=problem.request_id or response.headers.get("X-Request-Id", ""),
        line=problem.line,
        errors=problem.errors,
        retry_after_s=retry_after_s(response.headers.get("Retry-After")),
    )


def retry_after_s(value: str | None) -> float | None:
    """Read a `Retry-After`: seconds, or a date; None for none, and for what is neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


@contextmanager
def telling_of(url: str) -> Iterator[None]:
    """Say of a connection that fails in the block to which service it was.

    Raises
    ------
    ConnectionFailedError
        No whole answer came.
    UnexpectedAnswerError
        What came cannot be decoded.
    """
    try:
        yield
    except httpx.DecodingError as error:
        raise UnexpectedAnswerError(f"what {url} answered cannot be decoded: {error}.") from error
    except (httpx.RequestError, httpx.StreamError) as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, _UNSENT):
            raise ConnectionFailedError(
                f"no service answers at {url} ({reason}).",
                remedy="Look whether it runs, and whether that is its address (EMBUP_SERVICE_URL).",
                maybe_received=False,
            ) from error
        raise ConnectionFailedError(
            f"no whole answer came from {url} ({reason}).",
            remedy="The service may have done what was asked: look before asking again.",
            maybe_received=True,
        ) from error


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
