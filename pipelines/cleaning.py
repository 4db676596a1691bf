"""What trainings leave and nothing needs any more: Dagster's runs, staged results, copies of sources."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from pipelines.instance import HOME

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

PARTITION_TAG = "dagster/partition"
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_AT_ONCE = 500
DAYS_A_MONTH = 30.44
STAGING = "staging"
SOURCES = "sources"
HANDLES = f"{HOME}/handles"


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


def old_files(data: Path, before: datetime) -> list[Path]:
    """Staged results and copies of sources that were written before a time, and that no asset's result names.

    All of them can be made or fetched again.

    Parameters
    ----------
    data
        The data folder.
    before
        With a time zone.
    """
    named = "".join(path.read_text("utf-8") for path in (data / HANDLES).glob("**/*.json"))
    staged = (path for path in (data / STAGING).glob("*/*") if not path.name.startswith("."))
    found = (path for path in (*staged, *(data / SOURCES).glob("*")))
    return sorted(path for path in found if str(path) not in named and _written_s(path) < before.timestamp())


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files and folders, and the folder that held them where it is empty now."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if path.parent.name != SOURCES and not any(path.parent.iterdir()):
            path.parent.rmdir()


def _written_s(path: Path) -> float:
    """When a file, or the newest one of a folder, was written."""
    return max((one.lstat().st_mtime for one in (path, *path.glob("**/*"))), default=0.0)
