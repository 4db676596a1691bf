"""Scores of decoders and baselines are what their definitions say, over pairs off the diagonal."""

from __future__ import annotations

import json
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr

from embup_core.blocks import row_blocks
from embup_core.evaluation import (
    Comparison,
    DotProducts,
    MatrixCosines,
    OneCosine,
    Scores,
    baselines,
    evaluate_decoder,
    measure,
    predict_in_blocks,
    sample_test_pairs,
)
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.training.plots import cosine_hexbin
from embup_core.training.split import RowSplit, split_rows

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.decoders import Decoder
    from embup_core.evaluation.cosines import StandardError


@pytest.fixture(scope="module")
def scores(
    split: RowSplit, decoder: Decoder, sample_projected: np.ndarray, sample_matrix: CosineMatrix
) -> Scores:
    return evaluate_decoder(
        decoder,
        sample_projected,
        sample_matrix,
        fit_rows=split.fit_rows,
        eval_rows=split.test,
        fit_s=0.5,
        train_train=True,
    )


def test_scores_agree_with_the_definitions_written_out(
    scores: Scores,
    split: RowSplit,
    decoder: Decoder,
    sample_projected: np.ndarray,
    sample_matrix: CosineMatrix,
) -> None:
    rows = decoder.predict(sample_projected)
    test, fit = split.test, split.fit_rows
    predicted, true = rows @ rows.T, np.array(sample_matrix.memory_map)
    above, above_fit = np.triu_indices(len(test), 1), np.triu_indices(len(fit), 1)
    for found, p, t in (
        (scores.test_test, predicted[np.ix_(test, test)][above], true[np.ix_(test, test)][above]),
        (scores.test_train, predicted[np.ix_(test, fit)].ravel(), true[np.ix_(test, fit)].ravel()),
        (scores.train_train, predicted[np.ix_(fit, fit)][above_fit], true[np.ix_(fit, fit)][above_fit]),
    ):
        assert found is not None
        assert found.pairs == len(p)
        np.testing.assert_allclose(found.rmse, np.sqrt(((p - t) ** 2).mean()), rtol=1e-4)
        np.testing.assert_allclose(found.mae, np.abs(p - t).mean(), rtol=1e-4)
        np.testing.assert_allclose(found.bias, (p - t).mean(), atol=1e-6)
        np.testing.assert_allclose(found.r2, 1 - ((p - t) ** 2).mean() / t.var(), atol=1e-4)
        assert found.spearman == pytest.approx(spearmanr(p, t).statistic, abs=1e-3)
    for k in (1, 5, 10, 50):
        shared = [
            len(set(np.argsort(-predicted[i, fit])[:k]) & set(np.argsort(-true[i, fit])[:k])) for i in test
        ]
        assert getattr(scores, f"recall_at_{k}") == pytest.approx(np.mean(shared) / k)
    assert scores.unit_norm_error is not None
    assert scores.unit_norm_error < 1e-6
    assert scores.fit_s == 0.5


def test_neighbourhoods_among_test_rows_are_those_of_scikit_learn(
    scores: Scores,
    split: RowSplit,
    decoder: Decoder,
    sample_projected: np.ndarray,
    sample_coordinates: np.ndarray,
) -> None:
    from sklearn.manifold import trustworthiness

    original, decoded = sample_coordinates[split.test], decoder.predict(sample_projected[split.test])
    expected = trustworthiness(original, decoded, n_neighbors=10)
    assert scores.trustworthiness_at_10 == pytest.approx(expected, abs=1e-4)
    swapped = trustworthiness(decoded, original, n_neighbors=10)
    assert scores.continuity_at_10 == pytest.approx(swapped, abs=1e-4)


def test_intervals_hold_the_scores_of_the_rows_they_come_from(scores: Scores) -> None:
    assert scores.intervals is not None
    assert scores.intervals.rows == 90
    assert scores.intervals.r2[0] < scores.test_test.r2 < scores.intervals.r2[1]
    assert scores.intervals.rmse[0] < scores.test_test.rmse < scores.intervals.rmse[1]
    overlap = scores.intervals.recall_at_10
    assert overlap is not None
    assert scores.recall_at_10 is not None
    assert overlap[0] < scores.recall_at_10 < overlap[1]


