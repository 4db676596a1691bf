"""Scores by group are what their definitions say, and small groups are not told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.evaluation import DecodedRows
from embup_core.evaluation.groups import FEWEST_ROWS, score_groups

if TYPE_CHECKING:
    from embup_core.decoders import Decoder
    from embup_core.sources.cosine_matrix import CosineMatrix
    from embup_core.training.split import RowSplit


def test_groups_have_the_errors_and_the_recall_of_their_rows(
    split: RowSplit, decoder: Decoder, sample_projected: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    test, fit = split.test, split.fit_rows
    decoded = DecodedRows.by(decoder, sample_projected)
    corpus = np.where(np.arange(len(test)) % 3 == 0, "news", "mail")
    few = np.where(np.arange(len(test)) < FEWEST_ROWS - 1, "few", "many")
    found = score_groups(
        decoded[test],
        decoded[fit],
        sample_matrix,
        {"corpus": corpus, "size": few, "same": np.zeros(len(test), int)},
        fit_rows=fit,
        eval_rows=test,
    )
    assert [(one.kind, one.rows) for one in found if one.kind != "corpus"] == [
        ("all", len(test)),
        ("size", len(test) - FEWEST_ROWS + 1),
    ]
    told = {one.name: one for one in found if one.kind == "corpus"}
    assert set(told) == {"news", "mail"}
    assert list(told.values()) == sorted(told.values(), key=lambda one: -one.rmse)
    predicted = decoded.rows[test] @ decoded.rows[fit].T
    true = sample_matrix.rows(test)[:, fit]
    for name, one in told.items():
        rows = corpus == name
        errors = (predicted - true)[rows]
        assert one.rows == rows.sum()
        assert one.rmse == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-4)
        assert one.bias == pytest.approx(errors.mean(), abs=1e-6)
        nearest = [
            len(set(np.argsort(-p)[:10]) & set(np.argsort(-t)[:10])) / 10
            for p, t in zip(predicted[rows], true[rows], strict=True)
        ]
        assert one.recall_at_10 == pytest.approx(np.mean(nearest), abs=0.01)
