"""Dagster's records lie below the data folder and telemetry is off, however Dagster is started."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import yaml  # type: ignore[import-untyped]  # no stubs are installed

from pipelines.instance import CONFIGURATION, prepare_dagster_home

ROOT = Path(__file__).parents[2]


def test_a_prepared_home_lies_below_the_data_folder(tmp_path: Path) -> None:
    home = prepare_dagster_home(tmp_path / "data")
    assert home == tmp_path / "data" / ".dagster"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert not instance.telemetry_enabled
        assert instance.root_directory == str(home)


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    before = (prepare_dagster_home(tmp_path) / "dagster.yaml").stat().st_mtime_ns
    assert (prepare_dagster_home(tmp_path) / "dagster.yaml").stat().st_mtime_ns == before


def test_the_projects_own_configuration_agrees_and_points_below_data() -> None:
    own = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    for name, value in yaml.safe_load(CONFIGURATION).items():
        assert own.pop(name) == value
    assert own["storage"]["sqlite"]["base_dir"] == "data/.dagster"
    assert own["local_artifact_storage"]["config"]["base_dir"] == "data/.dagster"
