"""What a failure of an object store means, told without what must not be told.

The library's text quotes the store's answer, which may name keys, and with Azure the address with its
signature. Only the status and the store's code are taken from it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from embup_core.errors import EmbupError, ObjectStoreError

STORE_UNAVAILABLE: Final = "store_unavailable"
"""The code of an error that may pass without a change: the store does not answer, or is too busy."""

_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_CHECK = "Check the credentials, and the region: docs/how-to/object-stores.md has the list."


class _Meaning(NamedTuple):
    what: str
    remedy: str
    may_pass: bool = False


_EXPIRED = _Meaning("the credentials have expired", "Renew them; a role of the machine renews its own.")
_UNKNOWN = _Meaning("the store does not know the credentials, or their signature is wrong", _CHECK)
_DENIED = _Meaning(
    "these credentials may not do that", "Give them the rights that docs/how-to/object-stores.md lists."
)
_BUSY = _Meaning(
    "the store is not available", "Try again in a while; if it stays so, look at its status.", True
)
_BY_CODE = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidAccessKeyId": _UNKNOWN,
    "InvalidToken": _UNKNOWN,
    "SignatureDoesNotMatch": _UNKNOWN,
    "AuthorizationHeaderMalformed": _UNKNOWN,
    "AccessDenied": _DENIED,
    "NoSuchBucket": _Meaning("there is no such bucket", "Create it, or correct the address."),
    "RequestTimeTooSkewed": _Meaning("this machine's clock is wrong", "Set the clock."),
}
_BY_STATUS = {"401": _UNKNOWN, "403": _DENIED}
# Words of the library's description, tried in this order.
_BY_WORDS = (
    ("BadScheme", _Meaning("the endpoint has http, not https", "Set AWS_ALLOW_HTTP=true to allow that.")),
    (
        "169.254.169.254",
        _Meaning("no credentials were found", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the "
                 "machine a role."),
    ),
    ("Account must be specified", _Meaning("no account is named", "Set AZURE_STORAGE_ACCOUNT_NAME.")),
    ("kind: Timeout", _Meaning("the store does not answer in time", "Check the network and the endpoint.",
                               True)),
    ("kind: Connect", _Meaning("the store cannot be reached", "Check the network and the endpoint.", True)),
    ("kind: Interrupted", _Meaning("the connection was cut", "Check the network, and try again.", True)),
    ("kind: Body", _Meaning("the connection was cut", "Check the network, and try again.", True)),
)  # fmt: skip

# Classes of botocore's errors.
_BY_KIND = {
    "NoCredentialsError": _BY_WORDS[1][1],
    "ConnectTimeoutError": _BY_WORDS[3][1],
    "ReadTimeoutError": _BY_WORDS[3][1],
    "EndpointConnectionError": _BY_WORDS[4][1],
    "ConnectionClosedError": _BY_WORDS[5][1],
    "HTTPClientError": _BY_WORDS[6][1],
    "IncompleteReadError": _BY_WORDS[6][1],
    "ProxyConnectionError": _BY_WORDS[4][1],
    "ResponseStreamingError": _BY_WORDS[6][1],
}


def explained(error: Exception, doing: str, place: str) -> ObjectStoreError:
    """The error to raise for one of the library's.

    Parameters
    ----------
    error
        The library's.
    doing
        What was tried: "reading", "writing", ...
    place
        The address.
    """
    text = str(error)
    code, status = _CODE.search(text), _STATUS.search(text)
    by_words = next((known for words, known in _BY_WORDS if words in text), None)
    return _told(
        code[1] if code else "", status[1] if status else "", type(error).__name__, doing, place, by_words
    )


def explained_code(code: str, status: int | None, kind: str, doing: str, place: str) -> ObjectStoreError:
    """The error to raise for an answer of S3, or for none.

    Parameters
    ----------
    code, status
        Of the answer; empty and None where there was none.
    kind
        The class of the library's error.
    doing, place
        As for `explained`.
    """
    code = "" if code.isdigit() else code  # a status, where the answer had no body
    return _told(code, str(status or ""), kind, doing, place, _BY_KIND.get(kind))


def _told(
    code: str, status: str, kind: str, doing: str, place: str, by_words: _Meaning | None
) -> ObjectStoreError:
    meaning = _BY_CODE.get(code) or by_words or _BY_STATUS.get(status)
    if meaning is None and (status.startswith("5") or status in {"408", "429"}):
        meaning = _BUSY
    if meaning is None:
        meaning = _Meaning(f"the store answers with an error ({kind})", _CHECK)
    answer = ", ".join(part for part in (status, code) if part)
    shown = f" (answer {answer})" if answer else ""
    return ObjectStoreError(
        f"{place}: {doing} failed: {meaning.what}{shown}.",
        remedy=meaning.remedy,
        code=STORE_UNAVAILABLE if meaning.may_pass else None,
    )


def passing_code(error: EmbupError) -> str | None:
    """The code for an error that an error of a store becomes: whether it may pass is not to be lost."""
    return error.code if error.code == STORE_UNAVAILABLE else None
