"""Dagster's records lie below the data folder and telemetry is off, however Dagster is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from pipelines.instance import prepare_dagster_home

if TYPE_CHECKING:
    from pathlib import Path


def test_a_prepared_home_lies_below_the_data_folder(tmp_path: Path) -> None:
    home = prepare_dagster_home(tmp_path / "data")
    assert home == tmp_path / "data" / ".dagster"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.root_directory == str(home)


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    before = (prepare_dagster_home(tmp_path) / "dagster.yaml").stat().st_mtime_ns
    assert (prepare_dagster_home(tmp_path) / "dagster.yaml").stat().st_mtime_ns == before
