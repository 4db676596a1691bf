"""A linear probe tells labels that features hold, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from embup_core.errors import InputError
from embup_core.evaluation.probe import probe_scores, require_teachable


def _rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, features that hold them, features that do not."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["a", "b", "c"], count, p=[0.5, 0.3, 0.2])
    centres = {"a": 0.0, "b": 4.0, "c": 8.0}
    telling = rng.standard_normal((count, 5)) + np.array([centres[one] for one in labels])[:, None]
    return labels, telling.astype(np.float32), rng.standard_normal((count, 5)).astype(np.float32)


def test_accuracy_is_high_where_features_hold_the_label_and_the_majority_where_they_do_not() -> None:
    labels, telling, noise = _rows(400, 0)
    test_labels, test_telling, test_noise = _rows(200, 1)
    found = probe_scores(
        labels, test_labels, [("telling", telling, test_telling), ("noise", noise, test_noise)]
    )
    assert found.accuracy["telling"] > 0.97
    assert abs(found.accuracy["noise"] - found.majority_share) < 0.08
    assert found.majority_share == (test_labels == "a").mean()
    assert (found.classes, found.training_rows, found.test_rows) == (3, 400, 200)


def test_the_scale_of_a_feature_does_not_matter() -> None:
    labels, telling, _ = _rows(300, 0)
    test_labels, test_telling, _ = _rows(100, 1)
    scale = np.array([1e-3, 1, 1e3, 1, 1], np.float32)
    plain = probe_scores(labels, test_labels, [("x", telling, test_telling)])
    scaled = probe_scores(labels, test_labels, [("x", telling * scale, test_telling * scale)])
    assert scaled.accuracy["x"] == pytest.approx(plain.accuracy["x"], abs=0.011)


def test_a_label_that_was_never_learned_counts_as_wrong() -> None:
    labels, telling, _ = _rows(300, 0)
    found = probe_scores(labels, np.full(300, "d"), [("x", telling, telling)])
    assert (found.accuracy["x"], found.majority_share) == (0, 0)


def test_of_many_rows_a_seeded_sample_is_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embup_core.evaluation.probe.MOST_TRAINING_ROWS", 50)
    labels, telling, _ = _rows(300, 0)
    found = probe_scores(labels, labels, [("x", telling, telling)])
    assert found.training_rows == 50
    assert found.accuracy["x"] > 0.9
    assert probe_scores(labels, labels, [("x", telling, telling)]) == found


def test_one_label_alone_is_refused() -> None:
    rows = np.zeros((30, 3), np.float32)
    with pytest.raises(InputError, match="All 30 labels are"):
        probe_scores(np.ones(30, int), np.ones(30, int), [("x", rows, rows)])


def test_labels_that_are_mostly_seen_once_are_refused() -> None:
    with pytest.raises(InputError, match="30 rows have 20 different labels, expected at most half as many"):
        require_teachable(np.arange(30) % 20)
    require_teachable(np.arange(30) % 15)
