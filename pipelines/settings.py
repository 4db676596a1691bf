"""What can be set about training, and where each value comes from: arguments, then EMBUP_* variables.

`python -m pipelines.settings` prints its table in docs/settings.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from embup_core.settings_table import PREFIX, markdown_settings


class PipelineSettings(BaseSettings):
    """Settings of one training process; validated once, at start, and frozen."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    source: str = Field(
        default="sample",
        description="Training data: `sample` (generated), a folder that holds `projected_train_embs.npy` and "
        "`og_train_cos_theta.npy`, or the URLs of the two, separated by a comma.",
    )
    source_sha256: str = Field(
        default="",
        pattern=r"^([0-9a-fA-F]{64},[0-9a-fA-F]{64})?$",
        description="SHA-256 of the two downloads, separated by a comma. Empty: not compared.",
    )
    max_download_bytes: int = Field(
        default=8 * 2**30,
        gt=0,
        description="Largest file that is downloaded, in bytes; larger ones are refused.",
    )
    decoder: str = Field(
        default="auto",
        description="Name of the decoder to publish, or `auto`: the best on validation rows, or `fast`: the "
        "best of those that are fitted without PyTorch.",
    )
    registry: Path = Field(default=Path("data/registry"), description="Folder of published decoders.")
    data: Path = Field(
        default=Path("data"),
        description="Folder of downloads, intermediate results and Dagster's own records.",
    )
    service_url: str = Field(
        default="http://127.0.0.1:8000",
        pattern=r"^https?://",
        description="Service that is told about a newly published decoder, if one answers there.",
    )

    @field_validator("registry", "data")
    @classmethod
    def _make_absolute(cls, folder: Path) -> Path:
        """Dagster's processes may stand in other folders than the one that was started."""
        return folder.expanduser().absolute()


def settings_table() -> str:
    """Every setting as one row of a Markdown table, in the order of the class."""
    return markdown_settings(PipelineSettings.model_fields)


if __name__ == "__main__":
    sys.stdout.write(settings_table())
