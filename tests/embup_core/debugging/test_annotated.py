"""An analysis finds what was planted, and says what it cannot find."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.debugging.analysis import AnnotatedRows, Prediction
from embup_core.debugging.annotated import analyse_annotated
from embup_core.debugging.kinds import FINDING_KINDS, SCORE_KINDS, SEVERITIES
from embup_core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from embup_core.debugging.analysis import Analysis, Finding
    from tests.embup_core.debugging.conftest import Planted


@pytest.fixture(scope="module")
def analysis(planted: Planted) -> Analysis:
    return analyse_annotated(planted.rows)


def of_kind(analysis: Analysis, kind: str) -> list[Finding]:
    return [finding for finding in analysis.findings if finding.kind == kind]


def test_wrong_labels_come_first(planted: Planted, analysis: Analysis) -> None:
    suspects = [int(finding.rows[0]) for finding in of_kind(analysis, "label_error")]
    wrong = {*planted.wrong.tolist(), planted.contradicting[1]}
    assert len(wrong & set(suspects[: len(wrong)])) >= 0.8 * len(wrong)
    for finding in of_kind(analysis, "label_error")[:5]:
        assert finding.evidence["predicted"] == planted.truth[int(finding.rows[0])]
        assert len(finding.evidence["neighbours"]) == 3


def test_number_of_errors_is_estimated(planted: Planted, analysis: Analysis) -> None:
    estimated = analysis.summary["classifier"]["estimated_label_errors"]
    assert len(planted.wrong) / 2 <= estimated <= 2 * len(planted.wrong)


def test_a_contradiction_and_a_leak_are_certain(planted: Planted, analysis: Analysis) -> None:
    (contradiction,) = of_kind(analysis, "contradicting_labels")
    assert tuple(contradiction.rows) == planted.contradicting
    leaks = [
        finding for finding in of_kind(analysis, "duplicate_across_usages") if finding.severity == "error"
    ]
    assert {tuple(finding.rows.tolist()) for finding in leaks} == {planted.contradicting, planted.leaked}
    assert {leak["usage"] for leak in analysis.summary["leaks"]} == {"test"}


def test_rows_to_label_have_no_label(planted: Planted, analysis: Analysis) -> None:
    (finding,) = of_kind(analysis, "label_next")
    assert len(set(finding.rows.tolist())) == len(finding.rows) == 40
    assert all(planted.rows.labels[row] is None for row in finding.rows)


def test_everything_is_named_and_plain(planted: Planted, analysis: Analysis) -> None:
    assert set(analysis.scores) <= set(SCORE_KINDS)
    assert {finding.kind for finding in analysis.findings} <= set(FINDING_KINDS)
    n_rows = len(planted.rows.labels)
    assert all(
        scores.shape == (n_rows,) and scores.dtype == np.float64 for scores in analysis.scores.values()
    )
    assert analysis.positions is not None
    assert analysis.positions.shape == (n_rows, 2)
    assert analysis.neighbours["text"].rows.shape == (n_rows, 10)
    json.dumps(dict(analysis.summary), allow_nan=False)
    for finding in analysis.findings:
        json.dumps(dict(finding.evidence), allow_nan=False)
        assert finding.title.endswith(".")
        assert finding.suggestion.endswith(".")
    places = [list(SEVERITIES).index(finding.severity) for finding in analysis.findings]
    assert places == sorted(places)


def test_the_same_rows_give_the_same_analysis(planted: Planted, analysis: Analysis) -> None:
    again = analyse_annotated(planted.rows)
    assert [finding.title for finding in again.findings] == [finding.title for finding in analysis.findings]
    for kind, scores in analysis.scores.items():
        np.testing.assert_array_equal(scores, again.scores[kind])


def test_given_predictions_are_judged_outside_of_their_fit(planted: Planted) -> None:
    classes = tuple(sorted(set(planted.truth)))
    codes = np.array([classes.index(label) for label in planted.truth])
    probabilities = np.where(np.arange(4) == codes[:, None], 0.97, 0.01).astype(np.float32)
    in_sample = np.zeros(len(codes), bool)
    seen = int(planted.wrong[0])
    in_sample[seen] = True
    given = Prediction("file: model", classes, probabilities, in_sample)
    analysis = analyse_annotated(planted.rows, predictions=[given])
    rows = {int(finding.rows[0]) for finding in of_kind(analysis, "confident_disagreement")}
    assert rows == {*planted.wrong.tolist(), planted.contradicting[1]} - {seen}
    assert analysis.predictions[-1].source == "file: model"
    assert "wrong_predictions of file: model" in {one.metric for one in analysis.slices}


def test_embeddings_are_preferred_where_they_tell_more(planted: Planted) -> None:
    rng = np.random.default_rng(0)
    classes = sorted(set(planted.truth))
    truth = np.array([classes.index(label) for label in planted.truth])
    embedding = (np.eye(64)[truth] + 0.05 * rng.standard_normal((len(truth), 64))).astype(np.float32)
    noise = rng.standard_normal((len(truth), 32)).astype(np.float32)
    analysis = analyse_annotated(replace(planted.rows, features={"projected": noise, "embedding": embedding}))
    losses = analysis.summary["classifier"]["log_loss"]
    assert analysis.summary["classifier"]["features"] == "embedding"
    assert losses["embedding"] < losses["text"] < losses["projected"]


ODD: dict[str, Any] = {
    "no labels": {"labels": [None] * 40},
    "one class": {"labels": ["a"] * 40},
    "one row": {"labels": ["a"], "texts": ["hello"]},
    "each row a class": {"labels": [str(i) for i in range(40)]},
    "empty texts": {"labels": ["a", "b"] * 20, "texts": [""] * 40},
    "equal texts": {"labels": ["a", "b"] * 20, "texts": ["the same"] * 40},
    "no features": {"labels": ["a", "b"] * 20, "texts": None},
    "vectors of NaN": {
        "labels": ["a", "b"] * 20, "texts": None,
        "features": {"embedding": np.full((40, 8), np.nan, np.float32)},
    },
    "vectors of zeros": {
        "labels": ["a", "b"] * 20, "texts": None, "features": {"embedding": np.zeros((40, 8), np.float32)},
    },
    "a class of one row": {"labels": ["a", "b"] * 19 + ["c", None]},
    "hostile texts": {
        "labels": ["a", "b", "c", "d"] * 10,
        "texts": ["<script>x</script>", "\x00\x00", "\u202eabc", "x" * 1_000_000, "\ud800", "=cmd()", "",
                  "é"] * 5,
    },
    "one dimension": {
        "labels": ["a", "b"] * 20, "texts": None,
        "features": {"projected": np.linspace(-1, 1, 40, dtype=np.float32)[:, None]},
    },
    "scores of NaN": {"labels": ["a", "b"] * 20, "given_scores": np.full(40, np.nan)},
    "usages of few rows": {"labels": ["a", "b"] * 20, "usages": ["train"] * 38 + ["test", None]},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("error")
def test_odd_sets_are_analysed_as_far_as_possible(name: str) -> None:
    given = {"texts": [f"word{i} common" for i in range(40)], **ODD[name]}
    analysis = analyse_annotated(AnnotatedRows(**given))
    assert analysis.summary["rows"] == len(given["labels"])
    judged = "label_error" in analysis.scores
    assert judged != bool(of_kind(analysis, "not_analysed"))
    json.dumps(dict(analysis.summary), allow_nan=False)


def test_three_thousand_classes() -> None:
    rng = np.random.default_rng(0)
    labels = [str(i) for i in np.repeat(np.arange(3000), 2)]
    vectors = np.repeat(rng.standard_normal((3000, 16)), 2, axis=0).astype(np.float32)
    vectors += 0.01 * rng.standard_normal(vectors.shape).astype(np.float32)
    analysis = analyse_annotated(AnnotatedRows(list(labels), features={"embedding": vectors}))
    assert analysis.summary["labels"]["classes"] == 3000
    assert analysis.summary["classifier"]["accuracy"]["embedding"] > 0.9


def test_other_lengths_are_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        analyse_annotated(AnnotatedRows(["a", "b"], texts=["one"]))
    with pytest.raises(InvalidArgumentError):
        analyse_annotated(AnnotatedRows([]))


@pytest.mark.parametrize("with_vectors", [False, True])
def test_rows_that_are_left_out_count_for_nothing(planted: Planted, with_vectors: bool) -> None:
    n_rows = len(planted.rows.labels)
    left_out = np.zeros(n_rows, dtype=bool)
    left_out[[planted.contradicting[1], planted.leaked[1], *planted.wrong[:3], n_rows - 1, n_rows - 2]] = True
    rows = replace(planted.rows, left_out=left_out)
    if with_vectors:
        vectors = np.random.default_rng(0).standard_normal((n_rows, 16)).astype(np.float32)
        vectors[n_rows - 3] = vectors[n_rows - 2]
        rows = replace(rows, features={"embedding": vectors})
    labels = ("card", "travel")
    given = Prediction("given", labels, np.full((n_rows, 2), 0.5, np.float32), np.zeros(n_rows, dtype=bool))
    whole = analyse_annotated(replace(rows, left_out=None), predictions=[given])
    found = analyse_annotated(rows, predictions=[given])
    assert np.isin(np.flatnonzero(left_out), np.concatenate([one.rows for one in whole.findings])).any()
    named = [one.rows for one in found.findings] + [one.rows for one in found.slices]
    assert not left_out[np.concatenate(named)].any()
    for kind, scores in found.scores.items():
        assert np.isnan(scores[left_out]).all(), kind
    for neighbours in found.neighbours.values():
        assert not left_out[neighbours.rows[neighbours.rows >= 0]].any()
        assert (neighbours.rows[left_out] == -1).all()
    assert all(np.isnan(one.probabilities[left_out]).all() for one in found.predictions)
    assert found.summary["labels"]["unlabelled"] == whole.summary["labels"]["unlabelled"] - 2
    assert found.summary["left_out"] == left_out.sum()
    copies = {"contradicting_labels", "duplicate_across_usages", "duplicates"}
    assert not [one for one in found.findings if one.kind in copies]


@pytest.mark.parametrize("dropped", [0, 20])
def test_copies_by_their_vectors_do_not_show_what_decisions_are_worth(dropped: int) -> None:
    """Labels are noise, and each vector stands twice with one of them: it is not to be told from its copy."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.standard_normal((100, 16)), 2, axis=0).astype(np.float32)
    labels: list[str | None] = [f"class {code}" for code in np.repeat(rng.integers(0, 3, 100), 2)]
    left_out = np.arange(200) < dropped
    relabelled = ["class 0", *labels[1:]]
    rows = AnnotatedRows(
        relabelled, features={"vector": vectors}, left_out=left_out, first_labels=["class 1", *labels[1:]]
    )
    effect = analyse_annotated(rows).summary["review_effect"]
    assert effect["before"]["rows"] == effect["after"]["rows"] == 200 - dropped
    assert effect["before"]["accuracy"] < 0.6
    assert effect["after"]["accuracy"] < 0.6
