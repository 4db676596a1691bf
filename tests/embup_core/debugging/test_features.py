"""Vectors of texts, nearest rows and copies against slow and plain computations."""

from __future__ import annotations

import numpy as np
import pytest

from embup_core.debugging.features import neighbours as neighbours_module
from embup_core.debugging.features.duplicates import duplicate_sets, members, near_pairs
from embup_core.debugging.features.neighbours import centred_units, nearest_rows, principal_components
from embup_core.debugging.features.text_features import text_features
from tests.embup_core.debugging.conftest import blobs, sentences


def test_texts_of_one_topic_are_near() -> None:
    texts, topics = sentences(3)
    vectors = text_features(texts, dims=20)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    found = nearest_rows(vectors, 5).rows
    same = np.array(topics)[found] == np.array(topics)[:, None]
    assert same.mean() > 0.9


def test_texts_without_words_are_zero() -> None:
    vectors = text_features(["a word", "", "  ", "...", "a word"])
    assert np.abs(vectors[[1, 2, 3]]).max() == 0
    np.testing.assert_allclose(vectors[0], vectors[4])
    assert text_features(["", "."]).shape == (2, 1)


@pytest.mark.parametrize("exact_rows", [10_000, 50])
def test_nearest_rows_are_the_nearest(monkeypatch: pytest.MonkeyPatch, exact_rows: int) -> None:
    monkeypatch.setattr(neighbours_module, "EXACT_ROWS", exact_rows)
    vectors, _ = blobs(4, 50)
    vectors[7], vectors[8] = np.nan, 0
    found = nearest_rows(vectors, 3)
    unit = np.nan_to_num(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    cosines[:, [7, 8]] = -2
    expected = np.argsort(-cosines, axis=1)[:, :3]
    usable = np.setdiff1d(np.arange(200), [7, 8])
    assert (found.rows[usable] == expected[usable]).mean() > 0.99
    assert (found.rows[[7, 8]] == -1).all()
    assert np.isnan(found.cosines[[7, 8]]).all()


def test_only_wanted_rows_are_neighbours() -> None:
    vectors, codes = blobs(3, 20)
    found = nearest_rows(vectors, 30, among=codes == 1)
    assert set(np.unique(found.rows)) == {-1, *np.flatnonzero(codes == 1)}


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    vectors, _ = blobs(5, 30)
    components = principal_components(vectors, 4)
    _, values, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.linalg.norm(components, axis=0), values[:4], rtol=1e-3)
    assert np.isnan(centred_units(np.ones((3, 2), np.float32))).all()


def test_copies_of_texts_differ_in_case_width_and_space_only() -> None:
    texts = ["Stop  now", "stop now", "\uff33top now ", "stop, now", "", ""]
    sets = duplicate_sets(6, texts=texts)
    assert [part.tolist() for part in members(sets.copies)] == [[0, 1, 2]]


def test_near_pairs_are_all_pairs_above_the_cosine() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 128))
    vectors[100:140] = vectors[:40] + 0.1 * rng.standard_normal((40, 128))
    vectors[200] = 3 * vectors[0]
    wide = vectors.astype(np.float32)
    left, right, cosines = near_pairs(wide, 0.97)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = {(i, j) for i, j in np.argwhere(unit @ unit.T >= 0.97).tolist() if i != j}
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == expected
    assert cosines.min() >= 0.97
    sets = duplicate_sets(300, vectors=wide)
    assert [part.tolist() for part in members(sets.copies)] == [[0, 200]]
    assert {0, 100, 200} <= set(members(sets.near)[0].tolist())


def test_a_thousand_copies_are_one_set() -> None:
    vectors = np.ones((1000, 80), np.float32)
    assert len(members(duplicate_sets(1000, vectors=vectors).copies)[0]) == 1000
