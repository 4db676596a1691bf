"""Forms of the pages: read, and checked to come from one of them.

Litestar's own reader of forms keeps the bodies that it parsed, and a body may hold an API key.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from serving.access.sessions import viewer_of
from serving.problems.problem import ProblemError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar import Request

    from serving.access.sessions import Sessions

FORM_TOKEN: Final = "form_token"  # noqa: S105 - the name of a field
MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
MOST_FIELDS: Final = 50
LONGEST_FORM: Final = 64 * 1024
"""Bytes of a body. It is parsed on the event loop, before anybody has shown a key."""


async def read_form(request: Request[Any, Any, Any], sessions: Sessions) -> Mapping[str, str]:
    """Read the form of a request; of fields of one name the last.

    Raises
    ------
    ProblemError
        415: it is no form. 413: it is longer than any of ours. 400: it cannot be read. 403: no page of ours
        that still stands has sent it.
    """
    found = request.headers.get("content-type", "none")
    if found.partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise ProblemError(
            "unsupported-media-type",
            f"Expected a form of the media type {MEDIA_TYPE}, found {found}.",
            remedy="Send it from the page; programs use the API.",
        )
    body = await request.body()
    if len(body) > LONGEST_FORM:
        raise ProblemError(
            "too-large",
            f"Expected a form of at most {LONGEST_FORM:,} bytes, found {len(body):,}.",
            remedy="Send it from the page; programs use the API.",
        )
    try:
        fields = dict(
            parse_qsl(
                body.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=bool(body),
                errors="strict",
                max_num_fields=MOST_FIELDS,
            )
        )
    except ValueError as error:
        raise ProblemError(
            "malformed-request", f"The form cannot be read: {error}.", remedy="Send it from the page."
        ) from error
    token = fields.pop(FORM_TOKEN, "")
    if not hmac.compare_digest(token.encode(), viewer_of(request.scope, sessions).form_token.encode()):
        raise ProblemError(
            "stale-form",
            "Expected a form of a page that was opened in this session, found another.",
            remedy="Open the page again, and send the form from there.",
        )
    return fields


def own_path(wanted: str) -> str:
    """Give where to go back to: a path of ours, and nothing that a browser takes for another site."""
    is_own = wanted.startswith("/") and not wanted.startswith("//")
    return wanted if is_own and "\\" not in wanted and wanted.isprintable() else "/"
