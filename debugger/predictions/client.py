"""One request to a prediction API, and what its answer says.

The API takes ``{"data": [{"text": …}, …], "n_best": 5}`` and answers with a list in the order of the texts::

    [{"predictions": [{"value": [{"label": "refund", "confidence": 0.93}, …]}]}, …]

An answer that is too long or too slow is cut off, whatever its length says; redirects are not followed.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
import msgspec

from debugger.formats.records import MAX_LABEL, is_unicode
from debugger.predictions.limits import AskLimits, Pace, checked_header, checked_url
from embup_core.errors import EmbupError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST_WAIT_S: Final = 0.2  # doubled from try to try
_LEAST_TIMEOUT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 10.0
_LONGEST_RETRY_AFTER_S: Final = 300.0
_STOPPING: Final = frozenset({401, 403, 404, 405, 407, 410})
_SUM_TOLERANCE: Final = 0.01


class ApiRefusesError(EmbupError):
    """The API refuses every request: wrong address, wrong key, a redirect, nothing listens."""

    code = "prediction_api"


class RequestFailedError(Exception):
    """One request has no usable answer.

    Parameters
    ----------
    reason
        In words, without the texts or the key.
    again
        Whether the same request may have an answer later.
    after_s
        Seconds to wait before, where the API says so.
    halve
        Whether fewer texts may have an answer.
    """

    def __init__(self, reason: str, *, again: bool, after_s: float | None = None, halve: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.again, self.after_s, self.halve = reason, again, after_s, halve


@dataclass(frozen=True)
class Answer:
    """What the API says of one text.

    Attributes
    ----------
    candidates
        Labels with their probabilities, likeliest first; empty where there is no prediction.
    reason
        Why there is none.
    """

    candidates: tuple[tuple[str, float], ...] = ()
    reason: str = ""


class PredictionClient:
    """Asks a prediction API; may be used from several threads.

    Parameters
    ----------
    url
        Where requests are posted.
    key
        Sent in the header `key_header`; None sends none.
    key_header
        Name of that header.
    limits
        How it is asked.

    Raises
    ------
    InputError
        The address or the header is none.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        key_header: str = "X-API-KEY",
        limits: AskLimits | None = None,
    ) -> None:
        self.limits = limits or AskLimits()
        self.url = checked_url(url)
        self._stopped = threading.Event()
        self._pace = Pace(self.limits.requests_per_s)
        self._deadline_s = time.monotonic() + self.limits.deadline_s
        header = checked_header(key_header)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "embup"}
        self._http = httpx.Client(
            headers=headers | ({header: key} if key else {}),
            timeout=self.limits.timeout_s,
            follow_redirects=False,
        )

    @property
    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self._deadline_s - time.monotonic()

    def ask(self, texts: Sequence[str], *, attempts: int | None = None) -> list[Answer]:
        """Ask for the labels of at most 20 texts, as often as the limits allow.

        Parameters
        ----------
        texts
            In their order.
        attempts
            How often at most; by default as the limits say.

        Raises
        ------
        RequestFailedError
            No usable answer came.
        ApiRefusesError
            No request would have an answer.
        """
        tries = attempts or self.limits.attempts
        for number in range(tries):
            self._pace.wait(self._stopped, self.left_s)
            if self._stopped.is_set():
                break
            try:
                return self._ask_once(texts)
            except RequestFailedError as error:
                wait_s = error.after_s
                if wait_s is None:
                    wait_s = min(_FIRST_WAIT_S * 2**number, _LONGEST_WAIT_S) * random.uniform(1, 1.5)
                # Waits are the client's own, not a library's, because `stop` ends them.
                hopeless = not error.again or number + 1 == tries or wait_s >= self.left_s
                if hopeless or self._stopped.wait(wait_s):
                    raise
        raise RequestFailedError("asking was stopped", again=False, halve=False)

    def stop(self) -> None:
        """End all waits for another try; requests that are under way end within their time limit."""
        self._stopped.set()

    def _ask_once(self, texts: Sequence[str]) -> list[Answer]:
        body = msgspec.json.encode({"data": [{"text": text} for text in texts], "n_best": self.limits.n_best})
        try:
            with self._http.stream(
                "POST",
                self.url,
                content=body,
                headers={"Content-Type": "application/json"},
                timeout=min(self.limits.timeout_s, max(self.left_s, _LEAST_TIMEOUT_S)),
            ) as response:
                self._check_status(response)
                content = self._read(response)
        except httpx.ConnectError as error:
            raise RequestFailedError(
                f"nothing answers at {self._http_host}", again=True, halve=False
            ) from error
        except httpx.TimeoutException as error:
            raise RequestFailedError(f"no answer within {self.limits.timeout_s:g} s", again=True) from error
        except httpx.HTTPError as error:
            raise RequestFailedError(f"the connection broke ({type(error).__name__})", again=True) from error
        return parse_answers(content, len(texts))

    @property
    def _http_host(self) -> str:
        return httpx.URL(self.url).netloc.decode("ascii", "replace")

    def _check_status(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 200:
            return
        if response.is_redirect or status in _STOPPING:
            raise ApiRefusesError(
                f"The prediction API at {self._http_host} answers {status}.",
                remedy="Check --url and the key; redirects are not followed.",
            )
        busy = status in {408, 425, 429} or status >= 500
        after_s = _retry_after(response.headers.get("Retry-After")) if busy else None
        raise RequestFailedError(
            f"the API answers {status}", again=busy, after_s=after_s, halve=status not in {429, 503}
        )

    def _read(self, response: httpx.Response) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity":
            raise RequestFailedError(f"the answer is compressed ({encoding[:20]})", again=False, halve=False)
        end_s = time.monotonic() + min(self.limits.timeout_s, max(self.left_s, 0))
        content = bytearray()
        for block in response.iter_raw():
            content += block
            if len(content) > self.limits.answer_bytes:
                longest = f"{self.limits.answer_bytes:,} bytes"
                raise RequestFailedError(f"the answer is longer than {longest}", again=False)
            if time.monotonic() > end_s:
                raise RequestFailedError(f"no whole answer within {self.limits.timeout_s:g} s", again=True)
        return bytes(content)

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_answers(content: bytes, count: int) -> list[Answer]:
    """Read an answer for so many texts; they are matched by position.

    Raises
    ------
    RequestFailedError
        It is no JSON, no list, or of another length.
    """
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestFailedError("the answer is no JSON", again=True) from error
    if not isinstance(found, list):
        raise RequestFailedError("the answer is no list", again=True)
    if len(found) != count:
        raise RequestFailedError(f"the answer has {len(found):,} entries for {count} texts", again=True)
    return [parse_answer(entry) for entry in found]


def parse_answer(entry: Any) -> Answer:
    """Read what is said of one text."""
    try:
        value = entry["predictions"][0]["value"]
    except (KeyError, IndexError, TypeError):
        return Answer(reason="the answer has no predictions")
    if not isinstance(value, list) or not value:
        return Answer(reason="the answer has no value")
    found: dict[str, float] = {}
    for one in value:
        problem = _problem(one, found)
        if problem:
            return Answer(reason=problem)
        found[one["label"]] = float(one["confidence"])
    if sum(found.values()) > 1 + _SUM_TOLERANCE:
        return Answer(reason=f"the confidences add up to {sum(found.values()):.3g}")
    return Answer(tuple(sorted(found.items(), key=lambda pair: -pair[1])))


def _problem(one: Any, found: dict[str, float]) -> str:
    if not isinstance(one, dict) or not isinstance(one.get("label"), str) or not one["label"].strip():
        return "a prediction has no label"
    if len(one["label"]) > MAX_LABEL:
        return f"a label has {len(one['label']):,} characters"
    if not is_unicode(one["label"]):
        return "a label is no Unicode text"
    if one["label"] in found:
        return f"the label {one['label'][:40]!r} comes twice"
    confidence = one.get("confidence")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float):
        return "a confidence is no number"
    if not 0 <= confidence <= 1 + _SUM_TOLERANCE:  # NaN, too; no conversion, which a long integer overflows
        return (
            f"a confidence is {confidence!r}" if isinstance(confidence, float) else "a confidence is above 1"
        )
    return ""


def _retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header; a date counts as not given."""
    try:
        return min(max(float(text or ""), 0.0), _LONGEST_RETRY_AFTER_S)
    except ValueError:
        return None
