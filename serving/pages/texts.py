"""How numbers, times and paths read on a page."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOTHING: Final = "–"

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_BYTES: Final = ("B", "kB", "MB", "GB", "TB")


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def figure(value: float | None, digits: int = 3) -> str:
    """A number with this many decimals."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, with its sign."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:+.{digits}f}"


def short(value: float | None) -> str:
    """A rate or a duration of any size, in three digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value and abs(value) < 1000:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:.{min(digits, 4)}f}"
    return f"{value:,.0f}"


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds."""
    return NOTHING if seconds is None else f"{short(seconds * 1e3)} ms"


def percent(share: float | None) -> str:
    """A share of 1, in percent."""
    return NOTHING if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units that fit."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest, parts = round(seconds), list[str]()
    for size, name in _UNITS:
        whole, rest = divmod(rest, size)
        if whole or parts:
            parts.append(f"{whole} {name}")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 ")) or "0 s"


def size(count_of_bytes: float | None) -> str:
    """Bytes in the unit that fits."""
    if count_of_bytes is None:
        return NOTHING
    value = float(count_of_bytes)
    for unit in _BYTES:
        if value < 1000 or unit == _BYTES[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{short(value)} {unit}"


def moment(at: datetime | None) -> str:
    """A time of UTC, to the second."""
    return NOTHING if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def iso(at: datetime) -> str:
    """A time for a machine; without a zone it is UTC."""
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat(timespec="seconds")


def ago(at: datetime | None) -> str:
    """How long ago a time was, roughly."""
    if at is None:
        return NOTHING
    seconds = (datetime.now(UTC) - (at if at.tzinfo else at.replace(tzinfo=UTC))).total_seconds()
    for unit_s, name in _UNITS:
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {name} ago"
    return "just now"


def sentences(*texts: str | None) -> str:
    """Texts one after the other, each with an end."""
    shown = [text.strip() for text in texts if text and text.strip()]
    return " ".join(text if text[-1] in ".!?:" else f"{text}." for text in shown)


def file_name(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2] or path


def visible(text: str | None, most: int = 400) -> str:
    """A text of anybody, shortened; control characters as the signs that stand for them."""
    if text is None:
        return NOTHING
    shown = text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
    return shown.translate(_SIGNS)


_SIGNS: Final = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}

FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "ago": ago,
    "count": count,
    "duration": duration,
    "figure": figure,
    "file_name": file_name,
    "iso": iso,
    "milliseconds": milliseconds,
    "moment": moment,
    "percent": percent,
    "short": short,
    "signed": signed,
    "size": size,
    "visible": visible,
}
"""What templates call by name."""
