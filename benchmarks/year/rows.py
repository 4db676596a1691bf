"""The rows of twelve monthly deliveries, and what is planted in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.drops.make import make_drop
from embup_core.sources.synthetic import project

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.drops import DropsFolder

    Floats = NDArray[np.float32]

MISMATCHED, SHUFFLED, OTHER_MAP, LATE, DUPLICATES, RACE, WORSE = 4, 6, 8, 9, 10, 11, 12
MISMATCHED_SHARE: Final = 0.03
DUPLICATE_SHARE: Final = 0.30


@dataclass(eq=False)
class Year:
    """Rows of twelve months, and what is wrong with them.

    Attributes
    ----------
    originals
        float32, shape (n, D), unit rows, in the order of delivery.
    first_rows
        Of the first drop; it needs more rows than the originals have dimensions, and some to spare.
    months
        How many drops.
    planted
        By month, rows that have to be found; filled as months are delivered.
    """

    originals: Floats
    first_rows: int
    months: int = 12
    seed: int = 0
    planted: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.projected = project(self.originals, seed=self.seed)
        self.by_another_map = project(self.originals, seed=self.seed + 1)

    @classmethod
    def of(cls, path: Path, *, first_rows: int, months: int = 12, seed: int = 0) -> Year:
        """Load originals in random order."""
        given = np.load(path, mmap_mode="r", allow_pickle=False)
        rows = np.asarray(given[np.random.default_rng(seed).permutation(len(given))], np.float32)
        return cls(rows / np.linalg.norm(rows, axis=1, keepdims=True), first_rows, months, seed)

    def name(self, month: int) -> str:
        """Of a drop."""
        return f"{2025 + (month - 1) // 12}-{(month - 1) % 12 + 1:02d}"

    def rows_of(self, month: int) -> NDArray[np.int64]:
        """Rows of the originals that are new in a month."""
        if month == 1:
            return np.arange(self.first_rows)
        count = (len(self.originals) - self.first_rows) // (self.months - 1)
        start = self.first_rows + (month - 2) * count
        return np.arange(start, start + count)

    def deliver(self, place: DropsFolder, month: int) -> None:
        """Write the drop of a month, with its trouble."""
        rng = np.random.default_rng([self.seed, month])
        rows = self.rows_of(month)
        z = self.projected[rows].copy()
        if month == MISMATCHED:
            wrong = np.sort(rng.permutation(len(rows))[: round(MISMATCHED_SHARE * len(rows))])
            z[wrong] = z[np.roll(wrong, 1)]
            self.planted[month] = wrong
        elif month == SHUFFLED:
            z = z[rng.permutation(len(rows))]
        elif month == OTHER_MAP:
            z = self.by_another_map[rows]
        elif month == DUPLICATES:
            again = round(DUPLICATE_SHARE * len(rows))
            rows = np.concatenate([rows[again:], rng.permutation(self.first_rows)[:again]])
            z = self.projected[rows]
            self.planted[month] = np.arange(len(rows) - again, len(rows))
        landmarks = None
        if month > 1:
            landmarks = self.originals[np.load(place.root / "landmarks" / "rows.npy")]
        make_drop(place, self.name(month), z, originals=self.originals[rows], landmark_originals=landmarks)
