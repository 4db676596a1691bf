"""Intervals are those of resampled rows, and hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from embup_core.evaluation.bootstrap import WholeScores, row_intervals
from embup_core.evaluation.cosines import Comparison, DotProducts
from embup_core.evaluation.scores import measure
from tests.embup_core.evaluation.conftest import noisy_cosines


def _naive(
    predicted: np.ndarray, true: np.ndarray, overlap: np.ndarray, replicates: int
) -> dict[str, tuple[float, float]]:
    """The same draws, taken row by row: pairs of different rows, each as often as it was drawn."""
    n = len(true)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), replicates)
    found: dict[str, list[float]] = {"r2": [], "rmse": [], "recall_at_10": []}
    for times in drawn:
        rows = np.repeat(np.arange(n), times)
        differ = rows[:, None] != rows[None, :]
        p, t = (a[np.ix_(rows, rows)][differ].astype(np.float64) for a in (predicted, true))
        mean_squared = ((p - t) ** 2).mean()
        found["r2"].append(1 - mean_squared / t.var())
        found["rmse"].append(np.sqrt(mean_squared))
        found["recall_at_10"].append(overlap[rows].mean())
    return {name: tuple(np.quantile(values, [0.025, 0.975])) for name, values in found.items()}


def test_intervals_are_those_of_a_resample_written_out() -> None:
    predicted, true = noisy_cosines(40)
    overlap = np.random.default_rng(1).random(40)
    found = row_intervals(predicted, true, overlap, replicates=200)
    expected = _naive(predicted, true, overlap, 200)
    np.testing.assert_allclose(found.r2, expected["r2"], atol=1e-4)
    np.testing.assert_allclose(found.rmse, expected["rmse"], rtol=1e-4)
    assert found.recall_at_10 is not None
    np.testing.assert_allclose(found.recall_at_10, expected["recall_at_10"], rtol=1e-6)
    assert (found.rows, found.replicates) == (40, 200)


def test_about_95_of_100_intervals_hold_the_score_of_all_rows() -> None:
    """Pairs resampled alone would give intervals that hold it in fewer than half of the draws."""
    predicted, true = noisy_cosines(2000)
    off = ~np.eye(2000, dtype=bool)
    rmse = np.sqrt(np.mean((predicted - true)[off] ** 2))
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(100):
        rows = np.ix_(*[rng.choice(2000, 150, replace=False)] * 2)
        low, high = row_intervals(predicted[rows], true[rows], replicates=200, seed=seed).rmse
        held += low <= rmse <= high
    assert 85 <= held <= 100


def test_a_sample_of_more_rows_is_narrowed_around_the_score_of_all() -> None:
    predicted, true = noisy_cosines(100)
    alone = row_intervals(predicted, true, seed=1).rmse
    whole = WholeScores(rows=400, r2=0.1, rmse=0.7)
    of_more = row_intervals(predicted, true, whole=whole, seed=1)
    assert of_more.rmse[1] - of_more.rmse[0] == pytest.approx((alone[1] - alone[0]) / 2, rel=1e-6)
    assert of_more.rmse[0] < whole.rmse < of_more.rmse[1]
    assert of_more.r2[0] < whole.r2 < of_more.r2[1]


def test_of_more_rows_than_are_held_the_interval_lies_around_the_score_of_all() -> None:
    """A third of the rows is decoded much worse; a sample of rows may hold more or fewer of them."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((3000, 8)).astype(np.float32)
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    noise = np.repeat(np.array([0.9, 0.05], np.float32), [1000, 2000])
    decoded = true + noise[:, None] * rng.standard_normal((3000, 8)).astype(np.float32)
    for seed in range(3):
        scores = measure(Comparison(DotProducts(decoded, decoded), DotProducts(true, true)), seed=seed)
        assert scores.intervals is not None
        low, high = scores.intervals.rmse
        assert (low + high) / 2 == pytest.approx(scores.test_test.rmse, abs=(high - low) / 10)


def test_the_diagonal_is_not_looked_at_and_a_seed_decides_everything() -> None:
    predicted, true = noisy_cosines(50)
    expected = row_intervals(predicted, true, seed=2)
    np.fill_diagonal(predicted, 0)
    assert row_intervals(predicted, true, seed=2) == expected
    assert row_intervals(predicted, true, seed=3) != expected
