"""Anchors of a source in the graph: checked with its files, scored, and published with the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.errors import InvalidDataError
from embup_core.sources import ANCHOR_ROWS_FILE, ANCHORS_FILE
from pipelines.run import train_and_publish

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import AnchoredSource


@pytest.fixture
def folder(anchored_source: AnchoredSource, tmp_path: Path) -> Path:
    """A copy whose small files a test may replace."""
    copy = tmp_path / "own"
    copy.mkdir()
    for path in anchored_source.files.projected.parent.iterdir():
        (copy / path.name).symlink_to(path)
    return copy


def test_a_run_publishes_the_rotation(folder: Path, anchored_source: AnchoredSource, tmp_path: Path) -> None:
    result = train_and_publish(
        str(folder), tmp_path / "registry", tmp_path / "data", "kriging", output_dims=100
    )
    assert result.model.anchor_scores == result.evaluation.anchors["kriging"]
    turned, _ = result.model.upsample(anchored_source.unseen_projected, basis="original")
    assert np.median(np.vecdot(turned, anchored_source.unseen_originals)) > 0.7
    assert not result.warnings


@pytest.mark.parametrize("file", [ANCHORS_FILE, ANCHOR_ROWS_FILE])
def test_wrong_anchors_stop_the_run_before_anything_is_fitted(
    folder: Path, tmp_path: Path, file: str
) -> None:
    """In the asset of the file, where the file alone is wrong, or in the matrix's."""
    wrong = np.load(folder / file)
    wrong[1] = wrong[0]
    (folder / file).unlink()
    np.save(folder / file, wrong)
    with pytest.raises(InvalidDataError, match=file.replace(".", r"\.")):
        train_and_publish(str(folder), tmp_path / "registry", tmp_path / "data", "kriging", output_dims=100)
    assert not list((tmp_path / "registry").glob("2*"))
