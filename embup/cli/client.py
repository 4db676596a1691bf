"""The service's client for commands: its errors become those of the one tree, with remedies for a shell."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import stamina.instrumentation

from embup_client import (
    BadRequestError,
    Client,
    ConflictError,
    ConnectionFailedError,
    EmbupServiceError,
    ForbiddenError,
    InvalidArgumentError,
    NotFoundError,
    UnauthorizedError,
)
from embup_core.errors import EmbupError, InputError, JobConflictError, JobError, UnknownJobError

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_S = 3.0  # a moment's trouble is bridged; who sits before a terminal is not kept from knowing
_START = "Start one with `embup serve`, or give its address with --url."
_OPTIONS = "The address is given with --url, the key with --api-key."
_KEY = "Give one that may do this with --api-key or EMBUP_API_KEY."


@contextmanager
def connect(url: str, api_key: str | None = None) -> Iterator[Client]:
    """Give a client of the service at an address; what it raises in the block ends as an error of the tree.

    Parameters
    ----------
    url
        Where the service is, e.g. `http://127.0.0.1:8000`.
    api_key
        By default `EMBUP_API_KEY`, if set.

    Raises
    ------
    EmbupError
        The service cannot be reached, or refuses.
    """
    stamina.instrumentation.set_on_retry_hooks(())  # the default prints on stdout, where results go
    try:
        client = Client(url, api_key=api_key, retry_s=RETRY_S)
    except InvalidArgumentError as error:
        raise InputError(error.detail, remedy=f"{error.remedy} {_OPTIONS}") from error
    try:
        with client:
            yield client
    except EmbupServiceError as error:
        raise _translated(error) from error


def _translated(error: EmbupServiceError) -> EmbupError:
    message, remedy = error.detail, error.remedy
    match error:
        case ConnectionFailedError():
            return JobError(message, remedy=remedy if error.maybe_received else _START)
        case NotFoundError():
            return UnknownJobError(message, remedy=remedy)
        case ConflictError():
            return JobConflictError(message, remedy=remedy)
        case UnauthorizedError() | ForbiddenError():
            return InputError(message, remedy=_KEY)  # the service's own remedy is a header
        case BadRequestError() | InvalidArgumentError():
            return InputError(message, remedy=remedy)
    in_log = f"The service's log has it as request {error.request_id}." if error.request_id else ""
    return JobError(message, remedy=f"{remedy} {in_log}".strip())
