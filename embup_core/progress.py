"""The one type of progress callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, float, float | None], None]
"""Called with what is being done, units of work done, and units in all (None where unknown)."""
