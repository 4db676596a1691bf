"""Whether incoming rows are still like the training rows: running means, and rows of low confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.batch import Tally
from embup_core.dims import INPUT_DIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY_ROWS: Final = 1_000
"""Rows after which an old one counts a third; with fewer seen, all count alike."""

FOLD_ROWS: Final = 64
"""Rows that are kept before they are taken in together: one by one they would cost ten times as much."""


class DriftMeter:
    """Looks at rows and what the decoder thought of them. For one thread, the event loop's.

    Attributes
    ----------
    rows, low_rows
        Rows whose confidence is known, and how many of them were below their limit.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[NDArray[np.float32], NDArray[np.float32], float]] = []
        self._kept_rows = 0
        self._seen_rows = 0
        self._mean_z = np.zeros(INPUT_DIMS)
        self._mean_confidence = 0.0
        self.rows = 0
        self.low_rows = 0

    def note(self, z: NDArray[np.float32], confidence: NDArray[np.float32], low_confidence: float) -> None:
        """Take rows in.

        Parameters
        ----------
        z
            float32, shape (n, 32), of any length but 0.
        confidence
            float32, shape (n,), NaN where not known.
        low_confidence
            Below it rows are counted apart.
        """
        self._kept.append((z, confidence, low_confidence))
        self._kept_rows += len(z)
        if self._kept_rows >= FOLD_ROWS:
            self.fold()

    def fold(self) -> None:
        """Take in what is kept."""
        if not self._kept:
            return
        tally = Tally()
        tally.add_rows(
            np.concatenate([rows for rows, _, _ in self._kept]),
            np.concatenate([values for _, values, _ in self._kept]),
            np.repeat([limit for _, _, limit in self._kept], [len(rows) for rows, _, _ in self._kept]),
        )
        self._kept.clear()
        self._kept_rows = 0
        self.add(tally)

    def add(self, tally: Tally) -> None:
        """Take in rows that are summed up already."""
        if tally.rows:
            share = self._share(tally.rows, self._seen_rows)
            self._mean_z += share * (np.array(tally.z_sum) / tally.rows - self._mean_z)
            self._seen_rows += tally.rows
        if tally.known_rows:
            share = self._share(tally.known_rows, self.rows)
            newest = tally.confidence_sum / tally.known_rows
            self._mean_confidence += share * (newest - self._mean_confidence)
            self.rows += tally.known_rows
            self.low_rows += tally.low_rows

    @property
    def mean_confidence(self) -> float | None:
        """Running mean; None before the first row whose confidence is known."""
        return self._mean_confidence if self.rows else None

    def distance(self, training_mean: NDArray[np.float64]) -> float | None:
        """How far the running mean of the unit rows lies from this one, shape (32,); None before any row.

        0 to 2. Chance alone makes about 0.03: rows of unit length, a thousand of them.
        """
        if not self._seen_rows:
            return None
        return float(np.linalg.norm(self._mean_z - training_mean))

    @staticmethod
    def _share(new_rows: int, seen_rows: int) -> float:
        """Weight of new rows in a running mean: a plain mean first, an exponential one later."""
        remembered: float = 1 - (1 - 1 / MEMORY_ROWS) ** new_rows
        return max(remembered, new_rows / (seen_rows + new_rows))
