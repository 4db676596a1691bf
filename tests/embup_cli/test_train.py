"""`embup train`: wrong data is named before anything is trained. Training itself: tests/e2e."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_source_that_is_not_there_is_bad_input(embup: Callable[..., Any], tmp_path: Path) -> None:
    result = embup(
        "train", "--source", tmp_path / "none", "--registry", tmp_path / "r", "--data", tmp_path / "d"
    )
    assert result.returncode == 2
    assert str(tmp_path / "none") in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "r").exists() or not any((tmp_path / "r").iterdir())


def test_data_that_is_not_what_it_should_be_is_named(embup: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = np.random.default_rng(0).standard_normal((100, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[41, 3] = np.nan
    np.save(source / "projected_train_embs.npy", rows)
    np.save(source / "og_train_cos_theta.npy", np.eye(100, dtype=np.float32))
    result = embup("train", "--source", source, "--registry", tmp_path / "r", "--data", tmp_path / "d")
    assert result.returncode == 2
    assert "projected_train_embs.npy" in result.stderr
    assert "41" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_decoder_is_answered_with_the_known_ones(
    embup: Callable[..., Any], tmp_path: Path
) -> None:
    result = embup("train", "--decoder", "oracle", "--registry", tmp_path / "r", "--data", tmp_path / "d")
    assert result.returncode == 2
    assert "oracle" in result.stderr
    assert "kriging" in result.stderr
