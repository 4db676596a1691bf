"""Each check passes on what is right and fails on what is not, with the numbers that say so.

`inputs_valid` is made where the inputs are read; its two sides are in test_graph. `rows_belong_together` is
made where the map is recovered; test_transform has its sides.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.evaluation import Intervals, PairScores, Scores
from embup_core.training.selection import Evaluation
from pipelines.defs import checks
from pipelines.defs.assets.evaluation import EVALUATION_FILE
from pipelines.defs.assets.handles import (
    CoordinatesHandle,
    MatrixHandle,
    PublishedDecoder,
    StagedResult,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import dagster as dg
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.artifacts.registry import Registry

    Stage = Callable[[Any], CoordinatesHandle]


def told(result: dg.AssetCheckResult) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in result.metadata.items()}


def check(definition: Any, *arguments: Any) -> dg.AssetCheckResult:
    result: dg.AssetCheckResult = definition(*arguments)
    return result


def test_recovered_coordinates_pass(
    stage: Stage, sample_coordinates: NDArray[np.float32], matrix_handle: MatrixHandle
) -> None:
    result = check(checks.coordinates_reproduce_cosines, stage(sample_coordinates), matrix_handle)
    assert result.passed
    assert told(result)["found"] <= 2e-6


def test_coordinates_that_miss_the_cosines_fail(
    stage: Stage, sample_coordinates: NDArray[np.float32], matrix_handle: MatrixHandle
) -> None:
    wrong = sample_coordinates.copy()
    wrong[:, :40] = wrong[:, :40][:, ::-1] + 0.02
    result = check(checks.coordinates_reproduce_cosines, stage(wrong), matrix_handle)
    assert not result.passed
    assert told(result)["found"] > told(result)["expected_at_most"] > 0
    assert told(result)["remedy"]


def scores(r2: float, unit_norm_error: float = 1e-7) -> Scores:
    pairs = PairScores(pairs=10, rmse=0.03, mae=0.02, bias=0.0, r2=r2, spearman=0.5)
    intervals = Intervals(r2=(r2 - 0.05, r2 + 0.05), rmse=(0.0, 1.0), recall_at_10=None, rows=10)
    return Scores(pairs, pairs, 0.4, unit_norm_error, 1.0, intervals=intervals)


def staged_evaluation(tmp_path: Path, evaluation: Evaluation) -> StagedResult:
    (tmp_path / EVALUATION_FILE).write_text(json.dumps(evaluation.to_json()))
    return StagedResult(path=str(tmp_path), version="1", made_from={})


def evaluation(kriging: Scores, linear_residual: Scores) -> Evaluation:
    both = {"kriging": kriging, "linear_residual": linear_residual}
    constant = {"constant_mean": scores(-0.01)}
    return Evaluation("auto", {name: {} for name in both}, both, both, constant, constant)


def test_a_champion_above_the_baseline_passes(tmp_path: Path) -> None:
    handle = staged_evaluation(tmp_path, evaluation(scores(0.5), scores(0.3)))
    assert check(checks.champion_beats_linear_residual, handle).passed


def test_test_rows_decide_nothing_and_are_told(tmp_path: Path) -> None:
    lost_on_test = replace(
        evaluation(scores(0.5), scores(0.3)), test={"kriging": scores(0.2), "linear_residual": scores(0.3)}
    )
    result = check(checks.champion_beats_linear_residual, staged_evaluation(tmp_path, lost_on_test))
    assert result.passed
    assert (told(result)["found"], told(result)["expected_above"]) == (0.5, 0.3)
    assert (told(result)["found_on_test"], told(result)["baseline_on_test"]) == (0.2, 0.3)


def test_a_decoder_asked_for_that_loses_on_validation_rows_fails(tmp_path: Path) -> None:
    lost = replace(
        evaluation(scores(0.5), scores(0.3)),
        choice="kriging",
        validation={"kriging": scores(0.2), "linear_residual": scores(0.3)},
    )
    result = check(checks.champion_beats_linear_residual, staged_evaluation(tmp_path, lost))
    assert not result.passed
    assert told(result)["problem"].startswith(
        "kriging reaches R2 0.200 on validation rows, linear_residual 0.300"
    )


def test_the_baseline_as_champion_of_all_fails(tmp_path: Path) -> None:
    handle = staged_evaluation(tmp_path, evaluation(scores(0.2), scores(0.3)))
    assert not check(checks.champion_beats_linear_residual, handle).passed


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("r2", [-0.156, 0.03])
def test_a_champion_that_does_not_beat_the_mean_cosine_beyond_its_interval_fails(
    tmp_path: Path, part: str, r2: float
) -> None:
    good = evaluation(scores(0.5), scores(0.3))
    assert check(checks.champion_beats_constant_mean, staged_evaluation(tmp_path, good)).passed
    low = {"kriging": scores(r2), "linear_residual": scores(r2 - 0.1)}
    poor = replace(good, test=low) if part == "test" else replace(good, choice="kriging", validation=low)
    result = check(checks.champion_beats_constant_mean, staged_evaluation(tmp_path, poor))
    assert not result.passed
    assert told(result)[f"found_on_{part}"] == r2
    assert told(result)[f"expected_above_on_{part}"] == -0.01


def test_unit_rows_pass(tmp_path: Path) -> None:
    handle = staged_evaluation(tmp_path, evaluation(scores(0.5), scores(0.3)))
    assert check(checks.champion_rows_are_unit, handle).passed


@pytest.mark.parametrize("error", [1e-5, float("nan")])
def test_rows_that_are_not_unit_fail(tmp_path: Path, error: float) -> None:
    handle = staged_evaluation(tmp_path, evaluation(scores(0.5, error), scores(0.3)))
    assert not check(checks.champion_rows_are_unit, handle).passed


def test_a_published_artifact_passes(registry: Registry) -> None:
    handle = PublishedDecoder(version=registry.current_version(), registry=str(registry.root))
    assert check(checks.artifact_reproduces_golden_outputs, handle).passed


def test_a_damaged_artifact_fails(registry: Registry, tmp_path: Path) -> None:
    copied = tmp_path / "registry"
    shutil.copytree(registry.root, copied)
    version = registry.current_version()
    weights = copied / version / "decoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    handle = PublishedDecoder(version=version, registry=str(copied))
    result = check(checks.artifact_reproduces_golden_outputs, handle)
    assert not result.passed
    assert "SHA-256" in told(result)["problem"]
