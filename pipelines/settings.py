"""What can be set about training, and where each value comes from: arguments, then EMBUP_* variables.

`python -m pipelines.settings` prints its table in docs/reference/settings.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from embup_core.artifacts.remote import registry_place
from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.settings_table import PREFIX, markdown_settings
from embup_core.training.data_folder import DEFAULT_SOURCE, REGISTRY_CACHE, remembered_source


class PipelineSettings(BaseSettings):
    """Settings of one training process; validated once, at start, and frozen."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    source: str = Field(
        default="",
        description="Training data: `sample` (generated), a folder, or an address such as "
        "`s3://bucket/prefix`, that holds `projected_train_embs.npy` and `og_train_cos_theta.npy` (or "
        "`landmark_cosines.npy` and `landmark_rows.npy`), or the URLs of the two, separated by a comma. "
        "Empty: the source that the data folder belongs to (its `source.json`), else `sample`.",
    )
    source_sha256: str = Field(
        default="",
        pattern=r"^([0-9a-fA-F]{64},[0-9a-fA-F]{64})?$",
        description="SHA-256 of the two downloads, separated by a comma. Empty: not compared.",
    )
    output_dims: int = Field(
        default=DEFAULT_OUTPUT_DIMS,
        ge=2,
        description="Dimensions of the originals, and so of decoded vectors. The files do not state them: "
        "the rank of the cosine matrix may be lower, but not higher.",
    )
    max_download_bytes: int = Field(
        default=8 * 2**30,
        gt=0,
        description="Largest file that is downloaded, in bytes; larger ones are refused.",
    )
    decoder: str = Field(
        default="auto",
        description="Name of the decoder to publish, or `auto`: the best on validation rows of those that "
        "can win, `ladder`: the best of all.",
    )
    promote: bool | None = Field(
        default=None,
        description="Whether a newly published decoder goes into service. Empty: unless another one is in "
        "service that was trained on other data, or is better on the same rows.",
    )
    registry: Annotated[Path | str, BeforeValidator(registry_place)] = Field(
        default=Path("data/registry"),
        description="Folder of published decoders, or an address: `s3://bucket/prefix`, `gs://...`, `az://...`.",
    )
    registry_cache: Path | None = Field(
        default=None,
        description="Folder of the verified copy of a registry in an object store. Not set: `registry-cache` "
        "in the data folder.",
    )
    data: Path = Field(
        default=Path("data"),
        description="Folder of downloads, intermediate results and Dagster's own records.",
    )
    service_url: str = Field(
        default="",
        pattern=r"^(https?://.*)?$",
        description="Service that is asked to load a newly promoted decoder. Empty: none; a service on the "
        "same registry loads it by itself within seconds.",
    )
    notify_file: Path | None = Field(
        default=None,
        description="File of addresses that messages go to, one apprise URL a line; only its owner and group "
        "may read it. Empty: no messages.",
    )
    dagster_url: str = Field(
        default="",
        pattern=r"^(https?://.*)?$",
        description="Where Dagster's pages are, for links in messages. Empty: no links.",
    )

    @property
    def cache_folder(self) -> Path:
        """Where a registry in an object store has its copies."""
        return self.data / REGISTRY_CACHE if self.registry_cache is None else self.registry_cache

    drops: str = Field(
        default="",
        description="Folder, or address such as `s3://bucket/prefix`, that holds `drops/`, the monthly "
        "deliveries of training data. Empty: there are none, and Dagster shows nothing about them.",
    )
    first_month: str = Field(
        default="2026-01",
        pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$",
        description="First month that may have a drop, YYYY-MM.",
    )
    drop_due_day: int = Field(
        default=5,
        ge=1,
        le=28,
        description="Day of a month from which on a drop that is not complete is late.",
    )

    keep_versions: int = Field(
        default=12,
        ge=0,
        description="How many of the newest versions stay when Dagster's schedule `clean` removes old ones. "
        "What is in service, what a rollback or a batch that has not ended needs, one version a quarter, and "
        "versions younger than 90 days stay as well. 0: all stay.",
    )
    keep_run_months: int = Field(
        default=12,
        ge=0,
        description="Months that Dagster's ended runs stay; a month's successful run stays for ever. 0: all "
        "stay.",
    )
    keep_file_days: int = Field(
        default=30,
        ge=0,
        description="Days after their last use that staged results and copies of sources stay which no "
        "result of an asset, no data set of the debugger and not `source.json` names. 0: all stay.",
    )

    @property
    def training_source(self) -> str:
        """The source to train on: the one set, else that of the data folder, else the sample."""
        return self.source or remembered_source(self.data) or DEFAULT_SOURCE

    @field_validator("promote", "notify_file", mode="before")
    @classmethod
    def _none_where_empty(cls, value: object) -> object:
        """An empty variable is one that is not set."""
        return None if value == "" else value

    @field_validator("registry", "registry_cache", "data", "notify_file")
    @classmethod
    def _make_absolute(cls, place: Path | str | None) -> Path | str | None:
        """Dagster's processes may have other working folders than the one that was started."""
        return place.expanduser().absolute() if isinstance(place, Path) else place


def settings_table() -> str:
    """Every setting as one row of a Markdown table, in the order of the class."""
    return markdown_settings(PipelineSettings.model_fields)


if __name__ == "__main__":
    sys.stdout.write(settings_table())
