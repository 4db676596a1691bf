"""The running mean of incoming rows belongs to one number of dimensions."""

import numpy as np
import pytest

from embup_core.batch import BatchStatistics
from serving.observability.drift import FOLD_ROWS, DriftMeter


def rows(count: int, dims: int) -> np.ndarray:
    return np.eye(dims, dtype=np.float32)[np.zeros(count, int)]


def test_rows_of_other_dimensions_start_the_mean_anew() -> None:
    meter = DriftMeter()
    known = np.ones(FOLD_ROWS - 1, np.float32)
    meter.note(rows(FOLD_ROWS - 1, 4), known, 0.5)
    meter.note(rows(3, 6), known[:3], 0.5)  # while others are kept
    meter.fold()
    assert meter.distance(np.zeros(6)) == pytest.approx(1)
    assert meter.distance(np.zeros(4)) is None
    assert meter.rows == FOLD_ROWS + 2, "confidences are comparable"

    batch = BatchStatistics()
    batch.add_rows(rows(2, 4), known[:2], 0.5)
    meter.add(batch)
    assert meter.distance(rows(1, 4)[0].astype(float)) == pytest.approx(0)


def test_a_mean_of_other_dimensions_has_no_distance() -> None:
    meter = DriftMeter()
    assert meter.distance(np.zeros(4)) is None
    meter.note(rows(FOLD_ROWS, 4), np.ones(FOLD_ROWS, np.float32), 0.5)
    assert meter.distance(np.zeros(5)) is None
