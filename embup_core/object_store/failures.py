"""What a failure of an object store means, told without what must not be told.

The library's text quotes the store's answer, which may name keys, and with Azure the address with its
signature. Only the status and the store's code are taken from it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from embup_core.errors import ObjectStoreError

_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_CHECK = "Check the credentials, and the region: docs/how-to/object-stores.md has the list."


class _Meaning(NamedTuple):
    what: str
    remedy: str


_EXPIRED = _Meaning("the credentials have expired", "Renew them; a role of the machine renews its own.")
_UNKNOWN = _Meaning("the store does not know the credentials, or their signature is wrong", _CHECK)
_DENIED = _Meaning(
    "these credentials may not do that", "Give them the rights that docs/how-to/object-stores.md lists."
)
_BUSY = _Meaning("the store is not available", "Try again in a while; if it stays so, look at its status.")
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
    ("kind: Timeout", _Meaning("the store does not answer in time", "Check the network and the endpoint.")),
    ("kind: Connect", _Meaning("the store cannot be reached", "Check the network and the endpoint.")),
    ("kind: Interrupted", _Meaning("the connection was cut", "Check the network, and try again.")),
    ("kind: Body", _Meaning("the connection was cut", "Check the network, and try again.")),
)  # fmt: skip


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
    meaning = _BY_CODE.get(code[1]) if code else None
    if meaning is None:
        meaning = next((known for words, known in _BY_WORDS if words in text), None)
    if meaning is None and status is not None:
        meaning = _BY_STATUS.get(status[1])
        if meaning is None and status[1][0] == "5":
            meaning = _BUSY
    if meaning is None:
        kind = type(error).__name__
        meaning = _Meaning(f"the store answers with an error ({kind})", _CHECK)
    answer = ", ".join(part[1] for part in (status, code) if part)
    shown = f" (answer {answer})" if answer else ""
    return ObjectStoreError(f"{place}: {doing} failed: {meaning.what}{shown}.", remedy=meaning.remedy)
