"""Where the service is, and what every request to it carries."""

from __future__ import annotations

import os
import re

import httpx

from embup_client.errors import InvalidArgumentError

URL_VARIABLE = "EMBUP_SERVICE_URL"
KEY_VARIABLE = "EMBUP_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 10.0


def service_url(url: str | None) -> str:
    """Check the address of a service; without one it is `EMBUP_SERVICE_URL`, or the default of a service.

    Raises
    ------
    InvalidArgumentError
        It is no address of a service.
    """
    wanted = (os.environ.get(URL_VARIABLE) or DEFAULT_URL) if url is None else url
    try:
        parsed = httpx.URL(wanted.rstrip("/"))
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.userinfo:
        raise InvalidArgumentError(
            "The address of a service has a user or a password in it.", remedy="Give an API key instead."
        )
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        said = "What was given" if "@" in wanted else repr(wanted)  # it may hold a password
        raise InvalidArgumentError(
            f"{said} is not the address of a service.", remedy=f"Give one such as {DEFAULT_URL}."
        )
    return str(parsed).rstrip("/")


def common_headers(api_key: str | None) -> dict[str, str]:
    """Give the headers of every request; without a key it is that of `EMBUP_API_KEY`, if there is one.

    Raises
    ------
    InvalidArgumentError
        The key cannot be sent; the message does not show it.
    """
    headers = {"User-Agent": "embup-client", "Accept": "application/json"}
    key = (os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key).strip()
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise InvalidArgumentError(
            "The API key has characters that cannot be sent.",
            remedy="Expected printable ASCII without spaces; look whether it was copied whole.",
        )
    return headers | ({"Authorization": f"Bearer {key}"} if key else {})


def timeouts(timeout_s: float) -> httpx.Timeout:
    """Give the limits of one try; connecting is quick, or nothing listens."""
    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))
