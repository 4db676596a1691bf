"""Whether a classifier is right as often as it says: reliability by bins (Guo et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.debugging.statistics import wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS: Final = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose most probable class has about the same probability.

    Attributes
    ----------
    low, high
        Edges of the probability.
    confidence
        Mean probability.
    accuracy, accuracy_low, accuracy_high
        Share of the rows whose label it is, with a 95 % interval.
    rows
        How many.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    rows: int


@dataclass(frozen=True)
class Reliability:
    """How well a classifier knows what it knows.

    Attributes
    ----------
    accuracy
        Share of rows whose label is the most probable.
    confidence
        Mean probability of the most probable label.
    calibration_error
        Mean distance of confidence and accuracy over the bins, weighted by their rows: 0 is perfect.
    rows
        How many rows were looked at.
    bins
        Those that hold a row, in order.
    """

    accuracy: float
    confidence: float
    calibration_error: float
    rows: int
    bins: tuple[ReliabilityBin, ...]


def reliability(probabilities: NDArray[np.float32], codes: NDArray[np.int64]) -> Reliability | None:
    """Compare probabilities with labels.

    Parameters
    ----------
    probabilities
        float32, shape (n, k); rows of NaN are left out.
    codes
        Column of each row's label, -1 where there is none: int64, shape (n,).

    Returns
    -------
    None where no row has both.
    """
    rows = np.flatnonzero((codes >= 0) & np.isfinite(probabilities).all(axis=1))
    if not len(rows):
        return None
    confidence = probabilities[rows].max(axis=1).astype(np.float64)
    right = probabilities[rows].argmax(axis=1) == codes[rows]
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    hits = np.bincount(places, right, BINS)
    total = np.bincount(places, confidence, BINS)
    held = np.flatnonzero(counts)
    low, high = wilson_interval(hits[held], counts[held])
    bins = tuple(
        ReliabilityBin(
            low=place / BINS,
            high=(place + 1) / BINS,
            confidence=float(total[place] / counts[place]),
            accuracy=float(hits[place] / counts[place]),
            accuracy_low=float(low[i]),
            accuracy_high=float(high[i]),
            rows=int(counts[place]),
        )
        for i, place in enumerate(held.tolist())
    )
    return Reliability(
        accuracy=float(right.mean()),
        confidence=float(confidence.mean()),
        calibration_error=float(np.abs(hits - total).sum() / len(rows)),
        rows=len(rows),
        bins=bins,
    )
