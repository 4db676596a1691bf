"""Old records that nothing needs any more: Dagster's runs, and training sets that newer ones contain."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

PARTITION_TAG = "dagster/partition"
TRAINING_SETS = "training-sets"
TRAINING_SETS_KEPT = 2
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
    while True:  # the newest first
        records = instance.get_run_records(
            dg.RunsFilter(statuses=_ENDED), limit=_AT_ONCE, cursor=cursor, order_by="update_timestamp"
        )
        for record in records:
            run = record.dagster_run
            if run.is_success and (PARTITION_TAG in run.tags or run.job_name not in seen):
                seen.add(run.job_name)
            elif record.update_timestamp < before:
                found.append(OldRun(run.run_id, run.job_name, run.status.value, record.update_timestamp))
        if len(records) < _AT_ONCE:
            return found[::-1]
        cursor = records[-1].dagster_run.run_id


def old_training_sets(data: Path) -> list[Path]:
    """Training sets below a data folder but the last two, by name; each month's holds all rows before."""
    folder = data / TRAINING_SETS
    sets = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return sets[:-TRAINING_SETS_KEPT]


def clean(instance: dg.DagsterInstance, data: Path, before: datetime) -> tuple[list[OldRun], list[Path]]:
    """Remove them; returns what was removed."""
    runs, sets = old_runs(instance, before), old_training_sets(data)
    for run in runs:
        instance.delete_run(run.run_id)
    for path in sets:
        shutil.rmtree(path)
    return runs, sets
