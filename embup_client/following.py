"""What is known while a batch is followed: the stream's lines, what was seen, how long nothing was heard.

No input or output: both clients ask it what to do next.
"""

from __future__ import annotations

import random
import time

import httpx
import msgspec

from embup_client.answers import BatchStatus
from embup_client.calls import EVENT_STREAM
from embup_client.errors import (
    ConnectionFailedError,
    EmbupServiceError,
    ServiceFailedError,
    TooManyRequestsError,
    UnexpectedAnswerError,
)
from embup_client.retries import FIRST_WAIT_S, LONGEST_WAIT_S

PATIENCE_S = 30.0  # a batch survives a restart of its service, so following it does too
POLL_S = 0.5  # between two questions where no stream is to be had
# What a restart, or something in between, may look like; anything else says that waiting is of no use.
_PASSING = (ConnectionFailedError, ServiceFailedError, TooManyRequestsError, UnexpectedAnswerError)


class Following:
    """One batch that is followed, over as many connections as it takes.

    Parameters
    ----------
    patience_s
        How long the service may be away before following it fails.

    Attributes
    ----------
    ended
        Whether the batch's last status was seen.
    streaming
        Whether statuses are streamed; else they are asked for, every `POLL_S`.
    """

    def __init__(self, patience_s: float) -> None:
        self.ended = False
        self.streaming = True
        self._patience_s = patience_s
        self._heard_s = time.monotonic()
        self._failures = 0
        self._last: BatchStatus | None = None
        self._silent = True
        self._event = ""
        self._data: list[str] = []

    def opened(self, response: httpx.Response) -> bool:
        """Note that a stream begins; tell whether it is one."""
        self._event, self._data = "", []
        self.streaming = response.headers.get("Content-Type", "").startswith(EVENT_STREAM)
        return self.streaming

    def line(self, line: str) -> BatchStatus | None:
        """Take one line of server-sent events; give the status that it completes, if it does.

        Raises
        ------
        UnexpectedAnswerError
            The event is no status of a batch.
        """
        self._heard()
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._event = value
            elif name == "data":
                self._data.append(value)
            return None
        event, data, self._event, self._data = self._event, "\n".join(self._data), "", []
        if event != "status" or not data:
            return None
        try:
            return msgspec.json.decode(data, type=BatchStatus)
        except msgspec.MsgspecError as error:
            raise UnexpectedAnswerError(
                f"an event of the stream is no status of a batch: {error}."
            ) from error

    def news(self, status: BatchStatus) -> bool:
        """Note a status; tell whether it says anything that the one before did not."""
        self._heard()
        self.ended = status.is_final
        before, self._last = self._last, status
        return status != before

    def pause_s(self, error: EmbupServiceError | None) -> float:
        """Say how long to wait before the service is asked again, after an error or the end of a stream.

        Raises
        ------
        EmbupServiceError
            The error, where waiting is of no use or took too long.
        """
        silent, self._silent = self._silent, True
        if self.ended:
            return 0.0
        if error is None:
            return POLL_S
        if isinstance(error.__cause__, httpx.ReadTimeout) and silent:
            self.streaming = False  # something in between keeps the events back
            return FIRST_WAIT_S
        wait_s: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**self._failures) * random.uniform(0.5, 1)
        wait_s = max(wait_s, error.retry_after_s or 0.0)
        self._failures += 1
        left_s = self._heard_s + self._patience_s - time.monotonic()
        if not isinstance(error, _PASSING) or wait_s > left_s:
            raise error
        return wait_s

    def _heard(self) -> None:
        self._heard_s = time.monotonic()
        self._failures = 0
        self._silent = False
