"""Monthly drops in Dagster: the sensor starts a run, checks refuse or let through, a late drop shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.drops import DropsFolder
from embup_core.drops.make import make_drop
from embup_core.drops.report import CHECKS
from embup_core.errors import (
    InvalidDataError,
    ObjectChangedError,
    ObjectStoreError,
    RegistryUnavailableError,
)
from pipelines.definitions import build_defs
from pipelines.defs.monthly.assets import network_is_tried_again
from pipelines.defs.monthly.place import months_from
from pipelines.defs.monthly.triggers import IN_TIME, late_month
from pipelines.notifications.drop_news import drop_messages
from pipelines.settings import PipelineSettings
from tests.embup_core.drops.conftest import DIMS, FIRST, LATER, SHORT, unit

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def _addresses(folder: Path) -> Path:
    """A file of one address where nobody listens: messages are tried, and stop nothing."""
    path = folder / "addresses"
    path.write_text("json://127.0.0.1:9/\n")
    path.chmod(0o600)
    return path


class Months:
    """A place of drops, and a Dagster instance that runs its months."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.place = DropsFolder(folder / "place")
        self.settings = PipelineSettings(
            drops=str(self.place.root),
            registry=folder / "registry",
            data=folder / "data",
            output_dims=DIMS,
            decoder="kriging",
            notify_file=_addresses(folder),
        )
        rng = np.random.default_rng(0)
        topics = np.repeat(rng.standard_normal((90, DIMS)), 10, axis=0)
        scales = np.arange(1, DIMS + 1) ** -0.7
        originals = unit((topics + 0.5 * rng.standard_normal((900, DIMS))) * scales + 0.1)
        self.x = originals[rng.permutation(900)]
        self.z = unit(self.x @ rng.standard_normal((DIMS, SHORT)) + 0.1)
        make_drop(self.place, "2026-01", self.z[:FIRST], originals=self.x[:FIRST])

    def deliver(self, month: str, *, exchanged: int = 0) -> None:
        z = self.z[FIRST : FIRST + LATER].copy()
        z[:exchanged] = np.roll(z[:exchanged], 1, axis=0)
        landmarks = self.x[np.load(self.place.root / "landmarks" / "rows.npy")]
        make_drop(
            self.place,
            month,
            z,
            originals=self.x[FIRST : FIRST + LATER],
            landmark_originals=landmarks,
            overwrite=True,
        )

    def run(self, month: str, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
        job = build_defs(self.settings).resolve_job_def("monthly")
        return job.execute_in_process(
            instance=self.instance,
            partition_key=month,
            run_config=QUIET,
            tags=tags or {},
            raise_on_error=False,
        )

    def requests(self) -> list[dg.RunRequest]:
        sensor = build_defs(self.settings).resolve_sensor_def("drop_delivered")
        resources = {"drops": (build_defs(self.settings).resources or {})["drops"]}
        context = dg.build_sensor_context(instance=self.instance, resources=resources)
        found = sensor(context)
        return [one for one in found if isinstance(one, dg.RunRequest)]  # type: ignore[union-attr]


@pytest.fixture
def months(tmp_path: Path, dagster_instance: dg.DagsterInstance) -> Months:
    return Months(tmp_path, dagster_instance)


def test_the_definitions_load_and_are_as_agreed(months: Months, snapshot: SnapshotAssertion) -> None:
    defs = build_defs(months.settings)
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    specs = {
        node.key.to_user_string(): {
            "deps": sorted(key.to_user_string() for key in node.parent_keys),
            "group": node.group_name,
            "owners": sorted(node.owners),
            "kinds": sorted(node.kinds),
            "partitioned": node.partitions_def is not None,
            "checks": sorted(
                f"{key.name}{' (blocks)' if graph.get_check_spec(key).blocking else ''}"
                for key in node.check_keys
            ),
        }
        for node in graph.asset_nodes
        if node.group_name == "monthly"
    }
    assert specs == snapshot
    assert all(node.description for node in graph.asset_nodes)
    trained = defs.resolve_job_def("train_and_publish").asset_layer.selected_asset_keys
    assert not {key.to_user_string() for key in trained} & set(specs)


def test_without_a_place_of_drops_there_is_nothing_about_them() -> None:
    graph = build_defs(PipelineSettings()).resolve_asset_graph()
    assert "monthly" not in {node.group_name for node in graph.asset_nodes}


def test_a_month_runs_from_the_sensor_to_the_registry(months: Months) -> None:
    (asked,) = months.requests()
    assert asked.partition_key == "2026-01"
    assert asked.tags["drop"] == "2026-01"
    result = months.run("2026-01", dict(asked.tags))
    assert result.success
    assert months.requests() == []
    run = months.instance.get_run_by_id(result.run_id)
    assert run is not None
    version = Registry(months.settings.registry).current_version()
    assert run.tags["version"] == version
    assert run.tags["decision"] == "promoted"
    assert run.tags["rows"] == str(FIRST)
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert set(checks) == set(CHECKS)
    assert all(one.passed for one in checks.values())


def test_a_refused_drop_stops_the_run_and_is_not_tried_again(months: Months) -> None:
    assert months.run("2026-01").success
    version = Registry(months.settings.registry).current_version()
    months.deliver("2026-02", exchanged=LATER)
    (asked,) = months.requests()
    result = months.run("2026-02")
    assert not result.success
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    refused = checks["rows_belong"]
    assert not refused.passed
    assert refused.severity == dg.AssetCheckSeverity.ERROR
    offenders = refused.metadata["offenders"].value
    assert isinstance(offenders, list)
    assert offenders[0]["belongs_to"] is not None
    retried = [event for event in result.all_events if event.is_step_restarted]
    assert retried == []
    steps = {event.step_key for event in result.all_events if event.is_step_success}
    assert not steps & {"training_set", "monthly_decoder"}
    assert Registry(months.settings.registry).current_version() == version
    assert months.requests() == [], "a verdict is not asked for twice"
    # Delivered again, and right.
    months.deliver("2026-02")
    (again,) = months.requests()
    assert again.run_key != asked.run_key
    assert months.run("2026-02").success


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (ObjectStoreError("503"), dg.RetryRequested),
        (ObjectChangedError("delivered again"), dg.RetryRequested),
        (RegistryUnavailableError("no answer"), dg.RetryRequested),
        (OSError(5, "Input/output error"), dg.RetryRequested),
        (InvalidDataError("nonsense"), dg.Failure),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_the_system_does_is_tried_again_and_bad_data_is_not(
    error: Exception, asked: type[Exception]
) -> None:
    with pytest.raises(asked), network_is_tried_again():
        raise error


def test_wrong_rows_warn_and_the_month_goes_through(months: Months) -> None:
    assert months.run("2026-01").success
    months.deliver("2026-02", exchanged=4)
    result = months.run("2026-02")
    assert result.success
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert not checks["rows_belong"].passed
    assert checks["rows_belong"].severity == dg.AssetCheckSeverity.WARN
    materialized = result.asset_materializations_for_node("drop")[0].metadata
    assert materialized["quarantined"].value == [0, 1, 2, 3]
    assert json.dumps(materialized["checks"].value)


def test_an_incomplete_drop_starts_nothing(months: Months) -> None:
    (months.place.drop_path("2026-01") / "drop.json").unlink()
    assert months.requests() == []
    assert not months.run("2026-01").success


def test_the_current_month_is_a_partition() -> None:
    keys = months_from("2026-01").get_partition_keys()
    assert keys[0] == "2026-01"
    assert datetime.now(UTC).strftime("%Y-%m") in keys


@pytest.mark.parametrize(
    ("day", "complete", "late"),
    [(4, [], None), (5, [], "2026-09"), (5, ["2026-09"], None), (30, ["2026-08"], "2026-09")],
)
def test_a_drop_is_late_from_its_day_on(day: int, complete: list[str], late: str | None) -> None:
    assert late_month(complete, datetime(2026, 9, day, tzinfo=UTC), 5) == late


def test_the_schedule_fails_a_check_where_a_drop_is_late(months: Months) -> None:
    settings = months.settings.model_copy(update={"drop_due_day": 1})
    defs = build_defs(settings)
    job = defs.resolve_job_def("late_drop")
    result = job.execute_in_process(instance=months.instance, run_config=QUIET, raise_on_error=False)
    (check,) = result.get_asset_check_evaluations()
    assert check.check_name == IN_TIME
    this_month = datetime.now(UTC).strftime("%Y-%m")
    assert check.passed is (this_month in months.place.months())


def test_messages_say_what_became_of_a_drop(months: Months) -> None:
    assert months.run("2026-01").success
    months.deliver("2026-02", exchanged=4)
    months.run("2026-02")
    months.deliver("2026-03", exchanged=LATER)
    months.run("2026-03")
    told = {}
    for month in ("2026-01", "2026-02", "2026-03"):
        report = months.place.report(month)
        assert report is not None
        told[month] = [str(message.kind) for message in drop_messages(report)]
    assert told["2026-01"] == []
    assert told["2026-02"][0] == "drop_quarantined"
    assert told["2026-03"] == ["drop_refused"]
