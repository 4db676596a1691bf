"""A second reading of input files, plain and slow: parser, reader and batch are compared with it.

It shares nothing with them: lines are split by hand, numbers are exact fractions that are rounded to float64
and then to float32 by the rule of ties to even, and rows are tuples of the bits that must come out.
"""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from functools import lru_cache

Bits = tuple[int, ...]
"""The bits of a row's float32 values."""

LIMIT_BYTES = 65_536
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")
_INT_DIGITS = 4_000


def lines_of(content: bytes) -> list[bytes]:
    """The lines of a file without their ends: no mark at the start, no blank ones at the end."""
    lines = content.removeprefix(BYTE_ORDER_MARK).split(b"\n")
    while lines and not lines[-1].strip(b" \t\r"):
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


def read_line(line: bytes, dims: int) -> Bits | str:
    """The bits of a line's row, or what is wrong: long, blank, count, `value N`, or zero."""
    if len(line) > LIMIT_BYTES:
        return "long"
    if not line.strip(b" \t"):
        return "blank"
    fields = line.split(b",")
    if len(fields) != dims:
        return "count"
    values = [read_value(field) for field in fields]
    # A value that is no number comes before one that is too large, wherever they stand.
    for fault in ("no number", "too large"):
        if fault in values:
            return f"value {values.index(fault) + 1}"
    bits = tuple(value for value in values if isinstance(value, int))
    return bits if any(bits) else "zero"


def raw_of(line: bytes) -> str:
    """How a refused line is shown: its first 1,024 characters."""
    return line.decode("utf-8", errors="backslashreplace")[:1024]


@lru_cache(maxsize=100_000)
def read_value(field: bytes) -> int | str:
    """The bits of a value as float32, or `no number`, or `too large`."""
    found = _NUMBER.fullmatch(field.decode("latin-1").strip(" \t"))
    if found is None or not (found[2] or found[3]):
        return "no number"
    value = _exact(found[2] + (found[3] or ""), len(found[3] or ""), found[4] or "0")
    if value is not None:
        value = _rounded(value, digits=53, lowest=-1074, highest=1024)
    if value is not None:
        value = _rounded(value, digits=24, lowest=-149, highest=128)
    if value is None:
        return "too large"
    sign = 0x8000_0000 if found[1] == "-" and value else 0  # a zero has none
    bits: int = struct.unpack("<I", struct.pack("<f", float(value)))[0]
    return bits | sign


def _exact(digits: str, decimals: int, exponent: str) -> Fraction | None:
    """The number of `digits`, the last `decimals` of them after the point; None: beyond 1e400."""
    significant = digits.lstrip("0")
    if not significant:
        return Fraction(0)
    shift = _exponent(exponent) - decimals
    if len(significant) + shift > 400:
        return None
    if len(significant) + shift < -400:
        return Fraction(0)
    whole = 0
    for start in range(0, len(significant), _INT_DIGITS):  # int() takes no more at once
        part = significant[start : start + _INT_DIGITS]
        whole = whole * 10 ** len(part) + int(part)
    return Fraction(whole * 10 ** max(shift, 0), 10 ** max(-shift, 0))


def _exponent(text: str) -> int:
    """An exponent, or one as good where it has more digits than any line."""
    digits = text.lstrip("+-").lstrip("0")
    size = int(digits or "0") if len(digits) < 10 else 10**9
    return -size if text.startswith("-") else size


def _rounded(value: Fraction, *, digits: int, lowest: int, highest: int) -> Fraction | None:
    """The nearest binary number of so many digits, not finer than 2**lowest; None: 2**highest or more."""
    if not value:
        return value
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    if value < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - digits + 1, lowest)
    nearest = round(value / unit) * unit  # ties go to even
    return nearest if nearest < 2**highest else None
