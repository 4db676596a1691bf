"""Two decoders on the same rows: differences are those of their R2, and errors those of resampled rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.evaluation.paired import paired_mean, paired_r2

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cosines(rows: int = 60) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Of a decoder, of a better one, and true ones: float32, shape (n, n) each."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 8))
    noise = rng.standard_normal((rows, 8))
    units = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x + 0.5 * noise, x + 0.3 * noise, x)]
    old, new, true = ((a @ a.T).astype(np.float32) for a in units)
    return old, new, true


def r2(predicted: NDArray[np.float32], true: NDArray[np.float32], rows: NDArray[np.bool_]) -> float:
    """By hand: pairs of some rows with all others, over the variance of all pairs."""
    others = ~np.eye(len(true), dtype=bool)
    error = ((predicted - true) ** 2)[rows][others[rows]].mean()
    return float(1 - error / true[others].var())


def test_figures_are_those_of_each_decoder() -> None:
    old, new, true = cosines()
    part = np.arange(60) < 20
    whole, parts = paired_r2(old, new, true, {"first": part})
    for found, rows in ((whole, np.ones(60, bool)), (parts["first"], part)):
        assert found.old == pytest.approx(r2(old, true, rows), abs=1e-5)
        assert found.new == pytest.approx(r2(new, true, rows), abs=1e-5)
        assert found.rows == rows.sum()
        assert found.lower(0.95) < found.difference < found.upper(0.95)
    assert whole.difference > 0.1


def test_the_standard_error_is_that_of_resampled_rows() -> None:
    old, new, true = cosines()
    part = np.arange(60) < 20
    whole, parts = paired_r2(old, new, true, {"first": part})
    rng = np.random.default_rng(0)
    moved = []
    for _ in range(400):
        drawn = np.sort(rng.integers(0, 60, 60))
        pairs = drawn[:, None] != drawn  # pairs of a row with itself do not count
        variance = true[np.ix_(drawn, drawn)][pairs].var()
        gain = (old - true) ** 2 - (new - true) ** 2
        gain = gain[np.ix_(drawn, drawn)] / variance
        few = part[drawn]
        moved.append((gain[pairs].mean(), gain[few][pairs[few]].mean()))
    expected = np.std(moved, axis=0)
    assert whole.standard_error == pytest.approx(expected[0], rel=0.15)
    assert parts["first"].standard_error == pytest.approx(expected[1], rel=0.15)


def test_equal_decoders_do_not_differ() -> None:
    old, _, true = cosines()
    whole, _ = paired_r2(old, old, true, {})
    assert (whole.difference, whole.standard_error) == (0, 0)


def test_a_mean_of_rows() -> None:
    found = paired_mean(np.array([0.0, 0.5, 1.0, 0.5]), np.array([0.1, 0.6, 1.1, 0.8]))
    assert found.difference == pytest.approx(0.15)
    assert found.standard_error == pytest.approx(0.05)
