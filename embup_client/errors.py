"""Every error the client raises on purpose; the tree is drawn in the package's docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class EmbupServiceError(Exception):
    """Base of the tree. What a service said of the problem (RFC 9457) stands in the attributes.

    Attributes
    ----------
    detail
        What was expected and what was found.
    remedy
        What the caller can do about it; may be empty.
    title
        What kind of problem it is, the same for every occurrence; may be empty.
    type
        The kind, for programs, such as `/problems/bad-row`; `about:blank` where the service named none.
    status
        HTTP status of the answer; None when there was none.
    request_id
        Under which the service's log has the request; may be empty.
    line
        1-based line or row of the input file that is to blame, where one is.
    errors
        What is wrong in the request's body: `where` and `message` of each place.
    retry_after_s
        In how many seconds the service asks to be tried again; None when it does not say.
    """

    def __init__(
        self,
        detail: str,
        *,
        remedy: str = "",
        title: str = "",
        type: str = "about:blank",  # noqa: A002  the member's name in RFC 9457
        status: int | None = None,
        request_id: str = "",
        line: int | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
        self.title = title
        self.type = type
        self.status = status
        self.request_id = request_id
        self.line = line
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.detail} {self.remedy}".strip()


class InvalidArgumentError(EmbupServiceError, ValueError):
    """What was handed in cannot be sent."""


class ConnectionFailedError(EmbupServiceError):
    """No whole answer came.

    Attributes
    ----------
    maybe_received
        Whether the service may have got the request all the same.
    """

    def __init__(self, detail: str, *, remedy: str = "", maybe_received: bool) -> None:
        super().__init__(detail, remedy=remedy)
        self.maybe_received = maybe_received


class UnexpectedAnswerError(EmbupServiceError):
    """The answer is not one of an embup service."""


class BadRequestError(EmbupServiceError):
    """The request cannot be understood or is not offered."""


class UnprocessableError(BadRequestError):
    """The request is understood, and what it names cannot be used: a row, a file, a path."""


class UnauthorizedError(EmbupServiceError):
    """No API key came with the request, or one that is not known."""


class ForbiddenError(EmbupServiceError):
    """The API key is not allowed to do this."""


class NotFoundError(EmbupServiceError):
    """There is no such batch, version or address."""


class ConflictError(EmbupServiceError):
    """The request contradicts another one, or the state of what it names."""


class TooManyRequestsError(EmbupServiceError):
    """The service has too much to do and did nothing of this request."""


class ServiceFailedError(EmbupServiceError):
    """The service failed."""


class UnavailableError(ServiceFailedError):
    """The service cannot do it now."""


BY_STATUS: Mapping[int, type[EmbupServiceError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableError,
    429: TooManyRequestsError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


def error_class(status: int) -> type[EmbupServiceError]:
    """Say which error an HTTP status is."""
    if status < 400:
        return UnexpectedAnswerError
    return BY_STATUS.get(status, BadRequestError if status < 500 else ServiceFailedError)
