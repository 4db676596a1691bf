"""`embup clean`: remove old records of trainings."""

from typing import Annotated

import typer

from embup.cli import options
from embup.cli.output import print_json, print_table, say
from embup_core.extras import extra_required


@extra_required("dagster")
def clean(
    *,
    months: Annotated[
        int,
        typer.Option("--older-than-months", min=0, help="Runs that ended longer ago are removed; 0: none."),
    ] = 12,
    days: Annotated[
        int,
        typer.Option(
            "--files-older-than-days",
            min=0,
            help="Staged results and copies of sources that were not used for longer are removed; 0: none.",
        ),
    ] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Remove old runs, staged results and copies of sources.

    Successful runs of a month stay, the last successful run of each job, and files that the present results
    of Dagster's assets rest on. Decoders are no concern of this command: see `embup models prune`.
    """
    from datetime import UTC, datetime, timedelta

    import dagster as dg

    from pipelines.cleaning import DAYS_A_MONTH, old_files, old_runs, remove_files, remove_old_runs
    from pipelines.instance import prepare_dagster_home

    now = datetime.now(UTC)
    before = now - timedelta(days=months * DAYS_A_MONTH)
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(data))) as instance:
        runs = (old_runs if dry_run else remove_old_runs)(instance, before) if months else []
    files = old_files(data.absolute(), now - timedelta(days=days)) if days else []
    if not dry_run:
        remove_files(files)
    if json:
        removed = {"removed": [run.run_id for run in runs], "files": [str(path) for path in files]}
        print_json({**removed, "dry_run": dry_run})
        return
    rows = [(run.run_id, run.job, run.status, f"{run.ended:%Y-%m-%d}") for run in runs]
    print_table(("run", "job", "status", "ended"), rows)
    for path in files:
        print(path)
    verb = "would be removed" if dry_run else "removed"
    say(f"{len(runs)} runs and {len(files)} files {verb} from {data}")
