"""The place of drops, as a resource, and the months that may have one."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from embup_core.drops import DropsFolder, open_drops
from pipelines.settings import PipelineSettings

MONTH_FORMAT = "%Y-%m"


class DropsPlace(dg.ConfigurableResource["DropsPlace"]):
    """Where drops are delivered."""

    root: str = Field(description=str(PipelineSettings.model_fields["drops"].description))
    cache: str = Field(description="Folder of local copies of drops in an object store.")

    def open(self) -> DropsFolder:
        """The place."""
        return open_drops(self.root, cache=Path(self.cache))

    def look(self) -> DropsFolder:
        """The place to see which months there are, within the time of a tick: nothing large is fetched."""
        return open_drops(self.root, cache=Path(self.cache), look=True)


def months_from(first_month: str) -> dg.MonthlyPartitionsDefinition:
    """A partition for each month since the first, the current one among them."""
    return dg.MonthlyPartitionsDefinition(start_date=first_month, fmt=MONTH_FORMAT, end_offset=1)
