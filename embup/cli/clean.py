"""`embup clean`: remove old records of trainings."""

from typing import Annotated

import typer

from embup.cli import options
from embup.cli.output import print_json, print_table, say
from embup_core.extras import extra_required

DAYS_A_MONTH = 30.44


@extra_required("dagster")
def clean(
    *,
    months: Annotated[
        int, typer.Option("--older-than-months", min=1, help="Runs that ended longer ago are removed.")
    ] = 12,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Remove old runs from Dagster's records.

    Successful runs of a month stay, and the last successful run of each job. Decoders are no concern of this
    command: see `embup models prune`.
    """
    from datetime import UTC, datetime, timedelta

    import dagster as dg

    from pipelines.cleaning import old_runs, remove_old_runs
    from pipelines.instance import prepare_dagster_home

    before = datetime.now(UTC) - timedelta(days=months * DAYS_A_MONTH)
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(data))) as instance:
        runs = (old_runs if dry_run else remove_old_runs)(instance, before)
    if json:
        print_json({"removed": [run.run_id for run in runs], "dry_run": dry_run})
        return
    rows = [(run.run_id, run.job, run.status, f"{run.ended:%Y-%m-%d}") for run in runs]
    print_table(("run", "job", "status", "ended"), rows)
    say(f"{len(rows)} runs {'would be ' if dry_run else ''}removed from {data}")
