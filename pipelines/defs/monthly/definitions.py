"""All definitions of monthly drops, for the one assembler to merge."""

import dagster as dg

from embup_core.drops.month import DROPS_CACHE
from pipelines.defs.monthly.assets import monthly_assets
from pipelines.defs.monthly.place import DropsPlace, months_from
from pipelines.defs.monthly.triggers import (
    drop_sensor,
    late_drop_check,
    late_drop_job,
    late_drop_schedule,
    monthly_job,
)
from pipelines.settings import PipelineSettings


def monthly_definitions(settings: PipelineSettings) -> dg.Definitions:
    """Assets, checks, job, sensor and schedule of the drops in `settings.drops`."""
    months = months_from(settings.first_month)
    return dg.Definitions(
        assets=monthly_assets(months),
        asset_checks=[late_drop_check(settings.drop_due_day)],
        jobs=[monthly_job, late_drop_job],
        sensors=[drop_sensor(months)],
        schedules=[late_drop_schedule],
        resources={"drops": DropsPlace(root=settings.drops, cache=str(settings.data / DROPS_CACHE))},
    )
