"""The one assembler of all definitions: what Dagster loads, what the command line runs, what tests change."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from pipelines.defs import checks
from pipelines.defs.assets import debugger, evaluation, geometry, inputs, publication, transform
from pipelines.defs.assets.candidates import candidate_assets
from pipelines.defs.cleaning import clean_job, clean_schedule
from pipelines.defs.failure_sensor import send_waiting_messages, tell_of_failed_runs
from pipelines.defs.jobs import debug_training_data_job, train_and_publish_job
from pipelines.defs.monthly.definitions import monthly_definitions
from pipelines.defs.resources import resources_for
from pipelines.settings import PipelineSettings


def build_defs(
    settings: PipelineSettings | None = None, resource_overrides: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Assemble assets, checks, jobs, sensors and resources; with a place of drops, what belongs to these.

    Parameters
    ----------
    settings
        What resources are made from; by default the EMBUP_* variables.
    resource_overrides
        Resources to use instead, by key.
    """
    settings = settings or PipelineSettings()
    graph = dg.Definitions(
        assets=[
            *dg.load_assets_from_modules([inputs, geometry, transform, evaluation, publication, debugger]),
            candidate_assets(),
        ],
        asset_checks=dg.load_asset_checks_from_modules([checks]),
        jobs=[train_and_publish_job, debug_training_data_job, clean_job],
        schedules=[clean_schedule],
        sensors=[tell_of_failed_runs, send_waiting_messages],
        resources={**resources_for(settings), **(resource_overrides or {})},
        # One process a run: steps share its imports, and never do two fits compete for cores and memory.
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(graph, monthly_definitions(settings)) if settings.drops else graph


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` and `dagster definitions validate` load."""
    return build_defs()
