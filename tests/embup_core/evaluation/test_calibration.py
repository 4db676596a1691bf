"""Predicted and observed errors meet decile by decile where the prediction is right, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from embup_core.evaluation.calibration import calibration_by_decile


def _errors(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.01, 0.05, count).astype(np.float32)
    return spread, (spread * rng.standard_normal(count)).astype(np.float32)


def test_true_standard_errors_have_ratios_of_one() -> None:
    deciles = calibration_by_decile(*_errors(50_000))
    assert len(deciles) == 10
    assert [one.pairs for one in deciles] == [5000] * 10
    assert [one.predicted_rmse for one in deciles] == sorted(one.predicted_rmse for one in deciles)
    for one in deciles:
        assert one.ratio == pytest.approx(1, abs=0.05)


def test_a_decoder_too_sure_of_itself_has_ratios_above_one() -> None:
    spread, error = _errors(20_000)
    for one in calibration_by_decile(spread / 2, error):
        assert one.ratio == pytest.approx(2, abs=0.15)
    assert {one.ratio for one in calibration_by_decile(np.zeros(20_000), error)} == {None}


def test_deciles_are_those_of_the_sorted_pairs() -> None:
    spread, error = _errors(95)
    order = np.argsort(spread)
    found = calibration_by_decile(spread, error)
    first = order[: found[0].pairs]
    assert found[0].pairs == 10
    assert found[0].predicted_rmse == pytest.approx(np.sqrt((spread[first] ** 2).mean()), rel=1e-6)
    assert found[0].observed_rmse == pytest.approx(np.sqrt((error[first] ** 2).mean()), rel=1e-6)
    assert sum(one.pairs for one in found) == 95
