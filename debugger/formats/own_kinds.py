"""New values of labels and completeness, of the kind that a file has: a number stays a number."""

from __future__ import annotations

import math
from typing import Any, Final

from debugger.formats.rows import TRUTH, is_missing

_TRUE_AS: Final = {"false": "true", "0": "1", "0.0": "1.0", "no": "yes"}


def label_like(label: str, example: Any) -> Any:
    """The label as a value of the example's kind.

    Parameters
    ----------
    label
        As a reviewer gave it.
    example
        Another label of the file; a missing one stands for strings.

    Raises
    ------
    ValueError
        It is no value of that kind; the message says what was expected.
    """
    if isinstance(example, bool):
        found = {"true": True, "false": False}.get(label.strip().lower())
        if found is None:
            raise ValueError("true or false")
        return found
    if isinstance(example, int):
        try:
            return int(label)
        except ValueError as error:
            raise ValueError("a whole number") from error
    if isinstance(example, float) and not math.isnan(example):
        try:
            number = float(label)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError("a finite number")
        return number
    return label


def true_like(example: Any, *, default: Any) -> Any:
    """What says yes where the example says yes or no, as the file spells it; `default` for a missing one."""
    if is_missing(example):
        return default
    if isinstance(example, bool | int | float):
        return type(example)(1)
    given = str(example).strip()
    lower = given.lower()
    word = lower if TRUTH.get(lower) else _TRUE_AS.get(lower, "true")
    if given.isupper():
        return word.upper()
    return word.title() if given.istitle() else word
