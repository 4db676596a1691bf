"""Old runs go from a real instance, and those that something needs stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from pipelines.cleaning import old_runs, remove_old_runs
from pipelines.instance import prepare_dagster_home

if TYPE_CHECKING:
    from pathlib import Path


@dg.asset
def sound() -> int:
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
