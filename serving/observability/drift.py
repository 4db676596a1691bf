"""Whether incoming rows are still like the training rows: running means, and rows of low confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.batch import BatchStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY_ROWS: Final = 1_000
"""Rows after which an old one counts a third; with fewer seen, all count alike."""

FOLD_ROWS: Final = 64
"""Rows that are kept before they are taken in together: one by one they would cost ten times as much."""


class DriftMeter:
    """Running means of rows and of the decoder's confidence. For one thread, the event loop's.

    Rows of another number of dimensions are those of another projection: the mean of the rows starts anew.

    Attributes
    ----------
    rows, low_rows
        Rows whose confidence is known, and how many of them were below their limit.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[NDArray[np.float32], NDArray[np.float32], float]] = []
        self._kept_rows = 0
        self._seen_rows = 0
        self._mean_z = np.zeros(0)
        self._mean_confidence = 0.0
        self.rows = 0
        self.low_rows = 0

    def note(self, z: NDArray[np.float32], confidence: NDArray[np.float32], low_confidence: float) -> None:
        """Take rows in.

        Parameters
        ----------
        z
            float32, shape (n, d), of any length but 0.
        confidence
            float32, shape (n,), NaN where not known.
        low_confidence
            Below it rows are counted apart.
        """
        if self._kept and z.shape[1] != self._kept[0][0].shape[1]:
            self.fold()
        self._kept.append((z, confidence, low_confidence))
        self._kept_rows += len(z)
        if self._kept_rows >= FOLD_ROWS:
            self.fold()

    def fold(self) -> None:
        """Take in what is kept."""
        if not self._kept:
            return
        statistics = BatchStatistics()
        statistics.add_rows(
            np.concatenate([rows for rows, _, _ in self._kept]),
            np.concatenate([values for _, values, _ in self._kept]),
            np.repeat([limit for _, _, limit in self._kept], [len(rows) for rows, _, _ in self._kept]),
        )
        self._kept.clear()
        self._kept_rows = 0
        self.add(statistics)

    def add(self, statistics: BatchStatistics) -> None:
        """Take in rows that are summed up already."""
        if statistics.rows:
            if len(statistics.z_sum) != len(self._mean_z):
                self._mean_z, self._seen_rows = np.zeros(len(statistics.z_sum)), 0
            share = self._share(statistics.rows, self._seen_rows)
            self._mean_z += share * (np.array(statistics.z_sum) / statistics.rows - self._mean_z)
            self._seen_rows += statistics.rows
        if statistics.reference_rows:
            share = self._share(statistics.reference_rows, self.rows)
            newest = statistics.confidence_sum / statistics.reference_rows
            self._mean_confidence += share * (newest - self._mean_confidence)
            self.rows += statistics.reference_rows
            self.low_rows += statistics.low_rows

    @property
    def mean_confidence(self) -> float | None:
        """Running mean; None before the first row whose confidence is known."""
        return self._mean_confidence if self.rows else None

    def distance(self, training_mean: NDArray[np.float64]) -> float | None:
        """How far the running mean of the unit rows lies from this one, shape (d,).

        None before any row, and where the rows had another number of dimensions.

        0 to 2. Chance alone makes about 0.03: rows of unit length, a thousand of them.
        """
        if self._mean_z.shape != training_mean.shape or not self._seen_rows:
            return None
        return float(np.linalg.norm(self._mean_z - training_mean))

    @staticmethod
    def _share(new_rows: int, seen_rows: int) -> float:
        """Weight of new rows in a running mean: a plain mean first, an exponential one later."""
        remembered: float = 1 - (1 - 1 / MEMORY_ROWS) ** new_rows
        return max(remembered, new_rows / (seen_rows + new_rows))
