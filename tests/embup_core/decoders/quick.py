"""Decoders whose fits take less than a second."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from embup_core.decoders import DECODERS

if TYPE_CHECKING:
    from embup_core.decoders import Decoder

FEW_STEPS = {"epochs": 2, "steps": 4, "teacher_epochs": 2, "examples": 1000}


def quick(name: str) -> Decoder:
    """The decoder of this name, with few steps."""
    settings = inspect.signature(DECODERS[name]).parameters
    return DECODERS[name](**{key: value for key, value in FEW_STEPS.items() if key in settings})
