"""The map is recovered once a run; wrong rows stop it, or are left out where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.errors import InvalidDataError
from pipelines.defs.assets.transform import open_left_out, open_transform
from pipelines.run import train_and_publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.sources import SourceFiles
    from pipelines.settings import PipelineSettings

    Run = Callable[..., dg.ExecuteInProcessResult]

UP_TO_TRANSFORM = ("projected_embeddings", "cosine_matrix", "coordinates", "transform", "row_split")
WRONG = [3, 50, 51, 52, 599]


def source_of(files: SourceFiles) -> dict[str, Any]:
    return {"source": str(files.projected.parent), "output_dims": 100}


def disorder(files: SourceFiles, rows: list[int]) -> None:
    z = np.load(files.projected)
    z[rows] = z[np.roll(rows, 1)]
    np.save(files.projected, z)


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset)]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def verdict(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "rows_belong_together"]
    return found


def test_right_rows_pass_and_the_map_is_staged(run: Run, affine_source: SourceFiles) -> None:
    result = run(*UP_TO_TRANSFORM, **source_of(affine_source))
    assert result.success
    assert verdict(result).passed
    handle = result.asset_value("transform")
    transform = open_transform(handle)
    assert transform.is_affine
    assert transform.matrix.shape == (100, 8)
    assert transform.fits().all()
    assert len(open_left_out(handle)) == 0
    shown = metadata(result, "transform")
    assert shown["affine"] is True
    assert shown["median_angle"] < 1e-3
    assert shown["wrong_rows"] == shown["left_out_rows"] == 0
    assert "data:image/png;base64," in shown["angles"]


def test_wrong_rows_stop_the_run_and_are_shown(run: Run, affine_source: SourceFiles) -> None:
    disorder(affine_source, WRONG)
    result = run(*UP_TO_TRANSFORM, **source_of(affine_source))
    assert not result.success
    found = verdict(result)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "3, 50-52, 599" in str(found.metadata["problem"].value)
    assert metadata(result, "transform")["wrong_rows"] == 5
    assert dg.AssetKey("row_split") not in {e.asset_key for e in result.get_asset_materialization_events()}


def test_wrong_rows_are_left_out_where_that_is_asked_for(run: Run, affine_source: SourceFiles) -> None:
    disorder(affine_source, WRONG)
    result = run(
        *UP_TO_TRANSFORM,
        config={"transform": {"leave_out_wrong_rows": True}},
        **source_of(affine_source),
    )
    assert result.success
    found = verdict(result)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert open_left_out(result.asset_value("transform")).tolist() == WRONG
    parts = metadata(result, "row_split")
    assert parts["left_out_rows"] == 5
    assert parts["train_rows"] + parts["validation_rows"] + parts["test_rows"] == 595


def test_listed_rows_are_left_out_and_are_no_fault(run: Run, affine_source: SourceFiles) -> None:
    disorder(affine_source, WRONG)
    result = run(*UP_TO_TRANSFORM, config={"transform": {"without": [*WRONG, 7]}}, **source_of(affine_source))
    assert result.success
    assert verdict(result).passed
    assert open_left_out(result.asset_value("transform")).tolist() == sorted([*WRONG, 7])
    assert metadata(result, "row_split")["left_out_rows"] == 6


def test_a_matrix_that_holds_nothing_beyond_z_is_refused(run: Run, affine_source: SourceFiles) -> None:
    z = np.load(affine_source.projected)
    np.save(affine_source.cosines, z @ z.T)
    result = run(*UP_TO_TRANSFORM, **source_of(affine_source))
    assert not result.success
    assert not verdict(result).passed


def test_a_run_reports_the_rows_it_left_out(
    settings: PipelineSettings, sample_source: SourceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the sample, in whose 600 rows none can be judged, the comparison is made to find two wrong rows."""
    from dataclasses import replace

    from embup_core.geometry import source_check
    from embup_core.geometry.row_defects import find_row_defects

    def with_two_wrong(*arguments: Any) -> Any:
        z_rows = np.arange(600)
        z_rows[[7, 90]] = [90, 7]
        return replace(find_row_defects(*arguments), verdict="wrong_rows", z_rows=z_rows)

    monkeypatch.setattr(source_check, "find_row_defects", with_two_wrong)
    arguments = (settings.source, settings.registry, settings.data, "kriging")
    with pytest.raises(InvalidDataError) as caught:
        train_and_publish(*arguments, settings=settings)
    assert "7, 90 (2 rows)" in caught.value.message
    result = train_and_publish(*arguments, settings=settings, leave_out_wrong_rows=True)
    assert result.left_out == (7, 90)
    assert any("7, 90 (2 rows)" in warning for warning in result.warnings)
    info = Registry(settings.registry).info(result.version)
    assert info.manifest["data"]["left_out"] == [7, 90]
    assert "transform" in info.manifest
    assert "points" in (arrays := Registry(settings.registry).load_artifact().decoder.arrays())
    assert len(arrays["points"]) == 598
