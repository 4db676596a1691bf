"""Folds, out-of-fold probabilities, scores and suggestions."""

from __future__ import annotations

import numpy as np
import pytest

from embup_core.debugging.features.neighbours import nearest_rows
from embup_core.debugging.labels.calibration import reliability
from embup_core.debugging.labels.classification import classify, out_of_fold
from embup_core.debugging.labels.coding import code_labels, fold_rows
from embup_core.debugging.labels.label_errors import (
    class_overlap,
    confident_joint,
    estimated_errors,
    heed_copies,
    score_labels,
)
from embup_core.debugging.labels.review_effect import review_effect
from embup_core.debugging.labels.suggestions import suggest_rows
from tests.embup_core.debugging.conftest import blobs


def names(codes: np.ndarray) -> list[str | None]:
    return [f"class {code}" for code in codes]


def test_copies_share_a_fold_and_classes_are_spread() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 400)
    sets = rng.integers(0, 250, 400)
    fold = fold_rows(codes, sets)
    assert all(len(set(fold[sets == number])) == 1 for number in np.unique(sets))
    counts = np.array([np.bincount(fold[codes == code], minlength=5) for code in range(4)])
    assert counts.min() >= 8


def test_a_label_on_copies_only_is_left_out() -> None:
    coded = code_labels(["a", "a", "b", "b", "c", None, "a"], np.array([0, 1, 2, 2, 3, 4, 5]))
    assert coded.classes == ("a",)
    assert coded.left_out == {"b": 2, "c": 1}
    assert coded.why_not() is not None


