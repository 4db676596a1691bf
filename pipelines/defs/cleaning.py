"""Removes what trainings leave, once a week: old versions, runs, staged results and copies of sources."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from embup_core.errors import EmbupError
from pipelines.cleaning import DAYS_A_MONTH, old_files, remove_files, remove_old_runs
from pipelines.defs.resources import DataFolder, DecoderRegistry, Retention
from pipelines.pinned import pinned_versions

CLEAN = "clean"
SUNDAYS = "0 4 * * 0"
LEAST_DAYS = 90
"""No younger version goes, however many there are: it may be held, and somebody may still promote it."""


@dg.op(
    description="Removes what the settings say need not stay; a place that does not answer is passed over."
)
def remove_what_is_old(
    context: dg.OpExecutionContext,
    retention: Retention,
    registry: DecoderRegistry,
    data_folder: DataFolder,
) -> None:
    """Remove old versions, runs and files, and show how many."""
    data, now = Path(data_folder.root), datetime.now(UTC)
    removed: dict[str, str] = {}
    if retention.keep_versions:
        try:
            opened = registry.open()
            since = f"{now - timedelta(days=LEAST_DAYS):%Y%m%d-%H%M%S}"  # as names of versions begin
            young = [version for version in opened.version_names() if version >= since]
            versions = opened.prune(
                retention.keep_versions, quarterly=True, pinned=[*pinned_versions(data), *young]
            )
            removed["versions"] = ", ".join(versions) or "none"
        except EmbupError as error:
            context.log.warning("Versions are not pruned: %s", error)
            removed["versions"] = f"not pruned: {error}"
    if retention.keep_run_months:
        before = now - timedelta(days=retention.keep_run_months * DAYS_A_MONTH)
        removed["runs"] = str(len(remove_old_runs(context.instance, before)))
    if retention.keep_file_days:
        files = old_files(data, now - timedelta(days=retention.keep_file_days))
        remove_files(files)
        removed["files"] = str(len(files))
    context.add_output_metadata(removed)
    context.log.info("removed: %s", removed)


@dg.job(name=CLEAN, description="Removes old versions, runs, staged results and copies of sources.")
def clean_job() -> None:
    """One step."""
    remove_what_is_old()


clean_schedule = dg.ScheduleDefinition(
    name=CLEAN,
    job=clean_job,
    cron_schedule=SUNDAYS,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Cleans every Sunday, while no training runs.",
)
