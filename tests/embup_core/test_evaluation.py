"""Scores are what their definitions say, over pairs off the diagonal."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from embup_core.cosine_matrix import CosineMatrix
from embup_core.decoders.kriging import KrigingDecoder
from embup_core.evaluation import baselines, evaluate_decoder, predict_in_blocks, sample_test_pairs
from embup_core.plots import cosine_hexbin
from embup_core.row_split import RowSplit, split_rows
from embup_core.scores_table import COLUMNS, markdown_table, scores_table


@pytest.fixture(scope="module")
def split() -> RowSplit:
    return split_rows(600)


@pytest.fixture(scope="module")
def decoder(split: RowSplit, sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> KrigingDecoder:
    return KrigingDecoder().fit(sample_projected[split.fit_rows], sample_coordinates[split.fit_rows])


def test_scores_agree_with_the_definitions_written_out(
    split: RowSplit, decoder: KrigingDecoder, sample_projected: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    scores = evaluate_decoder(
        decoder, sample_projected, sample_matrix, fit_rows=split.fit_rows, eval_rows=split.test
    )
    rows = decoder.predict(sample_projected)
    test, fit = split.test, split.fit_rows
    predicted, true = rows @ rows.T, np.array(sample_matrix.memory_map)
    above = np.triu_indices(len(test), 1)
    for found, p, t in (
        (scores.test_test, predicted[np.ix_(test, test)][above], true[np.ix_(test, test)][above]),
        (scores.test_train, predicted[np.ix_(test, fit)].ravel(), true[np.ix_(test, fit)].ravel()),
    ):
        assert found.pairs == len(p)
        np.testing.assert_allclose(found.rmse, np.sqrt(((p - t) ** 2).mean()), rtol=1e-4)
        np.testing.assert_allclose(found.mae, np.abs(p - t).mean(), rtol=1e-4)
        np.testing.assert_allclose(found.bias, (p - t).mean(), atol=1e-6)
        np.testing.assert_allclose(found.r2, 1 - ((p - t) ** 2).mean() / t.var(), atol=1e-4)
        assert found.spearman == pytest.approx(spearmanr(p, t).statistic, abs=1e-3)
    shared = [
        len(set(np.argsort(-predicted[i, fit])[:10]) & set(np.argsort(-true[i, fit])[:10])) for i in test
    ]
    assert scores.overlap_at_10 == pytest.approx(np.mean(shared) / 10)
    assert scores.unit_norm_error is not None
    assert scores.unit_norm_error < 1e-6


def test_blocks_do_not_change_the_scores(
    split: RowSplit,
    decoder: KrigingDecoder,
    sample_projected: np.ndarray,
    sample_matrix: CosineMatrix,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rmse() -> float:
        return evaluate_decoder(
            decoder, sample_projected, sample_matrix, fit_rows=split.fit_rows, eval_rows=split.test
        ).test_test.rmse

    whole = rmse()
    monkeypatch.setattr("embup_core.evaluation._BLOCK_ROWS", 7)
    assert rmse() == pytest.approx(whole, rel=1e-6)


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
    assert scores.overlap_at_10 == 1


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
    assert scores.test_test.spearman is None
    assert scores.overlap_at_10 is None
    assert scores.test_test.r2 <= 0


def test_the_table_lines_up_and_ends_with_the_best(
    split: RowSplit,
    decoder: KrigingDecoder,
    sample_projected: np.ndarray,
    sample_coordinates: np.ndarray,
    sample_matrix: CosineMatrix,
) -> None:
    fit, test = split.fit_rows, split.test
    scores = {
        "kriging": evaluate_decoder(decoder, sample_projected, sample_matrix, fit_rows=fit, eval_rows=test)
    }
    scores |= baselines(sample_projected, sample_coordinates, sample_matrix, fit_rows=fit, eval_rows=test)
    columns, cells = scores_table(scores)
    assert columns == COLUMNS
    assert [row[0] for row in cells][-1] == "kriging"
    assert {len(row) for row in cells} == {len(COLUMNS)}
    assert len({len(line) for line in markdown_table(scores).splitlines()}) == 1


def test_sampled_pairs_are_never_on_the_diagonal_and_draw_a_picture(
    split: RowSplit, decoder: KrigingDecoder, sample_projected: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    true, predicted = sample_test_pairs(
        decoder, sample_projected, sample_matrix, eval_rows=split.test, pairs=5000
    )
    assert true.max() < 1 - 1e-6
    assert np.corrcoef(true, predicted)[0, 1] > 0.3
    assert cosine_hexbin(true, predicted, title="sample").startswith(b"\x89PNG")


def test_predicting_in_blocks_is_predicting(decoder: KrigingDecoder, sample_projected: np.ndarray) -> None:
    np.testing.assert_allclose(
        predict_in_blocks(decoder, sample_projected), decoder.predict(sample_projected), atol=1e-6
    )
