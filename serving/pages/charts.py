"""Charts as coordinates for SVG: scales with round ticks, lines with gaps, steps, and bands.

A template writes the elements; colours come from the style sheet. Coordinates are pixels of the view box, y
downwards.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WIDTH: Final = 960.0
LEFT: Final = 56.0  # room for the labels of the y axis
RIGHT: Final = 8.0
MOST_STEPS: Final = 4


class Tick(NamedTuple):
    """A mark of an axis: where it stands, and what it says."""

    at: float
    label: str


class Band(NamedTuple):
    """A vertical band: its left edge, its width, and how strong it is, 0 to 1."""

    x: float
    width: float
    strength: float


@dataclass(frozen=True)
class Panel:
    """A plot with a y axis from 0.

    Attributes
    ----------
    top, height
        Where it stands in the view box.
    x
        Takes values of the x axis to pixels.
    highest
        Value at the upper edge.
    ticks
        Of the y axis.
    """

    top: float
    height: float
    x: Callable[[float], float]
    highest: float
    ticks: tuple[Tick, ...]

    @classmethod
    def fitting(
        cls, values: Iterable[float], *, top: float, height: float, x: Callable[[float], float]
    ) -> Panel:
        """Make one whose axis ends at or above the largest value."""
        marks = round_ticks(max((value for value in values if math.isfinite(value)), default=0.0))
        highest = marks[-1]
        ticks = tuple(Tick(top + height * (1 - mark / highest), tick_label(mark)) for mark in marks)
        return cls(top, height, x, highest, ticks)

    @property
    def bottom(self) -> float:
        """Where the axis is 0."""
        return self.top + self.height

    def y(self, value: float) -> float:
        """Take a value to pixels."""
        return self.top + self.height * (1 - min(max(value, 0.0), self.highest) / self.highest)

    def line(self, points: Iterable[tuple[float, float | None]]) -> str:
        """Draw points in order, as the `d` of a path; None is a gap."""
        parts, drawing = list[str](), False
        for at, value in points:
            if value is None:
                drawing = False
                continue
            parts.append(f"{'L' if drawing else 'M'}{self.x(at):.1f} {self.y(value):.1f}")
            if not drawing:
                parts.append("h0.01")  # a point of its own is seen, too
            drawing = True
        return "".join(parts)

    def area(self, steps: Sequence[tuple[float, float, float]]) -> str:
        """Fill below steps of start, end and value, as the `d` of a path."""
        if not steps:
            return ""
        parts = [f"M{self.x(steps[0][0]):.1f} {self.bottom:.1f}"]
        for start, end, value in steps:
            parts.append(f"L{self.x(start):.1f} {self.y(value):.1f}H{self.x(end):.1f}")
        parts.append(f"V{self.bottom:.1f}Z")
        return "".join(parts)


def scale(low: float, high: float) -> Callable[[float], float]:
    """Take values of the x axis to pixels."""
    span = high - low or 1.0
    return lambda value: LEFT + (WIDTH - LEFT - RIGHT) * (min(max(value, low), high) - low) / span


def round_ticks(highest: float) -> list[float]:
    """Give up to five round values from 0 to at least this one."""
    if highest <= 0:
        return [0.0, 1.0]
    least = highest / MOST_STEPS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * part for part in (1.0, 2.0, 2.5, 5.0, 10.0) if power * part >= least * (1 - 1e-9))
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


def tick_label(value: float) -> str:
    """Write a round value shortly."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def envelope(values: Sequence[float], *, bins: int, width: float, height: float) -> str:
    """Draw many numbers as the band between the least and the greatest of each bin, as the `d` of a path.

    The scale is that of square roots, so that small numbers beside large ones are seen.

    Parameters
    ----------
    values
        In the order of the x axis.
    bins
        Most of them.
    width, height
        Of the view box; 0 is in the middle of its height.
    """
    bins = max(1, min(bins, len(values)))
    edges = [len(values) * number // bins for number in range(bins + 1)]
    parts = [values[start:end] for start, end in itertools.pairwise(edges)]
    most = max((abs(value) for value in values), default=1.0) or 1.0
    middle = height / 2

    def y(value: float) -> float:
        return middle - middle * math.copysign(math.sqrt(abs(value) / most), value)

    upper = [(width * (i + 0.5) / bins, y(max(part))) for i, part in enumerate(parts)]
    lower = [(width * (i + 0.5) / bins, y(min(part))) for i, part in enumerate(parts)]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in [*upper, *reversed(lower)]) + "Z"
