"""Neighbours are counted as by sorting, and neighbourhoods scored as scikit-learn does."""

from __future__ import annotations

import numpy as np
import pytest

from embup_core.evaluation.ranking import shared_nearest, trustworthiness
from tests.embup_core.evaluation.conftest import noisy_cosines


def test_shared_neighbours_are_those_of_two_sorted_lists() -> None:
    rng = np.random.default_rng(0)
    true = rng.standard_normal((40, 70)).astype(np.float32)
    predicted = (true + rng.standard_normal((40, 70))).astype(np.float32)
    ks = (1, 5, 10, 50)
    expected = [
        [len(set(np.argsort(-p)[:k]) & set(np.argsort(-t)[:k])) for k in ks]
        for p, t in zip(predicted, true, strict=True)
    ]
    found = shared_nearest(predicted, true, ks)
    np.testing.assert_array_equal(found, expected)
    assert 0 < found[:, 0].sum() < 40


@pytest.mark.parametrize("rows", [23, 300])
def test_trustworthiness_and_continuity_are_those_of_scikit_learn(rows: int) -> None:
    from sklearn.manifold import trustworthiness as reference

    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 8))
    y = x + rng.standard_normal((rows, 8))
    x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    true, predicted = (x @ x.T).astype(np.float32), (y @ y.T).astype(np.float32)
    # for unit rows the nearest by distance are the nearest by cosine
    assert trustworthiness(predicted, true, 10) == pytest.approx(reference(x, y, n_neighbors=10), abs=1e-6)
    assert trustworthiness(true, predicted, 10) == pytest.approx(reference(y, x, n_neighbors=10), abs=1e-6)
    assert trustworthiness(true, true, 10) == 1


def test_the_diagonal_is_not_looked_at() -> None:
    predicted, true = noisy_cosines(60)
    expected = trustworthiness(predicted, true, 10)
    np.fill_diagonal(predicted, -1)
    assert trustworthiness(predicted, true, 10) == expected


def test_too_few_rows_have_no_trustworthiness() -> None:
    predicted, true = noisy_cosines(20)
    assert trustworthiness(predicted, true, 10) is None