def test_probabilities_do_not_know_the_label_they_judge() -> None:
    """Labels drawn at random cannot be told, however well a classifier learns them by heart."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.standard_normal((150, 10)), 2, axis=0).astype(np.float32)
    copies = np.repeat(np.arange(150), 2)
    labels = names(np.repeat(rng.integers(0, 3, 150), 2))
    coded = code_labels(labels, copies)
    p = out_of_fold(vectors, coded, copies)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-4)
    assert (p.argmax(axis=1) == coded.codes).mean() < 0.45
    leaking = out_of_fold(vectors, coded, np.arange(300))
    assert (leaking.argmax(axis=1) == coded.codes).mean() > 0.9


def test_the_kind_of_least_loss_is_chosen_and_rows_without_vector_have_no_say() -> None:
    vectors, codes = blobs(3, 40)
    vectors[5] = np.nan
    noise = np.random.default_rng(1).standard_normal(vectors.shape).astype(np.float32)
    coded = code_labels([*names(codes[:110]), *[None] * 10], np.arange(120))
    found = classify({"noise": noise, "good": vectors}, coded, np.arange(120))
    assert found is not None
    assert found.kind == "good"
    assert found.losses["good"] < 0.3
    assert found.losses["noise"] > 0.9
    assert np.isnan(found.probabilities[5]).all()
    assert (found.probabilities[110:].argmax(axis=1) == codes[110:]).all()


def test_scores_of_known_probabilities() -> None:
    p = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.5, 0.5, 0.0], [np.nan] * 3], np.float32)
    scores = score_labels(p, np.array([0, 0, -1, 1]))
    np.testing.assert_allclose(scores.lead[:2], [-0.8, 0.5], atol=1e-6)
    np.testing.assert_allclose(scores.label_error[:2], [(0.1 - 0.8 + 1) / 3, (0.8 + 0.5 + 1) / 3], atol=1e-6)
    assert np.isnan(scores.label_error[2:]).all()
    np.testing.assert_allclose(scores.margin[:3], [0.8, 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(scores.entropy[2], np.log(2), atol=1e-6)
    assert scores.predicted.tolist()[:2] == [0, 1]
    assert scores.predicted[3] == -1


def test_copies_with_another_label_raise_its_probability() -> None:
    p = np.array([[0.5, 0.3, 0.2]] * 4, np.float32)
    heeded = heed_copies(p, np.array([0, 1, 0, 0]), np.array([7, 7, 8, 8]))
    np.testing.assert_allclose(heeded[0], [0.5 / 1.4, 0.9 / 1.4, 0], atol=1e-6)
    np.testing.assert_allclose(heeded[1], [1.5 / 1.8, 0.3 / 1.8, 0], atol=1e-6)
    np.testing.assert_array_equal(heeded[2:], p[2:])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2])
def test_errors_are_counted_about_right(share: float) -> None:
    vectors, codes = blobs(4, 150, spread=0.7)
    rng = np.random.default_rng(0)
    wrong = rng.choice(600, int(share * 600), replace=False)
    given = codes.copy()
    given[wrong] = (codes[wrong] + rng.integers(1, 4, len(wrong))) % 4
    coded = code_labels(names(given), np.arange(600))
    joint = confident_joint(out_of_fold(vectors, coded, np.arange(600)), coded.codes)
    np.testing.assert_allclose(joint.sum(axis=1), np.bincount(coded.codes))
    assert abs(estimated_errors(joint) - len(wrong)) < 0.25 * len(wrong) + 12


def test_overlap_is_between_the_classes_that_overlap() -> None:
    vectors, codes = blobs(4, 50, spread=0.2)
    codes = np.where(codes == 3, np.random.default_rng(0).integers(2, 4, len(codes)), codes)
    shares = class_overlap(nearest_rows(vectors, 10), codes, 4)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    vectors, codes = blobs(2, 50, spread=0.1)
    mixed = np.where(codes == 0, 0, np.random.default_rng(0).integers(1, 3, len(codes)))
    shares = class_overlap(nearest_rows(vectors, 10), mixed, 3)
    assert shares[1, 2] > 0.3
    assert shares[0, 1] == shares[1, 0] == 0


def test_reliability_of_an_overconfident_classifier() -> None:
    rng = np.random.default_rng(0)
    p = np.tile(np.array([0.95, 0.05], np.float32), (1000, 1))
    codes = (rng.random(1000) > 0.7).astype(np.int64)
    found = reliability(p, codes)
    assert found is not None
    assert found.calibration_error == pytest.approx(0.95 - found.accuracy, abs=1e-3)
    assert [(one.low, one.rows) for one in found.bins] == [(0.9, 1000)]
    assert found.bins[0].accuracy_low < 0.7 < found.bins[0].accuracy_high
    assert reliability(p, np.full(1000, -1)) is None


def test_suggestions_are_uncertain_and_of_all_kinds() -> None:
    vectors, codes = blobs(6, 60)
    margin = np.full(360, 0.9)
    margin[codes < 5] = 0.1 + 0.001 * np.random.default_rng(0).random((codes < 5).sum())
    unlabelled = np.ones(360, bool)
    unlabelled[:60] = False
    chosen = suggest_rows(margin, vectors, unlabelled, count=10)
    assert len(set(chosen.tolist())) == 10
    assert chosen.min() >= 60
    np.testing.assert_array_equal(chosen, suggest_rows(margin, vectors, unlabelled, count=10))
    least = np.flatnonzero(unlabelled)[np.argsort(margin[60:])[:10]]
    assert len(set(codes[chosen])) >= len(set(codes[least]))
    assert (margin[chosen] < 0.2).all()


def test_of_copies_one_is_suggested() -> None:
    vectors = np.repeat(np.eye(8, dtype=np.float32), 5, axis=0)
    chosen = suggest_rows(
        np.full(40, 0.1), vectors, np.ones(40, bool), count=20, sets=np.repeat(np.arange(8), 5)
    )
    assert sorted(chosen.tolist()) == list(range(0, 40, 5))


def test_a_review_raises_the_accuracy() -> None:
    vectors, codes = blobs(4, 100, spread=1.2)
    rng = np.random.default_rng(0)
    given = codes.copy()
    wrong = np.setdiff1d(rng.choice(400, 120, replace=False), np.arange(0, 400, 4))
    given[wrong] = (codes[wrong] + 1) % 4
    usages = ["test" if i % 4 == 0 else "train" for i in range(400)]
    effect = review_effect(vectors, names(given), names(codes), np.arange(400), usages=usages)
    assert effect is not None
    assert effect.judged_on == "test rows"
    assert effect.before.rows == effect.after.rows == 100
    assert effect.after.accuracy > effect.before.accuracy
    assert review_effect(vectors, [None] * 400, names(codes), np.arange(400)) is None


def test_dropping_copies_of_test_rows_is_worth_nothing() -> None:
    """Labels are noise: a classifier that knows copies of test rows by heart is not better for it."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 24)).astype(np.float32)
    vectors[150:] = vectors[:50]
    labels = names(rng.integers(0, 2, 200))
    labels[150:] = labels[:50]
    copies = np.arange(200)
    copies[150:] = copies[:50]
    usages = ["train"] * 150 + ["test"] * 50
    effect = review_effect(vectors, labels, [None] * 50 + labels[50:], copies, usages=usages)
    assert effect is not None
    assert effect.judged_on == "test rows"
    assert effect.before == effect.after
    assert effect.before.accuracy < 0.75


@pytest.mark.parametrize(
    ("unlabelled_before", "unlabelled_test_rows"), [(slice(0, 170), 0), (slice(0, 0), 27)]
)
def test_test_rows_are_judged_only_with_labels_enough(
    unlabelled_before: slice, unlabelled_test_rows: int
) -> None:
    """30 test rows: no training row had a label before the review, or three of these rows have one."""
    vectors, codes = blobs(3, 70)
    reviewed = names(codes[:200])
    reviewed[200 - unlabelled_test_rows :] = [None] * unlabelled_test_rows
    before = list(reviewed)
    before[unlabelled_before] = [None] * len(before[unlabelled_before])
    usages = ["train"] * 170 + ["test"] * 30
    effect = review_effect(vectors[:200], before, reviewed, np.arange(200), usages=usages)
    assert effect is not None
    assert effect.judged_on == "left-out rows"
    assert effect.before.rows == effect.after.rows == 200 - unlabelled_test_rows
    assert effect.before.accuracy > 0.9


def test_a_row_that_got_the_label_of_its_copy_is_not_judged() -> None:
    vectors, codes = blobs(2, 40)
    vectors[40:] = vectors[:40]
    codes[40:] = codes[:40]
    before = names(codes[:40]) + [None] * 40
    effect = review_effect(vectors, before, names(codes), np.tile(np.arange(40), 2))
    assert effect is not None
    assert effect.before.rows == effect.after.rows == 40
