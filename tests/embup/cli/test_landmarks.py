"""A folder of landmark columns in the place of the matrix: checked, trained on, sampled, kept comparable."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.landmarks import LandmarkFolder, landmark_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DIMS = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> LandmarkFolder:
    folder = tmp_path_factory.mktemp("landmarks") / "source"
    return landmark_folder(folder, rows=1500, landmarks=96, dims=DIMS, input_dims=32, dtype="float16")


@pytest.fixture(scope="module")
def trained(
    embup: Callable[..., Any], made: LandmarkFolder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder of registry and data, and what the training printed."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, run_training(embup, made, folder)


def run_training(
    embup: Callable[..., Any], made: LandmarkFolder, folder: Path, *options: object
) -> dict[str, Any]:
    places = ("--registry", folder / "registry", "--data", folder / "data")
    arguments = ("--source", made.folder, "--output-dims", DIMS, "--decoder", "kriging", *options)
    result = embup("train", *arguments, *places, "--json")
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_it_is_checked_as_a_matrix_is(
    embup: Callable[..., Any], made: LandmarkFolder, tmp_path: Path
) -> None:
    result = embup("check", made.folder, "--output-dims", DIMS, "--data", tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["ok"]
    assert (report["rows"], report["rank"]) == (1500, DIMS)
    assert report["map"]["affine"]
    assert report["matrix_noise"]["residual"] > 0


def test_a_wrong_file_ends_with_a_remedy(embup: Callable[..., Any], tmp_path: Path) -> None:
    made = landmark_folder(tmp_path / "s", rows=300, landmarks=80, dims=20)
    np.save(made.landmark_rows, made.rows[::-1])
    result = embup("check", made.folder, "--output-dims", 20, "--data", tmp_path / "d")
    assert result.returncode == 2
    assert "landmark_rows.npy" in result.stderr
    assert "Traceback" not in result.stderr


def test_it_is_trained_on(made: LandmarkFolder, trained: tuple[Path, dict[str, Any]]) -> None:
    folder, found = trained
    assert found["champion"] == "kriging"
    assert found["rows"] == 1500
    assert found["recovery_s"] > 0
    assert any("landmark columns" in warning for warning in found["warnings"])
    (card,) = (folder / "registry").rglob("MODEL_CARD.md")
    assert "coordinates recovered from landmark columns; they miss those of 3 landmarks" in card.read_text()
    import embup as library

    vectors, _ = library.load(folder / "registry").upsample(made.projected[:500])
    true = made.originals[:500] @ made.originals[:500].T
    above = np.triu_indices(500, 1)
    error = (vectors @ vectors.T)[above] - true[above]
    assert 1 - np.mean(error**2) / np.var(true[above]) > 0.5


def test_a_retraining_keeps_the_basis(
    embup: Callable[..., Any], made: LandmarkFolder, trained: tuple[Path, dict[str, Any]]
) -> None:
    folder, first = trained
    again = run_training(embup, made, folder)
    assert again["basis"].split(",")[0] == first["basis"].split(",")[0]
    assert "kept" in again["basis"]
    assert len(list((folder / "data" / "sources").glob("recovered-*"))) == 1


def test_a_sample_of_the_rows_is_reported(
    embup: Callable[..., Any], made: LandmarkFolder, tmp_path: Path
) -> None:
    found = run_training(embup, made, tmp_path, "--max-training-rows", 800)
    assert any("800 of 1,500" in warning for warning in found["warnings"])
    version = tmp_path / "registry" / found["version"]
    if not version.is_dir():
        (version,) = (tmp_path / "registry").rglob(found["version"])
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["split"]["not_sampled"] == 700
    assert manifest["data"]["left_out"] == []
    assert "800 took part, 700 did not" in (version / "MODEL_CARD.md").read_text()
