"""Old records that nothing needs any more: Dagster's runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from datetime import datetime

PARTITION_TAG = "dagster/partition"
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_AT_ONCE = 500


@dataclass(frozen=True)
class OldRun:
    """A run that may go.

    Attributes
    ----------
    run_id, job, status
        What it was.
    ended
        When it was last heard of, in UTC.
    """

    run_id: str
    job: str
    status: str
    ended: datetime


def old_runs(instance: dg.DagsterInstance, before: datetime) -> list[OldRun]:
    """Ended runs from before a time that nothing needs, the oldest first.

    With a run go the materializations that it recorded. So a month's successful run stays, or the month would
    count as missing, and the last successful run of each job stays.

    Parameters
    ----------
    instance
        Whose records.
    before
        With a time zone.
    """
    found: list[OldRun] = []
    seen: set[str] = set()
    cursor: str | None = None
    while True:  # the newest first; the cursor goes by the order of beginning, and by no other
        records = instance.get_run_records(dg.RunsFilter(statuses=_ENDED), limit=_AT_ONCE, cursor=cursor)
        for record in records:
            run = record.dagster_run
            if run.is_success and (PARTITION_TAG in run.tags or run.job_name not in seen):
                seen.add(run.job_name)
            elif record.update_timestamp < before:
                found.append(OldRun(run.run_id, run.job_name, run.status.value, record.update_timestamp))
        if len(records) < _AT_ONCE:
            return sorted(found, key=lambda run: run.ended)
        cursor = records[-1].dagster_run.run_id


def remove_old_runs(instance: dg.DagsterInstance, before: datetime) -> list[OldRun]:
    """Remove what `old_runs` finds, with its events; returns it."""
    runs = old_runs(instance, before)
    for run in runs:
        instance.delete_run(run.run_id)
    return runs
