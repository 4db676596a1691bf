"""Intervals and corrections against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from embup_core.debugging.statistics import benjamini_hochberg, far_above, wilson_interval


def test_corrections_are_those_of_scipy() -> None:
    p = np.random.default_rng(0).random(50) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (3, 7), (50, 50), (880, 1000)])
def test_intervals_are_those_of_scipy(hits: int, trials: int) -> None:
    expected = stats.binomtest(hits, trials).proportion_ci(method="wilson")
    low, high = wilson_interval([hits], [trials])
    assert (float(low[0]), float(high[0])) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_only_what_is_far_out_is_beyond_the_fence() -> None:
    values = np.append(np.random.default_rng(0).standard_normal(500), [np.nan, 30.0])
    assert np.flatnonzero(values > far_above(values)).tolist() == [501]
    assert far_above(np.full(3, np.nan)) == np.inf
