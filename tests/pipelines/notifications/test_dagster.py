"""Dagster tells: a failed run with its step and reason, and what became of a published version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.evaluation import PairScores, Scores
from embup_core.training.promotion import PreviousVersion, Promotion
from embup_core.training.publication import Published
from embup_core.training.selection import Evaluation
from pipelines.definitions import build_defs
from pipelines.defs.failure_sensor import send_waiting_messages, tell_of_failed_runs
from pipelines.defs.resources import Notifications
from pipelines.notifications import Kind, Message
from pipelines.notifications.outcome import outcome_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.sources import SourceFiles
    from pipelines.settings import PipelineSettings


def failed(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> Any:
    [event] = [one for one in result.all_events if one.event_type_value == "PIPELINE_FAILURE"]
    return dg.build_run_status_sensor_context(
        sensor_name="tell_of_failed_runs",
        dagster_event=event,
        dagster_instance=instance,
        dagster_run=result.dagster_run,
    ).for_run_failure()


@pytest.mark.parametrize("broken", ["missing", "mismatched"])
def test_a_failed_run_is_told_once_with_step_reason_and_link(
    run: Callable[..., dg.ExecuteInProcessResult],
    dagster_instance: dg.DagsterInstance,
    webhook: Any,
    addresses: Callable[..., Path],
    tmp_path: Path,
    broken: str,
) -> None:
    source = tmp_path / "broken"
    if broken == "mismatched":
        source.mkdir()
        (source / "projected_train_embs.npy").write_bytes(b"no array")
        (source / "og_train_cos_theta.npy").write_bytes(b"no array")
    result = run(source=str(source))
    assert not result.success
    told = Notifications(
        file=str(addresses(webhook.url)), data=str(tmp_path), dagster_url="http://127.0.0.1:3000"
    )
    for _ in range(2):
        tell_of_failed_runs(failed(result, dagster_instance), notifications=told)
    [posted] = webhook.received
    assert posted["title"].startswith("embup: test failed at projected_embeddings")
    assert str(source) in posted["message"]
    assert "Traceback" not in posted["message"]
    assert posted["message"].endswith(f"http://127.0.0.1:3000/runs/{result.run_id}")


def test_a_promotion_is_told(
    run: Callable[..., dg.ExecuteInProcessResult],
    settings: PipelineSettings,
    webhook: Any,
    addresses: Callable[..., Path],
) -> None:
    file = addresses(webhook.url)
    assert run(decoder="kriging", notify_file=file).success
    first = Registry(settings.registry).current_version()
    assert webhook.titles == [f"embup: {first} is in service"]
    assert "R2 of cosines on test rows" in webhook.received[0]["message"]
    assert webhook.received[0]["type"] == "success"


def test_a_held_version_is_told_and_one_that_was_to_wait_is_not(
    registry: Registry,
) -> None:
    info = registry.current()
    scores = Scores(PairScores(10, 0.03, 0.02, 0.0, 0.6, 0.5), None, 0.4)
    evaluation = Evaluation("kriging", {"kriging": {}}, {"kriging": scores}, {"kriging": scores}, {})
    previous = PreviousVersion("v1", "kriging")
    held = outcome_message(
        Published(info, previous, Promotion(False, "It is worse."), None), evaluation, run_id="r"
    )
    assert held is not None
    assert (held.kind, held.about, held.run_id) == (Kind.held, info.version, "r")
    assert "It is worse." in held.body
    assert "v1 stays in service" in held.body
    assert outcome_message(Published(info, previous, Promotion(False, None), None), evaluation) is None


def test_the_reason_of_a_failed_check_is_what_it_found(
    run: Callable[..., dg.ExecuteInProcessResult],
    dagster_instance: dg.DagsterInstance,
    webhook: Any,
    addresses: Callable[..., Path],
    affine_source: SourceFiles,
    tmp_path: Path,
) -> None:
    z = np.load(affine_source.projected)
    np.save(affine_source.projected, np.roll(z, 1, axis=0))
    result = run(source=affine_source.name, output_dims=100)
    assert not result.success
    told = Notifications(file=str(addresses(webhook.url)), data=str(tmp_path))
    tell_of_failed_runs(failed(result, dagster_instance), notifications=told)
    [posted] = webhook.received
    assert "check rows_belong_together" in posted["message"]


def test_the_sensor_runs_from_the_start(settings: PipelineSettings) -> None:
    sensor = build_defs(settings).get_repository_def().get_sensor_def("tell_of_failed_runs")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


def test_the_sensor_sends_what_waits(webhook: Any, addresses: Callable[..., Path], tmp_path: Path) -> None:
    told = Notifications(file=str(addresses(webhook.url)), data=str(tmp_path))
    webhook.status = 503
    logged: list[str] = []
    told.tell(Message.drop_late("2026-11", due="2026-11-05"), logged.append)
    assert "503" in logged[0]
    webhook.status = 200
    waiting = tmp_path / "notifications" / "waiting.jsonl"
    earlier = waiting.read_text().replace(str(datetime.now(UTC).date()), "2020-01-01")
    waiting.write_text(earlier.replace('"since": "2020-01-01', f'"since": "{datetime.now(UTC).date()}'))
    context = dg.build_sensor_context(resources={"notifications": told})
    send_waiting_messages(context)
    assert webhook.titles == ["embup: drop 2026-11 is late"]
    assert not waiting.exists()
    send_waiting_messages(context)
    assert len(webhook.received) == 1
    webhook.status = 503
    told.tell(Message.drop_late("2026-12", due="2026-12-05"), logged.append)
    waiting.write_text(waiting.read_text().replace(str(datetime.now(UTC).date()), "2020-01-01"))
    given_up: Any = send_waiting_messages(context)
    assert given_up.skip_message == "No message waits."
