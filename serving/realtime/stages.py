"""Where the time of one realtime request goes: moments noted on its way, seconds made of them at its end.

Five stages, each second of the request in one of them:

wait       from the first byte of the body until the gate is held, for the rest of the body, and for the
           thread of large requests; what comes before the first byte is the client's
parse      from the gate to rows of numbers: routing, checks, JSON
decode     the decoder, and what is made of its input
serialise  digits, or raw bytes, and the answer's head
send       until the server has taken the last byte over; how fast the client reads it is the client's
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STAGES_KEY: Final = "stages"
"""Where a realtime request keeps its `RealtimeStages` in the state of its scope."""

STAGES: Final = ("wait", "parse", "decode", "serialise", "send")


class RealtimeStages:
    """The moments of one request, in seconds of `time.perf_counter`; 0 for what did not happen.

    Attributes
    ----------
    began, held, parsed, decoding, decoded, sending, sent
        The first byte is there; the gate is held; rows are numbers; the decoder starts and ends; the answer's
        head and its last byte go out.
    body_wait_s
        Seconds between `held` and `parsed` in which the rest of the body was awaited.
    z, confidence
        What came in, float32, shape (n, d), and how sure the decoder was, shape (n,); for the drift meter.
    model_version, low_confidence
        Who answered, and which confidence is low for it; 0 if unknown.
    """

    __slots__ = (
        "began", "body_wait_s", "confidence", "decoded", "decoding", "held", "low_confidence",
        "model_version", "parsed", "sending", "sent", "z",
    )  # fmt: skip

    def __init__(self) -> None:
        self.began = perf_counter()
        self.held = self.parsed = self.decoding = self.decoded = self.sending = self.sent = 0.0
        self.body_wait_s = 0.0
        self.z: NDArray[np.float32] | None = None
        self.confidence: NDArray[np.float32] | None = None
        self.model_version = ""
        self.low_confidence = 0.0

    @property
    def answered(self) -> bool:
        """Whether the decoder answered and the answer went out."""
        return self.sent > 0 and self.decoded > 0

    def seconds(self) -> tuple[float, float, float, float, float]:
        """Seconds of each of `STAGES`; only where it was `answered`."""
        return (
            self.held - self.began + self.body_wait_s + self.decoding - self.parsed,
            self.parsed - self.held - self.body_wait_s,
            self.decoded - self.decoding,
            self.sending - self.decoded,
            self.sent - self.sending,
        )

    def moments(self) -> tuple[float, ...]:
        """Start and end of each span: the five stages in order, and the wait for a thread, if it is one."""
        began_parsing = self.held + self.body_wait_s
        return (
            self.began, began_parsing,
            began_parsing, self.parsed,
            self.decoding, self.decoded,
            self.decoded, self.sending,
            self.sending, self.sent,
            self.parsed, self.decoding,
        )  # fmt: skip
