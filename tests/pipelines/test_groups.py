"""Groups and labels beside the two files: checked with them, and split by when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.sources import GROUPS_FILE, LABELS_FILE, SampleParameters, generate_sample
from pipelines.defs.assets.handles import MatrixHandle, StagedResult, open_row_labels, open_split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import dagster as dg

    Run = Callable[..., dg.ExecuteInProcessResult]

SPLIT = ("projected_embeddings", "cosine_matrix", "coordinates", "transform", "row_split")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source of 200 rows that a test may add to."""
    return generate_sample(tmp_path / "own", parameters=SampleParameters(rows=200)).projected.parent


def _by_groups(run: Run, folder: Path) -> dg.ExecuteInProcessResult:
    return run(*SPLIT, source=str(folder), config={"row_split": {"split": "groups"}})


def _problem(result: dg.ExecuteInProcessResult) -> str:
    return str(next(event.step_failure_data.error for event in result.all_events if event.is_step_failure))


def test_rows_are_split_by_the_groups_of_the_source(run: Run, folder: Path) -> None:
    groups = np.array([f"corpus {i}" for i in np.random.default_rng(0).integers(0, 20, 200)])
    np.save(folder / GROUPS_FILE, groups)
    np.save(folder / LABELS_FILE, np.arange(200) % 3)
    result = _by_groups(run, folder)
    assert result.success
    split = open_split(result.asset_value("row_split"))
    assert split.by == "groups"
    assert not set(groups[split.test]) & set(groups[split.fit_rows])

    def version(**config: Any) -> str:
        handle: StagedResult = run("row_split", config={"row_split": config}).asset_value("row_split")
        return handle.version

    assert version(split="groups") != version(split="rows")
    matrix: MatrixHandle = result.asset_value("cosine_matrix")
    assert matrix.files.labels is not None
    np.testing.assert_array_equal(open_row_labels(matrix.files.labels, matrix), np.arange(200) % 3)


def test_other_groups_make_another_split(run: Run, folder: Path) -> None:
    versions = set()
    for modulus in (10, 20):
        np.save(folder / GROUPS_FILE, np.arange(200) % modulus)
        versions.add(_by_groups(run, folder).asset_value("row_split").version)
    assert len(versions) == 2


def test_groups_asked_for_but_absent_stop_the_split(run: Run, folder: Path) -> None:
    result = _by_groups(run, folder)
    assert not result.success
    assert "the source has no groups.npy" in _problem(result)


def test_rows_are_split_one_by_one_unless_asked(run: Run, folder: Path) -> None:
    np.save(folder / GROUPS_FILE, np.zeros(200, int))
    result = run(*SPLIT, source=str(folder))
    assert result.success
    assert open_split(result.asset_value("row_split")).by == "rows"


@pytest.mark.parametrize("name", [GROUPS_FILE, LABELS_FILE])
def test_labels_of_other_rows_are_recorded_and_stop_the_run(run: Run, folder: Path, name: str) -> None:
    np.save(folder / name, np.arange(199))
    result = run(*SPLIT, source=str(folder))
    assert not result.success
    (check,) = [one for one in result.get_asset_check_evaluations() if not one.passed]
    assert check.check_name == "inputs_valid"
    assert f"{name} has 199 entries" in str(check.metadata["problem"].value)
