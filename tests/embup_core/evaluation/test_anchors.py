"""Held-out scores of anchors say what fresh originals will find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.anchors import mean_dims
from embup_core.evaluation.anchors import score_against_rows, score_among_anchors
from embup_core.sources.cosine_matrix import CosineMatrix

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.artifacts.registry import Registry
    from tests.conftest import AnchoredSource


def _r2(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    return 1 - float(np.square(predicted - true).mean() / true.var())


def _world(rows: int, *, dims: int = 40, d: int = 10) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Originals of some dimensions fewer than `dims`, and themselves in axes of their own."""
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, d)) + 0.5
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    decoded = np.pad(x, ((0, 0), (0, dims - d))).astype(np.float32)
    turn, _ = np.linalg.qr(rng.standard_normal((dims, dims)))
    return decoded, (decoded @ turn).astype(np.float32)


def test_exact_rows_have_exact_scores_and_no_row_finds_itself() -> None:
    decoded, originals = _world(520)
    scores = score_among_anchors(decoded, originals, mean_dims=10)
    assert scores.r2 == pytest.approx(1, abs=1e-6)
    assert scores.recall_at_10 == pytest.approx(1, abs=0.01)
    assert (scores.anchors, scores.documents) == (520, 103)


def test_too_few_rows_have_no_recall() -> None:
    decoded, originals = _world(100)
    assert score_among_anchors(decoded, originals, mean_dims=10).recall_at_10 is None


def test_originals_of_other_rows_score_worse_than_the_mean_cosine() -> None:
    decoded, originals = _world(300)
    assert score_among_anchors(decoded, np.roll(originals, 7, axis=0), mean_dims=10).r2 < 0


def test_the_sample_is_searched_without_the_query_itself(tmp_path: Path) -> None:
    decoded, originals = _world(400)
    np.save(tmp_path / "g.npy", originals @ originals.T)
    anchors, unseen = np.arange(0, 400, 2), np.arange(150, 300)
    scores = score_against_rows(
        decoded[anchors, :10].copy(),
        originals[anchors],
        decoded[unseen],
        CosineMatrix.open(tmp_path / "g.npy"),
        anchor_rows=anchors,
        rows=unseen,
    )
    assert scores.documents == 149
    assert scores.r2 == pytest.approx(1, abs=1e-6)
    assert scores.recall_at_10 == pytest.approx(1, abs=0.01)


def test_the_score_of_a_decoder_is_what_fresh_originals_meet(
    anchored_registry: Registry, anchored_source: AnchoredSource
) -> None:
    """In training, by rows of the sample; afterwards, by anchors that it has never seen."""
    model = anchored_registry.load()
    x, z = anchored_source.unseen_originals, anchored_source.unseen_projected
    turned, _ = model.upsample(z[200:], basis="original")
    met = _r2(x[:200] @ turned.T, x[:200] @ x[200:].T)
    assert model.anchor_scores is not None
    assert met > 0.8
    assert model.anchor_scores.r2 == pytest.approx(met, abs=0.06)
    dims = mean_dims(anchored_registry.load_artifact().decoder)
    assert dims == 74
    afterwards = score_among_anchors(model.upsample(z)[0], x, mean_dims=dims)
    assert afterwards.r2 == pytest.approx(met, abs=0.06)
