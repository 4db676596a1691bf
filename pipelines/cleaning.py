"""What trainings leave and nothing needs any more: Dagster's runs, staged results, copies of sources."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from debugger.reading import open_dataset
from debugger.store.names import SOURCE, list_datasets
from embup_core.errors import EmbupError
from embup_core.sources.resolve import cached_copy
from embup_core.sources.stored import RECORD_FILE
from embup_core.training.data_folder import remembered_source
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
_MADE_AGAIN = re.compile(r"unpacked-[0-9a-f]{12}|\.?recovered-[0-9a-f]{12}(-.+)?|\.?sample-[0-9]+-.+")
_FETCHED = re.compile(r"download-[0-9a-f]{12}")


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
    count as missing, and so do the last successful run of each job and the last run that made an asset.

    Parameters
    ----------
    instance
        Whose records.
    before
        With a time zone.
    """
    found: list[OldRun] = []
    seen: set[str] = set()
    latest = map(instance.get_latest_materialization_event, instance.all_asset_keys())
    last_made_by = {event.run_id for event in latest if event is not None}
    cursor: str | None = None
    while True:  # the newest first; the cursor goes by the order of beginning, and by no other
        records = instance.get_run_records(dg.RunsFilter(statuses=_ENDED), limit=_AT_ONCE, cursor=cursor)
        for record in records:
            run = record.dagster_run
            if run.is_success and (PARTITION_TAG in run.tags or run.job_name not in seen):
                seen.add(run.job_name)
            elif run.run_id not in last_made_by and record.update_timestamp < before:
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
    """Staged results and copies of sources that were last used before a time, and that nothing names.

    An asset's result names files by their place in the data folder, however that was spelled. The source that
    the data folder belongs to and those of the debugger's data sets stay: their addresses may have expired.
    What embup did not put below ``sources`` stays as well.

    Parameters
    ----------
    data
        The data folder.
    before
        With a time zone.
    """
    named = "".join(path.read_text("utf-8") for path in (data / HANDLES).glob("**/*.json"))
    staged = (path for path in (data / STAGING).glob("*/*") if not path.name.startswith("."))
    found = (*staged, *_copies_of_sources(data))
    return sorted(
        path
        for path in found
        if path.relative_to(data).as_posix() not in named and _used_s(path) < before.timestamp()
    )


def _copies_of_sources(data: Path) -> list[Path]:
    """Copies that can be made or fetched again, and that nothing known will ask for."""
    here = list((data / SOURCES).glob("*"))
    made = [path for path in here if _MADE_AGAIN.fullmatch(path.name)]
    fetched = [path for path in here if _FETCHED.fullmatch(path.name) or (path / RECORD_FILE).is_file()]
    specs = [remembered_source(data)]
    try:
        for name in list_datasets(data) if fetched else ():
            with open_dataset(data, name) as opened:
                if opened.described["kind"] == SOURCE:
                    specs.append(opened.described["source"])
        needed = {cached_copy(spec, data / SOURCES) for spec in specs if spec}
    except EmbupError:  # a broken data set: nobody knows what it needs
        return made
    return made + [path for path in fetched if path not in needed]


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files and folders, and the folder that held them where it is empty now.

    Others may remove, or write, the same meanwhile.
    """
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if path.parent.name != SOURCES:
            with suppress(OSError):  # it is not empty, or gone
                path.parent.rmdir()


def _used_s(path: Path) -> float:
    """When a file, or the newest of a folder, was written or touched; infinite where it is being removed."""
    try:
        return max(one.lstat().st_mtime for one in (path, *path.glob("**/*")))
    except OSError:
        return float("inf")
