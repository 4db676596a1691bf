"""The graph run for real on a small sample: what is published, what is recorded, what a failure stops."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pytest

from embup_core.registry import Registry
from embup_core.sources import COSINES_FILE, PROJECTED_FILE, SampleParameters, generate_sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipelines.settings import PipelineSettings

    Run = Callable[..., dg.ExecuteInProcessResult]


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset)]
    return {
        name: value.records if isinstance(value, dg.TableMetadataValue) else value.value
        for name, value in event.materialization.metadata.items()
    }


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        f"{one.asset_key.to_user_string()}:{one.check_name}": str(one.metadata["problem"].value)
        for one in result.get_asset_check_evaluations()
        if not one.passed
    }


def test_the_whole_graph_publishes_the_champion(run: Run, settings: PipelineSettings) -> None:
    result = run()
    assert result.success
    assert len(materialized(result)) == 11
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert len(result.get_asset_check_evaluations()) == 6

    published = Registry(settings.registry).load_artifact()
    assert published.version == metadata(result, "decoder_artifact")["version"]
    assert published.manifest["decoder"]["name"] == metadata(result, "evaluation")["champion"] == "kriging"
    assert published.manifest["data"]["fingerprint"] == metadata(result, "cosine_matrix")["fingerprint"]
    assert published.manifest["data"]["rows"] == 600
    parts = published.manifest["split"]
    assert (parts["train"], parts["validation"], parts["test"]) == (450, 60, 90)
    assert sorted(path.name for path in (published.folder / "plots").iterdir()) == [
        f"cosines_{name}.png" for name in ("kriging", "linear", "linear_residual", "mlp")
    ]
    scores = json.loads((published.folder / "evaluation.json").read_text())
    assert scores["champion"] == "kriging"
    assert set(scores["test"]) == {"linear", "linear_residual", "kriging", "mlp"}
    assert set(scores["baselines"]) == {"constant_mean", "projected_cosines"}

    table = metadata(result, "evaluation")["scores"]
    assert {record.data["decoder"] for record in table} == set(scores["test"]) | set(scores["baselines"])
    assert "data:image/png;base64," in metadata(result, "evaluation")["true_against_predicted_cosine"]
    assert "No service is running" in metadata(result, "upsampler_service")["state"]


def test_no_matrix_passes_through_an_io_manager(run: Run, settings: PipelineSettings) -> None:
    run(decoder="linear_residual")
    handles = [path for path in (settings.data / ".dagster" / "handles").rglob("*") if path.is_file()]
    assert len(handles) == 10
    assert all(path.suffix == ".json" and path.stat().st_size < 2000 for path in handles)


def test_equal_inputs_and_settings_give_equal_data_versions(
    run: Run, dagster_instance: dg.DagsterInstance
) -> None:
    def versions() -> dict[str, str]:
        assert run(decoder="kriging").success
        found = {}
        for key in dagster_instance.get_asset_keys():
            event = dagster_instance.get_latest_materialization_event(key)
            assert event is not None
            assert event.asset_materialization is not None
            found[key.to_user_string()] = (event.asset_materialization.tags or {})["dagster/data_version"]
        return found

    assert versions() == versions()


def test_only_the_decoder_asked_for_and_its_yardstick_are_fitted(
    run: Run, settings: PipelineSettings
) -> None:
    result = run(decoder="kriging")
    assert result.success
    assert "not fitted" in metadata(result, "decoder_mlp")["state"]
    assert "not fitted" in metadata(result, "decoder_linear")["state"]
    table = metadata(result, "evaluation")["scores"]
    assert {record.data["decoder"] for record in table} == {
        "constant_mean",
        "projected_cosines",
        "linear_residual",
        "kriging",
    }
    assert Registry(settings.registry).load_artifact().decoder.name == "kriging"


def test_the_yardstick_itself_can_be_asked_for(run: Run, settings: PipelineSettings) -> None:
    assert run(decoder="linear_residual").success
    assert Registry(settings.registry).load_artifact().decoder.name == "linear_residual"


def test_a_champion_that_loses_to_linear_residual_is_not_published(
    run: Run, settings: PipelineSettings
) -> None:
    result = run(decoder="linear")
    assert not result.success
    assert list(failed_checks(result)) == ["evaluation:champion_beats_linear_residual"]
    assert {"decoder_artifact", "upsampler_service"}.isdisjoint(materialized(result))
    assert Registry(settings.registry).versions() == []


@pytest.mark.parametrize(
    ("file", "asset", "problem"),
    [
        (PROJECTED_FILE, "projected_embeddings", "row 17, column 3: nan"),
        (COSINES_FILE, "cosine_matrix", "row 3, column 17: nan"),
    ],
)
def test_invalid_inputs_are_recorded_and_stop_the_run(
    run: Run, tmp_path: Path, file: str, asset: str, problem: str
) -> None:
    folder = generate_sample(tmp_path / "bad", parameters=SampleParameters(rows=100)).projected.parent
    array = np.load(folder / file)
    array[17, 3] = np.nan
    if file == COSINES_FILE:
        array[3, 17] = np.nan
    np.save(folder / file, array)
    result = run(source=str(folder))
    assert not result.success
    (name, told) = next(iter(failed_checks(result).items()))
    assert name == f"{asset}:inputs_valid"
    assert problem in told
    assert materialized(result) <= {"projected_embeddings"}
