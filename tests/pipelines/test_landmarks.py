"""The graph on a source of landmark columns: coordinates are recovered first, and never copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.artifacts.registry import Registry
from tests.landmarks import landmark_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipelines.settings import PipelineSettings


def test_the_graph_trains_on_landmark_columns(
    run: Callable[..., Any], settings: PipelineSettings, tmp_path: Path
) -> None:
    made = landmark_folder(
        tmp_path / "source", rows=1500, landmarks=96, dims=40, input_dims=32, dtype="float16"
    )
    result = run(
        decoder="kriging",
        source=str(made.folder),
        output_dims=40,
        config={"row_split": {"max_training_rows": 800}},
    )
    assert result.success
    published = Registry(settings.registry).load_artifact()
    assert published.manifest["data"]["rows"] == 1500
    assert published.manifest["split"]["not_sampled"] == 700
    assert not list(settings.data.rglob("coordinates-*.npy"))
    (recovered,) = settings.data.rglob("recovered-*/coordinates.npy")
    assert np.load(recovered, mmap_mode="r").shape == (1500, 40)
    card = (published.folder / "MODEL_CARD.md").read_text()
    assert "coordinates recovered from landmark columns" in card


def test_wrong_columns_fail_the_first_check(run: Callable[..., Any], tmp_path: Path) -> None:
    made = landmark_folder(tmp_path / "source", rows=300, landmarks=80, dims=20)
    columns = np.load(made.cosines)
    columns[0, 3] = np.nan
    np.save(made.cosines, columns)
    result = run("projected_embeddings", source=str(made.folder), output_dims=20)
    assert not result.success
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [check.check_name for check in failed] == ["inputs_valid"]
    assert "landmark_cosines.npy" in failed[0].metadata["problem"].value


def test_two_runs_share_recovered_coordinates(
    run: Callable[..., Any], settings: PipelineSettings, tmp_path: Path
) -> None:
    made = landmark_folder(tmp_path / "source", rows=400, landmarks=96, dims=40, input_dims=32)
    for _ in range(2):
        result = run(
            decoder="kriging",
            source=str(made.folder),
            output_dims=40,
            config={"coordinates": {"basis": "new"}},
        )
        assert result.success
    assert len(list(settings.data.rglob("coordinates.npy"))) == 1