def test_blocks_do_not_change_the_scores(
    scores: Scores,
    split: RowSplit,
    decoder: Decoder,
    sample_projected: np.ndarray,
    sample_matrix: CosineMatrix,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embup_core.evaluation.cosines.row_blocks", partial(row_blocks, block_rows=7))
    again = evaluate_decoder(
        decoder, sample_projected, sample_matrix, fit_rows=split.fit_rows, eval_rows=split.test
    )
    assert again.test_test.rmse == pytest.approx(scores.test_test.rmse, rel=1e-6)
    assert again.test_test.spearman == pytest.approx(scores.test_test.spearman, abs=1e-4)
    assert again.recall_at_50 == pytest.approx(scores.recall_at_50)
    assert again.trustworthiness_at_10 == pytest.approx(scores.trustworthiness_at_10)
    assert again.intervals is not None
    assert scores.intervals is not None
    assert again.intervals.r2 == pytest.approx(scores.intervals.r2, abs=1e-5)


def test_of_many_rows_a_sample_is_held(
    scores: Scores,
    split: RowSplit,
    decoder: Decoder,
    sample_projected: np.ndarray,
    sample_matrix: CosineMatrix,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embup_core.evaluation.scores.HELD_ROWS", 60)
    sampled = evaluate_decoder(
        decoder, sample_projected, sample_matrix, fit_rows=split.fit_rows, eval_rows=split.test
    )
    assert sampled.test_test == scores.test_test
    assert sampled.recall_at_10 == scores.recall_at_10
    assert sampled.intervals is not None
    assert sampled.intervals.rows == 60
    assert sampled.trustworthiness_at_10 != scores.trustworthiness_at_10
    assert sampled.trustworthiness_at_10 == pytest.approx(scores.trustworthiness_at_10, abs=0.1)


def test_what_was_not_asked_for_is_left_out(
    split: RowSplit, decoder: Decoder, sample_projected: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    plain = evaluate_decoder(
        decoder,
        sample_projected,
        sample_matrix,
        fit_rows=split.fit_rows[:30],
        eval_rows=split.test,
        intervals=False,
    )
    assert (plain.intervals, plain.train_train, plain.calibration) == (None, None, None)
    assert plain.recall_at_10 is not None
    assert plain.recall_at_50 is None, "30 rows do not have 50 nearest"


def test_scores_survive_json(scores: Scores) -> None:
    assert Scores.from_json(json.loads(json.dumps(scores.to_json()))) == scores
    assert Scores.from_json(scores.to_json()) == scores


def test_predicted_errors_are_held_against_observed_ones(
    split: RowSplit, decoder: Decoder, sample_projected: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    unseen = decoder.predict(sample_projected[split.test])
    true = MatrixCosines(sample_matrix.memory_map, split.test, split.test)
    half = OneCosine(0.5, true.shape)
    found = measure(Comparison(DotProducts(unseen, unseen), true, standard_error=half))
    assert found.calibration is not None
    assert sum(one.pairs for one in found.calibration) == found.test_test.pairs
    mean_squared = np.mean([one.observed_rmse**2 for one in found.calibration])
    assert np.sqrt(mean_squared) == pytest.approx(found.test_test.rmse, rel=1e-3)
    assert {one.predicted_rmse for one in found.calibration} == {0.5}
    assert (found.test_train, found.recall_at_10) == (None, None)
    assert Scores.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_decoder_is_asked_for_the_errors_of_its_own_cosines(
    split: RowSplit, decoder: Decoder, sample_projected: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    def from_confidence(
        rows: np.ndarray, confidence: np.ndarray, other_rows: np.ndarray, other_confidence: np.ndarray
    ) -> np.ndarray:
        assert len(rows) == len(confidence)
        assert len(other_rows) == len(other_confidence)
        lost: np.ndarray = (1 - confidence)[:, None] + (1 - other_confidence)[None, :]
        return lost**0.5

    def scored(of: StandardError) -> Scores:
        return evaluate_decoder(
            decoder,
            sample_projected,
            sample_matrix,
            fit_rows=split.fit_rows,
            eval_rows=split.test,
            standard_error=of,
        )

    deciles = scored(from_confidence).calibration
    assert deciles is not None
    lost = 1 - decoder.predict_with_confidence(sample_projected[split.test])[1]
    mean_squared = np.mean([one.predicted_rmse**2 * one.pairs for one in deciles]) * 10 / (90 * 89 / 2)
    assert mean_squared == pytest.approx(2 * lost.mean(), rel=1e-4)  # each row is in equally many pairs
    assert scored(lambda *_: None).calibration is None


def test_progress_is_told_to_the_end(
    split: RowSplit, decoder: Decoder, sample_projected: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    unseen = decoder.predict(sample_projected[split.test])
    pairs = Comparison(
        DotProducts(unseen, unseen), MatrixCosines(sample_matrix.memory_map, split.test, split.test)
    )
    told: list[tuple[str, int, int | None]] = []
    measure(pairs, pairs, progress=lambda *step: told.append(step))
    assert told == [("comparing test x test", 90, 90), ("comparing test x train", 90, 90)]


def test_a_perfect_decoder_scores_perfectly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((200, 32)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    np.save(tmp_path / "cosines.npy", z @ z.T)
    matrix = CosineMatrix.open(tmp_path / "cosines.npy")
    split = split_rows(200)
    scores = baselines(z, z, matrix, fit_rows=split.fit_rows, eval_rows=split.test)["projected_cosines"]
    assert scores.test_test.rmse < 1e-6
    assert scores.test_test.r2 == pytest.approx(1)
    assert scores.test_test.pearson == pytest.approx(1)
    assert (scores.recall_at_1, scores.recall_at_10, scores.recall_at_50) == (1, 1, 1)
    assert scores.trustworthiness_at_10 == scores.continuity_at_10 == 1


def test_the_constant_is_the_mean_of_the_fitted_rows_and_ranks_nothing(
    split: RowSplit, sample_projected: np.ndarray, sample_coordinates: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    scores = baselines(
        sample_projected, sample_coordinates, sample_matrix, fit_rows=split.fit_rows, eval_rows=split.test
    )["constant_mean"]
    true = np.array(sample_matrix.memory_map)
    fit, test = split.fit_rows, split.test
    mean = true[np.ix_(fit, fit)][np.triu_indices(len(fit), 1)].mean()
    expected = mean - true[np.ix_(test, test)][np.triu_indices(len(test), 1)].mean()
    assert scores.test_test.bias == pytest.approx(expected, abs=1e-5)
    assert (scores.test_test.spearman, scores.test_test.pearson) == (None, None)
    assert (scores.recall_at_10, scores.trustworthiness_at_10) == (None, None)
    assert scores.test_test.r2 <= 0


def test_sampled_pairs_are_never_on_the_diagonal_and_draw_a_picture(
    split: RowSplit, decoder: Decoder, sample_projected: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    decoded = decoder.predict(sample_projected[split.test])
    true, predicted = sample_test_pairs(decoded, sample_matrix, eval_rows=split.test, pairs=5000)
    assert true.max() < 1 - 1e-6
    assert np.corrcoef(true, predicted)[0, 1] > 0.3
    assert cosine_hexbin(true, predicted, title="sample").startswith(b"\x89PNG")


def test_predicting_in_blocks_is_predicting(decoder: Decoder, sample_projected: np.ndarray) -> None:
    np.testing.assert_allclose(
        predict_in_blocks(decoder, sample_projected), decoder.predict(sample_projected), atol=1e-6
    )


def test_decoded_rows_are_held_once(decoder: Decoder, sample_projected: np.ndarray) -> None:
    projected = np.tile(sample_projected, (10, 1))
    tracemalloc.start()
    try:
        rows = predict_in_blocks(decoder, projected)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * rows.nbytes
