"""The graph run for real on a small sample: what is published, what is recorded, what a failure stops."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pytest

from embup_core.decoders import DECODERS
from embup_core.registry import Registry
from embup_core.selection import wanted_candidates
from embup_core.sources import COSINES_FILE, PROJECTED_FILE, SampleParameters, generate_sample
from embup_core.training_inputs import TrainingInputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.sources import SourceFiles
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
    assert len(materialized(result)) == 7 + len(DECODERS)
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert len(result.get_asset_check_evaluations()) == 6

    published = Registry(settings.registry).load_artifact()
    assert published.version == metadata(result, "decoder_artifact")["version"]
    champion = metadata(result, "evaluation")["champion"]
    assert published.manifest["decoder"]["name"] == champion
    assert published.manifest["data"]["fingerprint"] == metadata(result, "cosine_matrix")["fingerprint"]
    assert published.manifest["data"]["rows"] == 600
    inputs = TrainingInputs.from_manifest(published.manifest)
    assert inputs is not None
    assert 0 < (inputs.confidence_low or 0) < (inputs.confidence_mean or 0) < 1
    parts = published.manifest["split"]
    assert (parts["train"], parts["validation"], parts["test"]) == (450, 60, 90)
    fitted = wanted_candidates("auto")
    plots = {path.name for path in (published.folder / "plots").iterdir()}
    assert plots - {"calibration_of_cosines.png"} == {
        *("comparison.png", "error_by_cosine.png", "error_and_latency.png", "overlap.png"),
        "calibration_of_confidence.png",
        *(f"cosines_{name}.png" for name in fitted),
        *(f"training_{name}.png" for name in ("mlp", "mlp_coordinates", "metric_kriging", "neural_kriging")),
    }
    card = (published.folder / "MODEL_CARD.md").read_text()
    assert "](plots/comparison.png)" in card
    assert "](plots/training_mlp.png)" in card
    scores = json.loads((published.folder / "evaluation.json").read_text())
    on_validation = {name: one["test_test"]["r2"] for name, one in scores["validation"].items()}
    assert scores["champion"] == champion == max(on_validation, key=lambda name: on_validation[name])
    assert set(scores["test"]) == fitted < set(DECODERS)
    assert set(scores["baselines"]) == {"constant_mean", "projected_cosines"}

    table = metadata(result, "evaluation")["scores"]
    assert {record.data["decoder"] for record in table} == set(scores["test"]) | set(scores["baselines"])
    assert "data:image/png;base64," in metadata(result, "evaluation")["true_against_predicted_cosine"]
    assert "data:image/png;base64," in metadata(result, "evaluation")["report"]
    assert "data:image/png;base64," in metadata(result, "decoder_mlp")["training"]
    assert "training" not in metadata(result, "decoder_kriging")
    assert "No service is running" in metadata(result, "upsampler_service")["state"]


def test_no_matrix_passes_through_an_io_manager(run: Run, settings: PipelineSettings) -> None:
    run(decoder="linear_residual")
    handles = [path for path in (settings.data / ".dagster" / "handles").rglob("*") if path.is_file()]
    assert len(handles) == 6 + len(DECODERS)
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


@pytest.mark.slow
def test_a_candidate_that_cannot_be_fitted_leaves_the_choice_to_the_others(
    run: Run, settings: PipelineSettings
) -> None:
    result = run(decoder="fast", config={"decoder_nearest_neighbours": {"neighbours": 5000}})
    assert result.success
    assert "looks at 5000 neighbours" in metadata(result, "decoder_nearest_neighbours")["state"]
    table = metadata(result, "evaluation")["scores"]
    assert "nearest_neighbours" not in {record.data["decoder"] for record in table}
    (published,) = Registry(settings.registry).versions()
    kept = json.loads((published.folder / "evaluation.json").read_text())
    assert "looks at 5000 neighbours" in kept["not_fitted"]["nearest_neighbours"]
    card = " ".join((published.folder / "MODEL_CARD.md").read_text().split())
    assert "`nearest_neighbours` could not be fitted: nearest_neighbours looks at 5000 neighbours" in card


def test_errors_over_fitted_rows_are_added_where_asked_for(run: Run) -> None:
    result = run(decoder="kriging", config={"evaluation": {"train_train": True, "learning_curve_shares": []}})
    folder = metadata(result, "evaluation")["folder"]
    seen = json.loads((Path(folder) / "evaluation.json").read_text())["test"]["kriging"]
    assert seen["train_train"]["r2"] > seen["test_test"]["r2"]


def test_a_decoder_that_was_asked_for_and_cannot_be_fitted_stops_the_run(run: Run) -> None:
    config = {"decoder_nearest_neighbours": {"neighbours": 5000}}
    assert "looks at 5000 neighbours" in stopped_by(run(decoder="nearest_neighbours", config=config))


def test_a_choice_that_was_not_fitted_is_not_scored(run: Run) -> None:
    assert run(decoder="kriging").success
    assert "Expected mlp fitted" in stopped_by(run("evaluation", decoder="mlp"))
    table = metadata(run("evaluation", decoder="linear_residual"), "evaluation")["scores"]
    assert "kriging" not in {record.data["decoder"] for record in table}


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


@pytest.fixture
def own_source(tmp_path: Path) -> SourceFiles:
    """Files that a test may change after a run."""
    return generate_sample(tmp_path / "own", parameters=SampleParameters(rows=150))


def stopped_by(result: dg.ExecuteInProcessResult) -> str:
    """What the first failed step said, and what that came from."""
    error = next(event.step_failure_data.error for event in result.all_events if event.is_step_failure)
    told = []
    while error is not None:
        told.append(error.message)
        error = error.cause
    return "\n".join(told)


@pytest.mark.parametrize("kept_time", [False, True])
def test_embeddings_replaced_since_they_were_checked_are_not_trained_on(
    run: Run, settings: PipelineSettings, own_source: SourceFiles, kept_time: bool
) -> None:
    source = str(own_source.projected.parent)
    assert run(source=source, decoder="linear_residual").success
    before = own_source.projected.stat()
    np.save(own_source.projected, np.load(own_source.projected)[::-1].copy())
    if kept_time:
        os.utime(own_source.projected, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = run("decoder_linear_residual", "decoder_artifact", source=source, decoder="linear_residual")
    assert not result.success
    assert f"{own_source.projected} changed since it was checked." in stopped_by(result)
    assert "Materialize projected_embeddings and everything after it." in stopped_by(result)
    assert not run("decoder_artifact", source=source, decoder="linear_residual").success
    assert len(Registry(settings.registry).versions()) == 1


def test_embeddings_checked_again_do_not_go_with_the_matrix_of_before(
    run: Run, settings: PipelineSettings, own_source: SourceFiles
) -> None:
    source = str(own_source.projected.parent)
    assert run(source=source, decoder="linear_residual").success
    np.save(own_source.projected, np.load(own_source.projected)[::-1].copy())
    result = run("projected_embeddings", "decoder_artifact", source=source, decoder="linear_residual")
    assert "changed since it was checked" in stopped_by(result)
    assert len(Registry(settings.registry).versions()) == 1
    assert run(source=source, decoder="linear_residual").success
    assert len(Registry(settings.registry).versions()) == 2


def test_a_matrix_replaced_since_it_was_checked_is_not_read(run: Run, own_source: SourceFiles) -> None:
    source = str(own_source.projected.parent)
    assert run("projected_embeddings", "cosine_matrix", source=source).success
    own_source.cosines.write_bytes(own_source.cosines.read_bytes())
    result = run("coordinates", source=source)
    assert f"{own_source.cosines} changed since it was checked." in stopped_by(result)
    own_source.cosines.unlink()
    assert "cannot be read" in stopped_by(run("coordinates", source=source))


def test_results_of_different_splits_are_not_used_together(run: Run, settings: PipelineSettings) -> None:
    assert run(decoder="linear_residual").success
    assert run("row_split", config={"row_split": {"seed": 1}}, decoder="linear_residual").success
    for asset in ("evaluation", "decoder_artifact"):
        result = run(asset, decoder="linear_residual")
        assert not result.success
        assert "was made from another row_split" in stopped_by(result)
    assert len(Registry(settings.registry).versions()) == 1


@pytest.mark.slow
def test_candidates_fitted_later_reach_an_evaluation_that_was_made_without_them(run: Run) -> None:
    assert run(decoder="kriging").success
    assert run("evaluation").success
    table = metadata(run(decoder="fast"), "evaluation")["scores"]
    folder = metadata(run("evaluation", decoder="fast"), "evaluation")["folder"]
    kept = json.loads((Path(folder) / "evaluation.json").read_text())
    assert {record.data["decoder"] for record in table} == {*kept["test"], *kept["baselines"]}
    assert "kernel_ridge" in kept["test"]


def test_a_result_told_in_the_words_of_another_version_names_the_remedy(
    run: Run, settings: PipelineSettings
) -> None:
    assert run("projected_embeddings").success
    (settings.data / ".dagster" / "handles" / "projected_embeddings.json").write_text(
        '{"projected": "/z.npy"}'
    )
    assert "result of another version of embup" in stopped_by(run("cosine_matrix"))


def test_an_evaluation_of_another_version_names_the_remedy(run: Run) -> None:
    result = run(decoder="kriging")
    path = Path(metadata(result, "evaluation")["folder"]) / "evaluation.json"
    kept = json.loads(path.read_text())
    del kept["not_fitted"]
    path.write_text(json.dumps(kept))
    said = stopped_by(run("decoder_artifact", decoder="kriging"))
    assert "evaluation.json: expected an evaluation of this version of embup" in said
    assert "Materialize the decoders and evaluation again" in said
