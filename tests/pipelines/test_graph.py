"""The graph run for real on a small sample: what is published, what is recorded, what a failure stops."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pytest

from embup_core.artifacts.reference_statistics import ReferenceStatistics
from embup_core.artifacts.registry import Registry
from embup_core.decoders import DECODERS
from embup_core.sources import COSINES_FILE, PROJECTED_FILE, SampleParameters, generate_sample
from embup_core.training.data_folder import remembered_source
from embup_core.training.selection import wanted_candidates
from embup_core.training.step_progress import decoder_step

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
    fitted = {decoder_step(name) for name in wanted_candidates("auto")}
    assert {name for name in materialized(result) if name.startswith("decoder_")} == {
        *fitted,
        "decoder_artifact",
    }
    assert len(materialized(result)) == 9 + len(fitted)
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert {(check.check_name, check.severity) for check in failed} == {
        ("rows_belong_together", dg.AssetCheckSeverity.WARN)  # 600 rows in up to 1536 dimensions: undecided
    }
    assert len(result.get_asset_check_evaluations()) == 8

    published = Registry(settings.registry).load_artifact()
    assert published.version == metadata(result, "decoder_artifact")["version"]
    champion = metadata(result, "evaluation")["champion"]
    assert published.manifest["decoder"]["name"] == champion
    assert published.manifest["data"]["fingerprint"] == metadata(result, "cosine_matrix")["fingerprint"]
    assert published.manifest["data"]["rows"] == 600
    inputs = ReferenceStatistics.from_manifest(published.manifest)
    assert inputs is not None
    assert 0 < (inputs.confidence_low or 0) < (inputs.confidence_mean or 0) < 1
    parts = published.manifest["split"]
    assert (parts["train"], parts["validation"], parts["test"]) == (450, 60, 90)
    plots = {path.name for path in (published.folder / "plots").iterdir()}
    assert plots - {"calibration_of_cosines.png", f"training_{champion}.png"} == {
        *("comparison.png", "bias_by_cosine.png", "error_by_cosine.png", "error_and_latency.png"),
        *("recall.png", "calibration_of_confidence.png", f"cosines_{champion}.png", "error_by_group.png"),
    }
    card = (published.folder / "MODEL_CARD.md").read_text()
    assert "](plots/comparison.png)" in card
    assert f"| **{champion}**" in card
    assert str(settings.source) not in card + (published.folder / "manifest.json").read_text()
    assert metadata(result, "decoder_artifact")["in_service"] is True
    assert remembered_source(settings.data) == settings.source
    scores = json.loads((published.folder / "evaluation.json").read_text())
    on_validation = {name: one["test_test"]["r2"] for name, one in scores["validation"].items()}
    assert scores["champion"] == champion == max(on_validation, key=lambda name: on_validation[name])
    assert set(scores["test"]) == wanted_candidates("auto") < set(DECODERS)
    assert set(scores["baselines"]) == {"constant_mean", "projected_cosines"}

    table = metadata(result, "evaluation")["scores"]
    assert {record.data["decoder"] for record in table} == set(scores["test"]) | set(scores["baselines"])
    assert "data:image/png;base64," in metadata(result, "evaluation")["true_against_predicted_cosine"]
    assert "data:image/png;base64," in metadata(result, "evaluation")["report"]
    low, high = (metadata(result, "evaluation")[f"test_r2_interval_{end}"] for end in ("low", "high"))
    assert low < metadata(result, "evaluation")["test_r2"] < high
    assert "training" not in metadata(result, "decoder_kriging")
    assert "No service is running" in metadata(result, "upsampler_service")["state"]


def test_a_fit_in_epochs_shows_its_curve(run: Run) -> None:
    found = metadata(run(decoder="neural_kriging"), "decoder_neural_kriging")
    assert "data:image/png;base64," in found["training"]


def test_no_matrix_passes_through_an_io_manager(run: Run, settings: PipelineSettings) -> None:
    run(decoder="linear_residual")
    handles = [path for path in (settings.data / ".dagster" / "handles").rglob("*") if path.is_file()]
    assert len(handles) == 8 + len(wanted_candidates("linear_residual"))
    assert all(path.suffix == ".json" and path.stat().st_size < 2000 for path in handles)


def test_equal_inputs_and_settings_give_equal_data_versions(
    run: Run, dagster_instance: dg.DagsterInstance
) -> None:
    def versions() -> dict[str, str]:
        assert run(decoder="kriging").success
        found = {}
        for key in dagster_instance.get_asset_keys():
            event = dagster_instance.get_latest_materialization_event(key)
            if event is None:  # a decoder that the choice leaves out
                continue
            assert event.asset_materialization is not None
            found[key.to_user_string()] = (event.asset_materialization.tags or {})["dagster/data_version"]
        return found

    assert versions() == versions()


def test_only_the_decoder_asked_for_and_its_baseline_are_fitted(run: Run, settings: PipelineSettings) -> None:
    result = run(decoder="kriging")
    assert result.success
    assert {name for name in materialized(result) if name in map(decoder_step, DECODERS)} == {
        "decoder_linear_residual",
        "decoder_kriging",
    }
    table = metadata(result, "evaluation")["scores"]
    assert {record.data["decoder"] for record in table} == {
        "constant_mean",
        "projected_cosines",
        "linear_residual",
        "kriging",
    }
    assert Registry(settings.registry).load_artifact().decoder.name == "kriging"


def test_the_baseline_itself_can_be_asked_for(run: Run, settings: PipelineSettings) -> None:
    assert run(decoder="linear_residual").success
    assert Registry(settings.registry).load_artifact().decoder.name == "linear_residual"


@pytest.mark.slow
def test_a_candidate_that_cannot_be_fitted_leaves_the_choice_to_the_others(
    run: Run, settings: PipelineSettings
) -> None:
    result = run(decoder="auto", config={"fitted_decoders": {"nearest_neighbours": {"neighbours": 5000}}})
    assert result.success
    assert "5000 neighbours" in metadata(result, "fitted_decoders")["not_fitted"]
    assert "decoder_nearest_neighbours" not in materialized(result)
    table = metadata(result, "evaluation")["scores"]
    assert "nearest_neighbours" not in {record.data["decoder"] for record in table}
    (published,) = Registry(settings.registry).versions()
    kept = json.loads((published.folder / "evaluation.json").read_text())
    assert "5000 neighbours" in kept["not_fitted"]["nearest_neighbours"]
    card = " ".join((published.folder / "MODEL_CARD.md").read_text().split())
    assert "`nearest_neighbours` could not be fitted: nearest_neighbours needs 5000 neighbours" in card


def test_errors_over_fitted_rows_are_added_where_asked_for(run: Run) -> None:
    result = run(decoder="kriging", config={"evaluation": {"train_train": True, "learning_curve_shares": []}})
    folder = metadata(result, "evaluation")["folder"]
    seen = json.loads((Path(folder) / "evaluation.json").read_text())["test"]["kriging"]
    assert seen["train_train"]["r2"] > seen["test_test"]["r2"]


def test_a_decoder_that_was_asked_for_and_cannot_be_fitted_stops_the_run(run: Run) -> None:
    config = {"fitted_decoders": {"nearest_neighbours": {"neighbours": 5000}}}
    assert "5000 neighbours" in stopped_by(run(decoder="nearest_neighbours", config=config))


def test_settings_of_every_wanted_decoder_are_checked_before_any_work(run: Run) -> None:
    result = run(
        config={"fitted_decoders": {"nearest_neighbours": {"neighbours": -3}, "kriging": {"neighbours": 0}}}
    )
    assert not result.success
    assert materialized(result) == set()
    failure = next(event.step_failure_data for event in result.all_events if event.is_step_failure)
    assert failure.user_failure_data is not None
    told = str(failure.user_failure_data.description)
    assert "nearest_neighbours: neighbours is -3" in told
    assert "kriging: neighbours is 0" in told


def test_a_run_that_leaves_a_decoder_out_keeps_what_its_last_fit_said(
    run: Run, dagster_instance: dg.DagsterInstance
) -> None:
    fitted = run(decoder="kriging")
    assert run(decoder="linear_residual").success
    last = dagster_instance.get_latest_materialization_event(dg.AssetKey("decoder_kriging"))
    assert last is not None
    assert last.run_id == fitted.run_id


def test_another_source_is_published_and_not_put_into_service(
    run: Run, settings: PipelineSettings, own_source: SourceFiles
) -> None:
    assert run(decoder="linear_residual").success
    registry = Registry(settings.registry)
    before = registry.current_version()
    other = run(source="sample:600", decoder="linear_residual")
    assert other.success
    told = metadata(other, "decoder_artifact")
    assert told["in_service"] is True, told  # the same data by another name
    before = registry.current_version()
    other = run(source="sample:700", decoder="linear_residual")
    assert other.success
    assert metadata(other, "decoder_artifact")["in_service"] is False
    assert "embup models promote" in metadata(other, "decoder_artifact")["warning"]
    assert registry.current_version() == before
    assert remembered_source(settings.data) != "sample:700"
    asked = run(source="sample:700", decoder="linear_residual", promote=True)
    assert registry.current_version() == metadata(asked, "decoder_artifact")["version"]
    assert remembered_source(settings.data) == "sample:700"


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
    assert set(failed_checks(result)) == {
        "transform:rows_belong_together",  # a warning: so few rows cannot be judged
        "evaluation:champion_beats_constant_mean",
        "evaluation:champion_beats_linear_residual",
    }
    assert {"decoder_artifact", "upsampler_service"}.isdisjoint(materialized(result))
    assert Registry(settings.registry).versions() == []


@pytest.mark.parametrize(
    ("file", "asset", "problem"),
    [
        (PROJECTED_FILE, "projected_embeddings", "not finite (NaN or infinity): 17 (1 row)"),
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
    return generate_sample(tmp_path / "own", parameters=SampleParameters(rows=600))


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
    np.save(own_source.projected, np.load(own_source.projected)[:, ::-1].copy())
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
    np.save(own_source.projected, np.load(own_source.projected)[:, ::-1].copy())
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
    table = metadata(run(decoder="auto"), "evaluation")["scores"]
    folder = metadata(run("evaluation", decoder="auto"), "evaluation")["folder"]
    kept = json.loads((Path(folder) / "evaluation.json").read_text())
    assert {record.data["decoder"] for record in table} == {*kept["test"], *kept["baselines"]}
    assert "nearest_neighbours" in kept["test"]


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
