"""Recognise lines that another format than the strict one writes, so that an error names the fix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_NUMBER: Final = rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_DECIMAL_COMMA: Final = rb"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?"
_NAME: Final = rb"[^,]*[A-Za-z_][^,]*"


@dataclass(frozen=True, slots=True)
class LineFault:
    """What a line looks like instead of numbers and commas.

    Attributes
    ----------
    words
        What it looks like.
    remedy
        The fix for the file.
    """

    words: str
    remedy: str


_JSONL: Final = "Name the file .jsonl, or write numbers and commas alone."
_POINTS: Final = "Write decimal points, and commas between the values."
_FAULTS: Final = tuple(
    (re.compile(rb"[ \t]*" + pattern), LineFault(words, remedy))
    for pattern, words, remedy in (
        (rb"<", "the line looks like HTML or XML", "Check how the file was downloaded."),
        (rb"\[", "the row is in brackets", _JSONL),
        (rb'\{[ \t]*"', "the line is a JSON object", _JSONL),
        (rb"[{(]", "the row is in braces or parentheses", "Write numbers and commas alone."),
        (rb'"', "the values are quoted", "Name the file .csv, or write it without quotes."),
        (rb"#", "the line is a comment", "Remove it, or name the file .csv."),
        (rb"%b[ \t]*;" % _DECIMAL_COMMA, "semicolons and decimal commas", _POINTS),
        (rb"%b[ \t]+%b(?:[ \t]|$)" % (_DECIMAL_COMMA, _DECIMAL_COMMA), "decimal commas", _POINTS),
        (
            rb"%b[ \t]*;" % _NUMBER,
            "values are separated by semicolons",
            "Name the file .csv, or write commas.",
        ),
        (
            rb"%b[ \t]+%b(?:[ \t]|$)" % (_NUMBER, _NUMBER),
            "values are separated by blanks or tabs",
            "Name the file .tsv, or write commas.",
        ),
        (
            rb"(?:,0,1,2,|%b(?:,%b)+$)" % (_NAME, _NAME),
            "the line looks like a header of names",
            "Remove the header, or name the file .csv.",
        ),
    )
)


def line_fault(line: bytes) -> LineFault | None:
    """Return what a refused line looks like, or None; its beginning is enough for all but a header."""
    for pattern, fault in _FAULTS:
        if pattern.match(line) is not None:
            return fault
    return None
