"""What can be started by name."""

import dagster as dg

TRAIN_AND_PUBLISH = "train_and_publish"

train_and_publish_job = dg.define_asset_job(
    TRAIN_AND_PUBLISH,
    selection=dg.AssetSelection.all(),
    description="From the two files to a published decoder, and on to the running service.",
)
