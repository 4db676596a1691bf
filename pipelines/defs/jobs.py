"""What can be started by name."""

import dagster as dg

from pipelines.defs.assets import debugger

TRAIN_AND_PUBLISH = "train_and_publish"
MONTHLY = "monthly"
"""Group of the assets of monthly drops, and their job."""
DEBUG_TRAINING_DATA = "debug_training_data"

_DEBUGGER = dg.AssetSelection.groups(debugger.GROUP)

train_and_publish_job = dg.define_asset_job(
    TRAIN_AND_PUBLISH,
    selection=dg.AssetSelection.all() - _DEBUGGER - dg.AssetSelection.groups(MONTHLY),
    description="From the two files to a published decoder, and on to the running service.",
)
debug_training_data_job = dg.define_asset_job(
    DEBUG_TRAINING_DATA,
    selection=_DEBUGGER,
    description="Look for rows and slices of the training data that are wrong, or that decoders get wrong.",
)
