"""Sums over blocks of pairs are what the definitions say over all pairs at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from embup_core.evaluation.pairs import PairScores, PairSums


def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true = np.clip(rng.normal(0.7, 0.05, count), -1, 1).astype(np.float32)
    return (true + rng.normal(0.01, 0.02, count)).astype(np.float32), true


def _scores(predicted: np.ndarray, true: np.ndarray, block: int = 97) -> PairScores:
    sums = PairSums(len(true))
    for start in range(0, len(true), block):
        sums.add(predicted[start : start + block], true[start : start + block])
    return sums.scores()


def test_every_score_is_its_definition() -> None:
    predicted, true = _pairs(5000)
    found, error = _scores(predicted, true), (predicted - true).astype(np.float64)
    assert found.pairs == 5000
    assert found.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)
    assert found.mae == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert found.bias == pytest.approx(error.mean(), rel=1e-5)
    assert found.r2 == pytest.approx(1 - (error**2).mean() / true.var(dtype=np.float64), rel=1e-6)
    assert found.pearson == pytest.approx(pearsonr(predicted, true).statistic, rel=1e-6)
    assert found.spearman == pytest.approx(spearmanr(predicted, true).statistic, rel=1e-9)
    assert found.p99_abs_error == pytest.approx(np.quantile(np.abs(error), 0.99), rel=1e-5)


def test_bins_hold_each_pair_once_with_the_errors_of_their_own_pairs() -> None:
    predicted, true = _pairs(5000)
    true[:3] = 1, -1, 0.999
    found = _scores(predicted, true).error_by_bin
    assert sum(one.pairs for one in found) == 5000
    assert [one.low for one in found] == sorted(one.low for one in found)
    assert (found[0].low, found[-1].high) == (-1.0, 1.0)
    for one in found:
        inside = (true >= one.low) & ((true < one.high) | (one.high == 1.0))
        error = (predicted - true)[inside].astype(np.float64)
        assert one.pairs == inside.sum()
        assert one.bias == pytest.approx(error.mean(), abs=1e-7)
        assert one.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)


def test_of_many_pairs_evenly_spaced_ones_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embup_core.evaluation.pairs.SAMPLED_PAIRS", 1000)
    predicted, true = _pairs(5000)
    sums = PairSums(5000)
    for start in range(0, 5000, 97):
        sums.add(predicted[start : start + 97], true[start : start + 97])
    np.testing.assert_array_equal(sums.kept()[0], predicted[::5])
    assert sums.scores().rmse == pytest.approx(_scores(predicted, true).rmse)


def test_a_constant_has_no_correlation_and_equal_truths_no_r2() -> None:
    predicted, true = _pairs(100)
    constant = np.full_like(true, 0.7)
    assert (_scores(constant, true).spearman, _scores(constant, true).pearson) == (None, None)
    assert _scores(predicted, np.full_like(true, 0.5)).r2 == float("-inf")


def test_many_pairs_at_once_take_little_memory_beside_them() -> None:
    predicted, true = _pairs(2**22)
    sums = PairSums(len(true))
    tracemalloc.start()
    try:
        sums.add(predicted, true)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 8 * len(true)  # one float64 copy takes 8 bytes a pair, and sums need six
    np.testing.assert_array_equal(sums.kept()[1], true[:: -(-len(true) // 500_000)])
