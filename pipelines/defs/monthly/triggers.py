"""What starts a month: a sensor that sees a complete drop; and a schedule that looks for a late one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from embup_core.drops.format import DROP_FILE
from pipelines.defs.jobs import MONTHLY
from pipelines.defs.monthly.place import MONTH_FORMAT, DropsPlace
from pipelines.defs.resources import Notifications
from pipelines.notifications import Message

LATE_DROP = "late_drop"
IN_TIME = "drop_in_time"
DAILY = "0 8 * * *"
LOOK_INTERVAL_S = 60
DAY_TAG = "day"
"""Tag of a run: the day that a late drop is looked for on, YYYY-MM-DD; by default today."""

_IN_TIME_KEY = dg.AssetCheckKey(dg.AssetKey("drop"), IN_TIME)
monthly_job = dg.define_asset_job(
    MONTHLY,
    selection=dg.AssetSelection.groups(MONTHLY) - dg.AssetSelection.checks(_IN_TIME_KEY),
    description="Check the drop of a month, train on all accepted drops, and publish the decoder.",
)
late_drop_job = dg.define_asset_job(
    LATE_DROP,
    selection=dg.AssetSelection.checks(_IN_TIME_KEY),
    description="Fails its check where the drop of this month is late.",
)


@dg.schedule(
    name=LATE_DROP,
    job=late_drop_job,
    cron_schedule=DAILY,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks every morning whether the drop of the month is late.",
)
def late_drop_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Start a look on the day of the schedule, on whatever day it is made up for."""
    return dg.RunRequest(tags={DAY_TAG: context.scheduled_execution_time.date().isoformat()})


def drop_sensor(months: dg.MonthlyPartitionsDefinition) -> dg.SensorDefinition:
    """Start a run for the first complete drop without a verdict; one that is delivered again is run again."""

    @dg.sensor(
        name="drop_delivered",
        job=monthly_job,
        minimum_interval_seconds=LOOK_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a month when its drop is complete.",
    )
    def drop_delivered(drops: DropsPlace) -> Iterator[dg.RunRequest | dg.SkipReason]:
        place = drops.look()
        known = set(months.get_partition_keys())
        # One after the other: a drop is checked against all earlier ones.
        month = next((one for one in place.months() if one in known and place.report(one) is None), None)
        if month is not None:
            delivered_ns = (place.drop_path(month) / DROP_FILE).stat().st_mtime_ns
            yield dg.RunRequest(
                run_key=f"{month}-{(place.delivered(month) or '')[:16]}-{delivered_ns}",
                partition_key=month,
                tags={"drop": month},
            )
        else:
            waiting = place.incomplete()
            yield dg.SkipReason(
                f"No new drop in {place.root}."
                + (f" {', '.join(waiting)} is not complete." if waiting else "")
            )

    return drop_delivered


def late_drop_check(due_day: int) -> dg.AssetChecksDefinition:
    """Whether the drop of this month is there, from a day of the month on."""

    @dg.asset_check(
        asset="drop",
        name=IN_TIME,
        description=f"The drop of a month is complete by day {due_day} of it.",
    )
    def drop_in_time(
        context: dg.AssetCheckExecutionContext, drops: DropsPlace, notifications: Notifications
    ) -> dg.AssetCheckResult:
        place, day = drops.look(), context.run.tags.get(DAY_TAG)
        today = datetime.now(UTC) if day is None else datetime.fromisoformat(day)
        late = late_month(place.months(), today, due_day)
        waiting = place.incomplete()
        if late is not None:
            due = f"{late}-{due_day:02d}"
            notifications.tell(Message.drop_late(late, due=due), context.log.info)
        state = "begun and not complete" if late in waiting else "not there"
        return dg.AssetCheckResult(
            passed=late is None,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"The drop {late} is late: it is {state}." if late else "No drop is late.",
            metadata={"month": today.strftime(MONTH_FORMAT), "due_day": due_day, "incomplete": waiting},
        )

    return drop_in_time


def late_month(complete: list[str], today: datetime, due_day: int) -> str | None:
    """The current month, where its drop is due and not complete, or the one before, which still is not."""
    this = today.strftime(MONTH_FORMAT)
    before = (today.replace(day=1) - timedelta(days=1)).strftime(MONTH_FORMAT)
    # The month before is late until it comes, if drops had begun by then.
    if complete and complete[0] < before and before not in complete:
        return before
    return this if today.day >= due_day and this not in complete else None
