"""Old runs go from a real instance, and those that something needs stay."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from debugger.importing.source import import_source
from embup_core.artifacts.registry import Registry
from embup_core.sources import resolve_source
from embup_core.sources.resolve import cached_copy
from embup_core.training.data_folder import remember_source
from pipelines.cleaning import old_files, old_runs, remove_files, remove_old_runs
from pipelines.definitions import build_defs
from pipelines.defs import cleaning
from pipelines.instance import prepare_dagster_home
from pipelines.staging import StagingArea

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipelines.settings import PipelineSettings


@dg.asset
def sound() -> int:
    return 1


@dg.asset
def other() -> int:
    return 1


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["2026-01", "2026-02"]))
def month() -> int:
    return 1


@dg.asset
def broken() -> int:
    raise ValueError


def test_what_is_needed_stays(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(tmp_path))) as instance:

        def run(asset: dg.AssetsDefinition, partition: str | None = None) -> str:
            job = dg.Definitions(
                assets=[asset], jobs=[dg.define_asset_job(f"job_{asset.key.path[-1]}", [asset])]
            ).resolve_job_def(f"job_{asset.key.path[-1]}")
            result = job.execute_in_process(instance=instance, partition_key=partition, raise_on_error=False)
            return result.run_id

        first, last = run(sound), run(sound)
        months = {run(month, "2026-01"), run(month, "2026-02")}
        failed = {run(broken), run(broken)}
        running = instance.create_run_for_job(
            dg.Definitions(assets=[sound], jobs=[dg.define_asset_job("job", [sound])]).resolve_job_def("job")
        ).run_id

        now = datetime.now(UTC)
        assert old_runs(instance, now - timedelta(days=1)) == []
        assert {one.run_id for one in old_runs(instance, now + timedelta(minutes=1))} == {first} | failed

        runs = remove_old_runs(instance, now + timedelta(minutes=1))
        assert {one.run_id for one in runs} == {first} | failed
        assert runs[0].run_id == first
        assert {one.run_id for one in instance.get_runs()} == {last, running} | months
        assert instance.get_latest_materialization_event(dg.AssetKey("sound")) is not None
        assert instance.get_materialized_partitions(dg.AssetKey("month")) == {"2026-01", "2026-02"}
        assert remove_old_runs(instance, now + timedelta(minutes=1)) == []


def test_the_run_that_made_an_asset_last_stays(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(tmp_path))) as instance:
        runs = [  # as Dagster's page makes them: of one job, each of one asset
            dg.materialize([sound, other], instance=instance, selection=[asset]).run_id
            for asset in (sound, sound, other)
        ]
        soon = datetime.now(UTC) + timedelta(minutes=1)
        assert [one.run_id for one in remove_old_runs(instance, soon)] == runs[:1]
        assert instance.get_latest_materialization_event(dg.AssetKey("sound")) is not None


def file_of(path: Path, *, days_old: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    at = (datetime.now(UTC) - timedelta(days=days_old)).timestamp()
    os.utime(path, (at, at))
    os.utime(path.parent, (at, at))
    return path


@pytest.fixture
def left(tmp_path: Path) -> dict[str, Path]:
    """What trainings left in a data folder, by what has to become of it."""
    data = tmp_path / "data"
    sources = data / "sources"
    left = {
        "old": file_of(data / "staging" / "a" / "coordinates-1.npy", days_old=40),
        "old, the only one": file_of(data / "staging" / "b" / "coordinates-1.npy", days_old=40),
        "old source": file_of(sources / f"download-{0:012}" / "projected.npy", days_old=40),
        "old stored source": file_of(data / "sources" / "s3-1" / "objects.json", days_old=40),
        "old recovery": file_of(sources / f"recovered-{0:012}" / "coordinates.npy", days_old=40),
        "old interrupted recovery": file_of(
            sources / f".recovered-{0:012}-ab_1" / "coordinates.npy", days_old=40
        ),
        "named recovery": file_of(sources / f"recovered-{1:012}" / "coordinates.npy", days_old=40),
        "a user's own": file_of(data / "sources" / "mine" / "projected.npy", days_old=40),
        "named": file_of(data / "staging" / "a" / "coordinates-2.npy", days_old=40),
        "named source": file_of(sources / f"download-{2:012}" / "projected.npy", days_old=40),
        "new": file_of(data / "staging" / "a" / "coordinates-3.npy", days_old=1),
        "new in an old folder": file_of(sources / f"download-{3:012}" / "projected.npy", days_old=1),
    }
    handles = data / ".dagster" / "handles"
    handles.mkdir(parents=True)
    named = [str(left["named"]), str(left["named source"].parent), str(left["named recovery"])]
    (handles / "coordinates.json").write_text(json.dumps({"paths": named}))
    return left


def test_files_go_that_are_old_and_that_no_result_names(tmp_path: Path, left: dict[str, Path]) -> None:
    files = old_files(tmp_path / "data", datetime.now(UTC) - timedelta(days=30))
    remove_files(files)
    gone = {name for name, path in left.items() if not path.exists()}
    assert gone == {name for name in left if name.startswith("old")}
    assert not left["old, the only one"].parent.exists()
    assert not left["old source"].parent.exists()
    assert all(path.exists() for name, path in left.items() if not name.startswith("old"))
    remove_files(files)  # as another process would that found the same
    assert old_files(tmp_path / "none", datetime.now(UTC)) == []


@pytest.mark.parametrize("spelling", ["link", "data/../data", "moved"])
def test_a_named_file_stays_however_the_data_folder_is_spelled(
    tmp_path: Path, left: dict[str, Path], spelling: str
) -> None:
    if spelling == "moved":
        (tmp_path / "data").rename(tmp_path / spelling)
    elif spelling == "link":
        (tmp_path / spelling).symlink_to(tmp_path / "data")
    found = old_files(tmp_path / spelling, datetime.now(UTC) - timedelta(days=30))
    assert found
    assert not {left["named"].name, left["named source"].parent.name} & {path.name for path in found}


def test_what_a_later_training_or_analysis_asks_for_stays(tmp_path: Path) -> None:
    data, urls = tmp_path / "data", "https://a.example/z.npy,https://a.example/c.npy"
    needed = cached_copy(f"{urls}?signature=1", data / "sources")
    debugged = cached_copy("s3://bucket/debugged", data / "sources")
    assert needed is not None
    assert debugged is not None
    copies = [file_of(folder / "objects.json", days_old=40) for folder in (needed, debugged)]
    before = datetime.now(UTC) - timedelta(days=30)
    assert len(old_files(data, before)) == 2
    remember_source(data, urls, fingerprint="a", promoted=True)
    assert old_files(data, before) == [debugged]
    import_source("sample:200", data, "of-a-bucket")
    with duckdb.connect(str(data / "debug" / "of-a-bucket" / "dataset.duckdb")) as connection:
        connection.execute("UPDATE dataset SET source = 's3://bucket/debugged'")
    assert old_files(data, before) == []
    (data / "debug" / "of-a-bucket" / "dataset.duckdb").write_bytes(b"damaged")
    assert old_files(data, before) == []  # nobody knows what it needs
    assert all(path.exists() for path in copies)


def test_what_is_used_again_is_not_old(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(days=30)
    files = resolve_source("sample:200", cache_dir=tmp_path / "sources")
    area = StagingArea(tmp_path / "staging", "a" * 64)
    staged = area.save_folder("candidate", "1", {"fit": b"x"})
    for path in (files.projected, files.cosines, staged / "fit"):
        file_of(path, days_old=40)
    assert set(old_files(tmp_path, before)) == {files.projected.parent, staged}
    resolve_source("sample:200", cache_dir=tmp_path / "sources")
    area.path("candidate", "1", "")
    assert old_files(tmp_path, before) == []


def test_dagster_cleans_by_itself(
    settings: PipelineSettings,
    left: dict[str, Path],
    dagster_instance: dg.DagsterInstance,
    registry: Registry,
    publish_another: Callable[[Registry, int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Registry(settings.registry)
    # Kept are the newest, the one in service and the one before: three where all are of the same second.
    versions = [publish_another(made, seed) for seed in range(4)]
    assert settings.keep_versions == 12
    few = settings.model_copy(update={"keep_versions": 1})
    assert cleaning.LEAST_DAYS > 31  # a month's version that is held can be looked at
    defs = build_defs(few)
    schedule = defs.resolve_schedule_def("clean")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    job = defs.resolve_job_def("clean")
    quiet: Any = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    assert job.execute_in_process(instance=dagster_instance, run_config=quiet).success
    assert set(versions) <= set(made.version_names())  # too young to go
    monkeypatch.setattr(cleaning, "LEAST_DAYS", -1)
    assert job.execute_in_process(instance=dagster_instance, run_config=quiet).success
    kept = made.version_names()
    assert versions[-1] in kept
    assert len(kept) < len(versions)
    assert not left["old"].exists()
    assert left["named"].exists()
