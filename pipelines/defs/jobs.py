"""What can be started by name."""

import dagster as dg

TRAIN_AND_PUBLISH = "train_and_publish"
MONTHLY = "monthly"
"""Group of the assets of monthly drops, and their job."""

train_and_publish_job = dg.define_asset_job(
    TRAIN_AND_PUBLISH,
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups(MONTHLY),
    description="From the two files to a published decoder, and on to the running service.",
)
