"""What the gate found: old beside new, one check a line, as JSON and as a table."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

SLICES_SHOWN: Final = 12
"""Slices that a table shows at most, those that lost most first."""

COLUMNS: Final = ("check", "rows", "in service", "new", "difference [95 %]", "expected", "verdict")


@dataclass(frozen=True)
class Margins:
    """How much worse a new decoder may be. docs/explanation/promotion.md says how the values were chosen.

    Attributes
    ----------
    level
        Confidence of each statement, one-sided.
    r2
        A decoder passes if it is shown not to be worse by this in R2 of cosines, on `many_rows` held-out rows
        or more. On fewer the margin is wider, as the interval is: see `r2_on`.
    many_rows
        See `r2`.
    slice_r2
        It is held if a slice is shown to be worse by more than this, at a level that is corrected for the
        number of slices (Bonferroni).
    recall
        It is held if recall@10 among held-out rows is shown to be worse by more than this; so it is if the
        rows that the old version decoded are found worse than before by queries of the new one.
    calibration
        Largest ratio of observed and predicted errors of cosines, either way.
    calibration_growth
        Factor by which that ratio may exceed the old version's where that one is off as well.
    size, small_bytes
        Largest ratio of the sizes; arrays below `small_bytes` are never too large.
    decode_time, quick_ms
        Largest ratio of the times; rows that are decoded in less than `quick_ms` are never too slow.
    fewest_rows
        Held-out rows below which nothing can be said.
    fewest_slice_rows
        Rows below which a slice is not looked at.
    """

    level: float = 0.95
    r2: float = 0.015
    many_rows: int = 1200
    slice_r2: float = 0.05
    recall: float = 0.02
    calibration: float = 1.25
    calibration_growth: float = 1.1
    size: float = 2.0
    small_bytes: int = 64_000_000
    decode_time: float = 2.0
    quick_ms: float = 0.5
    fewest_rows: int = 100
    fewest_slice_rows: int = 20

    def r2_on(self, rows: int) -> float:
        """The margin of R2 on so many held-out rows; the interval's width falls with their square root."""
        return self.r2 * math.sqrt(max(1.0, self.many_rows / rows))


@dataclass(frozen=True)
class GateCheck:
    """One comparison of the old decoder with the new one.

    Attributes
    ----------
    name
        What was compared; of a slice its kind and label.
    passed
        Whether it allows the promotion.
    old, new
        The figure of both; None where it does not exist.
    expected
        What passes, in words.
    interval
        Two-sided 95 % interval of new - old; None where it was not resampled.
    rows
        Held-out rows that it was measured on; None where it concerns none.
    is_slice
        Whether it concerns a slice.
    """

    name: str
    passed: bool
    old: float | None
    new: float | None
    expected: str
    interval: tuple[float, float] | None = None
    rows: int | None = None
    is_slice: bool = False

    @property
    def difference(self) -> float | None:
        """new - old."""
        return None if self.old is None or self.new is None else self.new - self.old

    @property
    def reason(self) -> str:
        """What was found and expected, in a clause."""
        moved = "" if self.difference is None else f" ({self._moved()})"
        return f"{self.name}: {_figure(self.old)} to {_figure(self.new)}{moved}, expected {self.expected}"

    def row(self) -> tuple[str, ...]:
        """Text of each of `COLUMNS`."""
        return (
            self.name,
            "" if self.rows is None else f"{self.rows:,}",
            _figure(self.old),
            _figure(self.new),
            self._moved(),
            self.expected,
            "passed" if self.passed else "HELD",
        )

    def _moved(self) -> str:
        if self.difference is None or abs(self.difference) > 1000:
            return ""
        interval = "" if self.interval is None else f" [{self.interval[0]:+.3f}, {self.interval[1]:+.3f}]"
        return f"{self.difference:+.3f}{interval}"


@dataclass(frozen=True)
class GateResult:
    """The gate's verdict on one new decoder.

    Attributes
    ----------
    checks
        All comparisons.
    rows
        Held-out rows that were compared.
    previous
        The version compared with, where it has a name.
    """

    checks: tuple[GateCheck, ...]
    rows: int
    previous: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the new decoder is held, a clause each; none where it passed."""
        return tuple(check.reason for check in self.checks if not check.passed)

    def check(self, name: str) -> GateCheck:
        """The check of a name; raises `KeyError`."""
        found = next((check for check in self.checks if check.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def table(self, *, slices: int = SLICES_SHOWN) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Column names and rows of text.

        Parameters
        ----------
        slices
            How many slices that passed are shown, those that lost most first. All that did not are.
        """
        of_slices = sorted(
            (check for check in self.checks if check.is_slice),
            key=lambda check: (check.passed, check.difference or 0.0),
        )
        failed = sum(not check.passed for check in of_slices)
        shown = [check for check in self.checks if not check.is_slice] + of_slices[: failed + slices]
        return COLUMNS, [check.row() for check in shown]

    def to_markdown(self) -> str:
        """The table, and a line that counts the slices that it leaves out."""
        columns, rows = self.table()
        lines = [" | ".join(cells) for cells in (columns, ["---"] * len(columns), *rows)]
        left_out = len(self.checks) - len(rows)
        note = f"\n\n{left_out} more slices passed." if left_out else ""
        return "\n".join(f"| {line} |" for line in lines) + note

    def to_json(self) -> dict[str, Any]:
        """JSON values, with the verdict, the reasons and the table for those that only show them."""
        shown = {"passed": self.passed, "reasons": list(self.reasons), "table": self.to_markdown()}
        return {**shown, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild; LookupError, TypeError or ValueError where it cannot be one."""
        checks = tuple(
            GateCheck(**{**one, "interval": one["interval"] and tuple(one["interval"])})
            for one in content["checks"]
        )
        return cls(checks, int(content["rows"]), str(content["previous"]))


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
