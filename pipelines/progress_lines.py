"""How far a step has come, as a line of its log: how it is written, and how it is read back.

A log line is the only thing that an asset can tell a listener before it is done.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.progress import Progress

LOG_INTERVAL_S = 5.0


def progress_line(label: str, done: float, total: float | None) -> str:
    """Word it: ``label: 1,500 of 3,000``."""
    return f"{label}: {done:,.0f} of {total:,.0f}" if total else f"{label}: {done:,.0f}"


_DONE_OF_TOTAL = re.compile(r": ([\d,]+) of ([\d,]+)$")


def share_done(line: str) -> float | None:
    """Read the share of the work that is done out of a `progress_line`; None from any other line."""
    found = _DONE_OF_TOTAL.search(line)
    if found is None:
        return None
    done, total = (int(digits.replace(",", "")) for digits in found.groups())
    return done / total


def now_and_then(log: Callable[[str], None], *, interval_s: float = LOG_INTERVAL_S) -> Progress:
    """Make a progress callback that logs at most one line every few seconds."""
    last_s = time.monotonic()

    def progress(label: str, done: float, total: float | None) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= interval_s:
            last_s = time.monotonic()
            log(progress_line(label, done, total))

    return progress
