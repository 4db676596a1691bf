"""When a call that failed is sent again, and after how long."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import stamina

from embup_client.calls import Call, Repeat
from embup_client.errors import (
    ConnectionFailedError,
    EmbupServiceError,
    TooManyRequestsError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Protocol

    class Attempts(Protocol):
        """What stamina gives: tries, in a `for` or in an `async for`."""

        def __iter__(self) -> Iterator[stamina.Attempt]: ...
        def __aiter__(self) -> AsyncIterator[stamina.Attempt]: ...


FIRST_WAIT_S = 0.1  # doubled from try to try
LONGEST_WAIT_S = 2.0
JITTER_S = 0.25  # so that clients that failed together do not come back together


def attempts(call: Call[Any], retry_s: float) -> Attempts:
    """Give the tries of one call, with the waits between them.

    Parameters
    ----------
    call
        It says when it may be sent again.
    retry_s
        No try begins later than these seconds after the first; 0 makes one try.
    """
    deadline_s = time.monotonic() + retry_s

    def again(error: Exception) -> bool | float:
        if not isinstance(error, EmbupServiceError) or not may_repeat(call, error):
            return False
        left_s = deadline_s - time.monotonic()
        if error.retry_after_s is None:
            return left_s > 0
        wait_s = error.retry_after_s + random.uniform(0, JITTER_S)
        return wait_s if wait_s < left_s else False

    return stamina.retry_context(
        on=again,
        attempts=None,
        timeout=None,
        wait_initial=FIRST_WAIT_S,
        wait_max=LONGEST_WAIT_S,
        wait_jitter=JITTER_S,
    )


def may_repeat(call: Call[Any], error: EmbupServiceError) -> bool:
    """Say whether sending a call again is safe and may help."""
    if call.repeat is Repeat.NEVER:
        return False
    if isinstance(error, TooManyRequestsError):
        return True  # it was refused before anything was done
    if isinstance(error, ConnectionFailedError) and not error.maybe_received:
        return True
    return call.repeat is Repeat.ALWAYS and isinstance(error, ConnectionFailedError | UnavailableError)
