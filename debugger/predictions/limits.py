"""What asking another service may take, and how it is asked."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from embup_core.errors import InputError, InputFileError

if TYPE_CHECKING:
    from pathlib import Path

MOST_ROWS: Final = 20
"""Rows of one request."""
KEY_VARIABLE: Final = "EMBUP_PREDICT_KEY"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,100}")


@dataclass(frozen=True, kw_only=True)
class AskLimits:
    """How a prediction API is asked.

    Attributes
    ----------
    batch_rows
        Rows a request, 20 at most.
    n_best
        Labels asked for a row.
    concurrency
        Requests at once.
    requests_per_s
        Requests begun in a second, repeated ones included.
    timeout_s
        Longest wait for one answer, to its last byte.
    deadline_s
        Longest time for all rows.
    attempts
        How often a request is sent before its rows are asked in two halves.
    answer_bytes
        Longest answer.
    """

    batch_rows: int = MOST_ROWS
    n_best: int = 5
    concurrency: int = 2
    requests_per_s: float = 10.0
    timeout_s: float = 30.0
    deadline_s: float = 3600.0
    attempts: int = 4
    answer_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        """Refuse limits that make no sense."""
        for name, low, high in (
            ("batch_rows", 1, MOST_ROWS),
            ("n_best", 1, 1000),
            ("concurrency", 1, 16),
            ("attempts", 1, 20),
        ):
            if not low <= getattr(self, name) <= high:
                raise InputError(
                    f"Expected {name} between {low} and {high}, found {getattr(self, name)}.",
                    remedy="Choose a number within.",
                )
        for name in ("requests_per_s", "timeout_s", "deadline_s", "answer_bytes"):
            if not getattr(self, name) > 0:
                raise InputError(f"Expected {name} above 0, found {getattr(self, name)}.", remedy="Raise it.")


class Pace:
    """Lets requests begin one after the other, so many a second."""

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1 / per_s
        self._next_s = 0.0
        self._lock = threading.Lock()

    def wait(self, stopped: threading.Event, longest_s: float) -> None:
        """Return when the next request may begin; sooner once `stopped` is set or `longest_s` are over."""
        with self._lock:
            now_s = time.monotonic()
            begin_s = max(now_s, self._next_s)
            self._next_s = begin_s + self._interval_s
        stopped.wait(max(min(begin_s - now_s, longest_s), 0))


def read_key(key_file: Path | None, variable: str = KEY_VARIABLE) -> str | None:
    """Read the key from a file, else from a variable of the environment; no message ever shows it.

    Raises
    ------
    InputError
        The file cannot be read, or it is no key.
    """
    if key_file is not None:
        try:
            text = key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputFileError(f"{key_file} cannot be read as text.", remedy="Check the path.") from error
        where = str(key_file)
    else:
        text, where = os.environ.get(variable, "").strip(), variable
        if not text:
            return None
    if not _KEY.fullmatch(text):
        raise InputError(
            f"{where} holds no key: expected one word of printable ASCII.", remedy="Copy it again."
        )
    return text


def checked_header(name: str) -> str:
    """The name of the header that carries the key; raises `InputError` for what is none."""
    if not _HEADER.fullmatch(name):
        raise InputError(f"Expected the name of an HTTP header, found {name!r}.", remedy="Such as X-API-KEY.")
    return name


def checked_url(url: str) -> str:
    """The address of a prediction API.

    Raises
    ------
    InputError
        It is none, holds a password, or leads to a link-local address, where clouds keep credentials.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise InputError("--url is no address.", remedy="Such as https://example.org/predict.") from error
    if parsed.userinfo:
        raise InputError("The address has a user or a password in it.", remedy="Give a key with --key-file.")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InputError(
            f"Expected an address that begins with http:// or https://, found the scheme {parsed.scheme!r}.",
            remedy="Such as https://example.org/predict.",
        )
    try:
        found = socket.getaddrinfo(parsed.host, parsed.port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"The host {parsed.host} is not known.", remedy="Check the address.") from error
    if any(ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_link_local for address in found):
        raise InputError(f"The host {parsed.host} is a link-local address.", remedy="Give another address.")
    return str(parsed)
