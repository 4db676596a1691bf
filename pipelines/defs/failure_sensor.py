"""Tells that a run failed: which, at which step, and why; and sends what an address did not take before."""

from datetime import UTC, datetime

import dagster as dg

from embup_core.errors import EmbupError
from pipelines.defs.resources import Notifications
from pipelines.notifications import Message

REASON_CHARACTERS = 2000
NO_STEP = "its start"
REFUSED = "refused"


@dg.run_failure_sensor(
    name="tell_of_failed_runs",
    description="Sends a message for each run that failed (EMBUP_NOTIFY_FILE).",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
)
def tell_of_failed_runs(context: dg.RunFailureSensorContext, notifications: Notifications) -> None:
    """Send one message a failed run."""
    run = context.dagster_run
    if run.tags.get("verdict") == REFUSED:  # its drop has been told of
        return
    failures = context.get_step_failure_events()
    step = (failures[0].step_key if failures else None) or NO_STEP
    notifications.tell(
        Message.run_failed(
            run.job_name,
            run.run_id,
            step=step,
            reason=_reason(context),
            partition=run.tags.get("dagster/partition", ""),
        ),
        context.log.info,
    )


@dg.sensor(
    name="send_waiting_messages",
    description="Sends messages again that an address did not take: after a minute, then ever more rarely.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
)
def send_waiting_messages(context: dg.SensorEvaluationContext, notifications: Notifications) -> dg.SkipReason:
    """Send what waits and is due."""
    try:
        found = notifications.notifier().send_waiting(datetime.now(UTC))
    except (EmbupError, OSError) as error:
        return dg.SkipReason(f"Messages wait: {error}")
    for key, delivery in found.items():
        log = context.log.warning if delivery.given_up else context.log.info
        log("message %s: %s", key, delivery)
    waiting = sum(one.waits for one in found.values())
    return dg.SkipReason(f"{waiting} messages wait." if waiting else "No message waits.")


def _reason(context: dg.RunFailureSensorContext) -> str:
    """The failed checks, or else the error of the first failed step, without its trace."""
    checks = context.instance.all_logs(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    found = [one.get_dagster_event().asset_check_evaluation_data for one in checks]
    failed = [
        f"{check.asset_key.to_user_string()}, check {check.check_name}: {check.description or 'failed'}"
        for check in found
        if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR
    ]
    if failed:
        return "\n".join(failed)[:REASON_CHARACTERS]
    steps = context.get_step_failure_events()
    error = steps[0].step_failure_data.error if steps else None
    while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause  # Dagster's wrapper of what an asset raised
    text = (error.message if error is not None else context.failure_event.message) or "unknown"
    return text.strip()[:REASON_CHARACTERS]
