"""`embup evaluate`: a published decoder measured on files of one's own, and what is wrong with such files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.decoders.kriging.kriging import Kriging
from embup_core.evaluation import Scores, evaluate_decoder
from embup_core.sources import SampleParameters
from embup_core.sources.synthetic import draw_originals
from embup_core.training.split import RowSplit, split_rows
from tests.conftest import publish_kriging

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from embup_core.sources.cosine_matrix import CosineMatrix

    Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Own:
    """Files of rows that the decoder in the registry was not fitted on, and of those that it was."""

    folder: Path
    registry: Path

    def options(self, *names: str) -> list[str]:
        """`--name folder/name.npy` for each."""
        files = [(f"--{name}", str(self.folder / f"{name}.npy")) for name in names]
        return ["--registry", str(self.registry), *(part for pair in files for part in pair)]


BY_ORIGINALS = ("projected", "originals", "reference-projected", "reference-originals")
BY_COSINES = ("projected", "cosines", "reference-projected", "reference-cosines")


@pytest.fixture(scope="module")
def split() -> RowSplit:
    return split_rows(600)


@pytest.fixture(scope="module")
def own(
    tmp_path_factory: pytest.TempPathFactory,
    split: RowSplit,
    sample_projected: np.ndarray,
    sample_coordinates: np.ndarray,
    sample_matrix: CosineMatrix,
) -> Own:
    from embup_core.artifacts.registry import Registry

    folder = tmp_path_factory.mktemp("own")
    test, fit = split.test, split.fit_rows
    publish_kriging(Registry(folder / "registry"), sample_projected[fit], sample_coordinates[fit])
    originals = draw_originals(SampleParameters(rows=600)) * np.float32(2.5)  # need not be unit
    cosines = np.array(sample_matrix.memory_map)
    for name, array in {
        "projected": sample_projected[test].astype(np.float64) * 3,
        "reference-projected": sample_projected[fit],
        "originals": originals[test],
        "reference-originals": originals[fit],
        "cosines": cosines[np.ix_(test, test)],
        "reference-cosines": cosines[np.ix_(test, fit)],
        "labels": (test % 3).astype(str),
        "reference-labels": (fit % 3).astype(str),
    }.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array))
    return Own(folder, folder / "registry")


@pytest.fixture(scope="module")
def expected(
    split: RowSplit, sample_projected: np.ndarray, sample_coordinates: np.ndarray, sample_matrix: CosineMatrix
) -> Scores:
    """What the evaluation of training finds on the same rows."""
    decoder = Kriging().fit(sample_projected[split.fit_rows], sample_coordinates[split.fit_rows])
    return evaluate_decoder(
        decoder, sample_projected, sample_matrix, fit_rows=split.fit_rows, eval_rows=split.test
    )


@pytest.mark.parametrize("files", [BY_ORIGINALS, BY_COSINES], ids=["originals", "cosines"])
def test_scores_are_those_of_the_evaluation_in_training(
    embup: Run, own: Own, expected: Scores, files: tuple[str, ...]
) -> None:
    result = embup("evaluate", *own.options(*files), "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["decoder"] == "kriging"
    assert (own.registry / found["model_version"]).is_dir()
    assert (found["rows"], found["reference_rows"]) == (90, 510)
    for name in ("rmse", "mae", "bias", "r2", "p99_abs_error", "pearson", "spearman"):
        assert found[name] == pytest.approx(getattr(expected.test_test, name), abs=1e-4)
        assert found["with_reference"][name] == pytest.approx(getattr(expected.test_train, name), abs=1e-4)
    for k in (1, 5, 10, 50):
        name = f"recall_at_{k}"
        assert found[name] == pytest.approx(getattr(expected, name), abs=0.01)
    assert found["trustworthiness_at_10"] == pytest.approx(expected.trustworthiness_at_10, abs=1e-3)
    assert found["continuity_at_10"] == pytest.approx(expected.continuity_at_10, abs=1e-3)
    assert expected.intervals is not None
    assert found["intervals"]["r2"] == pytest.approx(expected.intervals.r2, abs=1e-3)
    assert sum(one["pairs"] for one in found["error_by_bin"]) == found["pairs"] == 90 * 89 / 2
    assert (found["calibration"], found["probe"]) == (None, None)


def test_a_table_is_printed_for_people(embup: Run, own: Own, expected: Scores) -> None:
    result = embup("evaluate", *own.options(*BY_ORIGINALS))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (pairs,) = (line.split() for line in result.stdout.splitlines() if line.startswith("row x row"))
    assert pairs[3:5] == ["4005", f"{expected.test_test.rmse:.4f}"]
    assert "row x reference row" in result.stdout
    assert f"recall@10            {expected.recall_at_10:.3f} [" in result.stdout


def test_rows_that_are_known_rows_too_are_warned_of(embup: Run, own: Own) -> None:
    same = (
        "--reference-projected",
        own.folder / "projected.npy",
        "--reference-originals",
        own.folder / "originals.npy",
    )
    result = embup("evaluate", *own.options("projected", "originals"), *same)
    assert result.returncode == 0, result.stderr
    assert "warning: 90 of the 90 rows are among the reference rows" in result.stderr


def test_known_rows_may_be_left_out(embup: Run, own: Own, expected: Scores) -> None:
    result = embup("evaluate", *own.options("projected", "originals"), "--json")
    found = json.loads(result.stdout)
    assert found["r2"] == pytest.approx(expected.test_test.r2, abs=1e-4)
    assert (found["with_reference"], found["recall_at_10"], found["reference_rows"]) == (None, None, 0)
    assert "reference" not in embup("evaluate", *own.options("projected", "cosines")).stdout


def test_labels_tell_what_a_classifier_learns_from_each_kind_of_row(embup: Run, own: Own) -> None:
    command = own.options(*BY_ORIGINALS, "labels", "reference-labels")
    probe = json.loads(embup("evaluate", *command, "--json").stdout)["probe"]
    assert set(probe["accuracy"]) == {"decoded", "originals", "projected"}
    assert (probe["training_rows"], probe["test_rows"], probe["classes"]) == (510, 90, 3)
    assert all(0 <= share <= 1 for share in probe["accuracy"].values())
    told = embup("evaluate", *own.options(*BY_COSINES, "labels", "reference-labels")).stdout
    assert "most frequent label" in told
    assert "originals" not in told, "cosines alone are no features"


def test_an_older_version_can_be_measured(
    embup: Run, own: Own, registry: Registry, publish_another: Callable[[Registry, int], str], tmp_path: Path
) -> None:
    from embup_core.artifacts.registry import Registry

    two = Registry(tmp_path)
    older, newer = (publish_another(two, seed) for seed in (1, 2))
    command = ["evaluate", *own.options("projected", "cosines"), "--registry", tmp_path, "--json"]
    assert json.loads(embup(*command).stdout)["model_version"] == newer
    assert json.loads(embup(*command, "--version", older).stdout)["model_version"] == older
    missing = embup(*command, "--version", "20200101-000000-00000000")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "is not in" in missing.stderr


def test_a_seed_makes_it_repeatable(embup: Run, own: Own) -> None:
    def intervals(seed: int) -> Any:
        command = [*own.options("projected", "cosines"), "--json", "--seed", str(seed)]
        return json.loads(embup("evaluate", *command).stdout)["intervals"]

    assert intervals(1) == intervals(1) != intervals(2)


def test_bad_input_is_an_error_and_a_remedy(embup: Run, own: Own, tmp_path: Path) -> None:
    originals = np.load(own.folder / "originals.npy")
    originals[80, 9] = np.inf
    np.save(tmp_path / "bad.npy", originals)
    for command, told in (
        ([*own.options("projected"), "--originals", tmp_path / "bad.npy"], "bad.npy, row 80, column 9: inf"),
        (own.options("projected"), "Expected originals or cosines, found neither."),
    ):
        result = embup("evaluate", *command, "--json")
        assert (result.returncode, result.stdout) == (2, "")
        assert told in result.stderr
        assert result.stderr.count("\n") == 2, "an error, and on the next line what to do"


def test_a_missing_file_and_an_empty_registry_are_bad_input(embup: Run, own: Own, tmp_path: Path) -> None:
    gone = embup("evaluate", *own.options("cosines"), "--projected", tmp_path / "none.npy")
    assert gone.returncode == 2
    assert "none.npy does not exist" in gone.stderr
    empty = embup("evaluate", *own.options("projected", "cosines"), "--registry", tmp_path)
    assert empty.returncode == 2
    assert "embup train" in empty.stderr


def test_it_loads_no_torch(own: Own) -> None:
    arguments = ["embup", "evaluate", *own.options("projected", "cosines")]
    code = (
        f"import sys; sys.argv = {arguments!r}\n"
        "from embup.cli.main import app\n"
        "app(standalone_mode=False)\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"
