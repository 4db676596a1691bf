"""The usual request, one row as JSON answered as JSON, without the way through routing and the handler.

It is answered as the route answers it, byte for byte; a test holds both to that. Whatever is not usual, and
whatever is wrong with a request, is left to the route.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
from litestar.enums import ScopeType

from embup_core.errors import EmbupError
from serving.realtime.answering import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, ReceiveMessage, Scope

    from embup_core.upsampler import Upsampler
    from serving.realtime.stages import RealtimeStages

REALTIME_PATH = "/v1/upsample"
_JSON = b"application/json"
_BYTES_A_NUMBER = 64


class _OneRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What `UpsampleRequest` holds of one row in the basis that nobody has to name."""

    embedding: list[float]


class UsualRequests:
    """Answers the usual request at once, or not at all.

    Parameters
    ----------
    current
        Gives the decoder in service; `EmbupError` while there is none.
    count_row
        Called for each row that was answered.
    max_body_bytes
        Of a body.
    """

    def __init__(
        self, current: Callable[[], Upsampler], count_row: Callable[[], None], *, max_body_bytes: int
    ) -> None:
        self._current = current
        self._count_row = count_row
        self._max_body_bytes = max_body_bytes
        self._decode = msgspec.json.Decoder(_OneRow).decode

    def answer(
        self, scope: Scope, first: ReceiveMessage, stages: RealtimeStages
    ) -> tuple[HTTPResponseStartEvent, HTTPResponseBodyEvent] | None:
        """Answer, or give None for a request that the route has to answer.

        Parameters
        ----------
        scope
            Of the request, which was let in and routed.
        first
            The first message of its body.
        stages
            Receives the times.
        """
        if first["type"] != "http.request" or first["more_body"] or not _is_usual(scope):
            return None
        body = first["body"]
        if len(body) > self._max_body_bytes:
            return None
        try:
            upsampler = self._current()
            if len(body) > _BYTES_A_NUMBER * upsampler.input_dims:  # not to be read twice
                return None
            row = self._decode(body).embedding
            if len(row) != upsampler.input_dims:
                return None
            stages.parsed = perf_counter()
            content, headers = answer(upsampler, [row], stages, single=True, raw=False)
        except (EmbupError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        self._count_row()
        named = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        return (
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    *named,
                    (b"content-type", _JSON),
                    (b"content-length", str(len(content)).encode()),
                ],
            },
            {"type": "http.response.body", "body": content, "more_body": False},
        )


def _is_usual(scope: Scope) -> bool:
    """Whether it is a POST of JSON that takes JSON for an answer."""
    if scope["type"] != ScopeType.HTTP or scope["method"] != "POST" or scope["path"] != REALTIME_PATH:
        return False
    types = 0
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value != _JSON:
                return False
            types += 1
        elif name == b"accept" and b"octet-stream" in value:
            return False
    return types == 1
