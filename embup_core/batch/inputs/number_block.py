"""Rows that are read as numbers: checked by the rules of the text format, with the same reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from embup_core.text.parser import RAW_CHARACTERS, BadRow, ParsedRows

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row is refused, and its values as text."""

    reason: str
    raw: str


@dataclass(frozen=True, slots=True, eq=False)
class NumberBlock:
    """Consecutive rows of numbers, not checked yet, so that another process can check them.

    Attributes
    ----------
    values
        Floats or integers of any size and byte order, shape (rows, dims).
    refused
        Rows that the reader refused, by their index in the block; their values are undefined.
    first_row
        The number of the first one, from 0.
    bytes_done
        How far into the file the last one lies.
    """

    values: npt.NDArray[Any]
    refused: Mapping[int, Refusal]
    first_row: int
    bytes_done: int
    why_empty: ClassVar[str] = ""

    @property
    def rows(self) -> int:
        """Number of rows. 0: the reader is still passing over earlier rows; call it again."""
        return len(self.values)

    @property
    def first_line(self) -> int:
        """The number of the first one, from 1."""
        return self.first_row + 1

    @property
    def end_offset(self) -> int:
        """The number of the row after the last one, from 0."""
        return self.first_row + len(self.values)

    def parse(self, dims: int) -> ParsedRows:  # noqa: ARG002 - the width of `values`
        """Return the rows as float32, and the refused ones."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            rows = self.values.astype(np.float32) + np.float32(0)  # a zero has no sign, as in text
            suspects = np.flatnonzero(~np.isfinite(rows).all(axis=1) | ~rows.any(axis=1))
        bad = []
        for index in sorted({*suspects.tolist(), *self.refused}):
            refusal = self.refused.get(index) or _refusal(self.values[index], rows[index])
            bad.append(BadRow(self.first_line + index, index, refusal.reason, refusal.raw))
            rows[index] = np.nan
        return ParsedRows(rows, tuple(bad))


def shown(values: Any) -> str:
    """Return the beginning of a row as a line of text."""
    return ",".join(str(value) for value in values[:RAW_CHARACTERS])[:RAW_CHARACTERS]


def _refusal(values: npt.NDArray[Any], row: npt.NDArray[np.float32]) -> Refusal:
    """Say what is wrong with a row: the first value that is not finite, else the first too large one."""
    for known, why in ((values, "is not finite"), (row, "does not fit in float32")):
        wrong = np.flatnonzero(~np.isfinite(known))
        if wrong.size:
            position = int(wrong[0])
            return Refusal(f"value {position + 1}: {values[position]!s} {why}", shown(values))
    return Refusal("all values are zero: a direction is needed", shown(values))
