"""What can be set about the service, and where each value comes from: arguments, then EMBUP_* variables.

`python -m serving.settings` prints the table of the README.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from embup_core.batch import DEFAULT_CHUNK_ROWS
from embup_core.settings_table import PREFIX, markdown_settings

# What the service and the training pipeline keep in the data folder.
OWN_FOLDERS = ("jobs", "history", "registry", "staging", "sources", ".dagster")


class ServingSettings(BaseSettings):
    """Settings of one service process; validated once, at start, and frozen."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    registry: Path = Field(default=Path("data/registry"), description="Folder of published decoders.")
    data: Path = Field(
        default=Path("data"), description="Folder of the job database and of its published history."
    )
    batch_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description=(
            f"Folders in which batch files may lie, separated by `{os.pathsep}`. Relative paths of a batch "
            "request start at the first. Empty: the data folder, then the working directory."
        ),
    )
    chunk_rows: int = Field(
        default=DEFAULT_CHUNK_ROWS,
        ge=2,
        le=4096,
        description="Rows that a batch decodes at once; the last bits of the output depend on it.",
    )
    batch_processes: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes that work on a batch while no realtime request is in flight; 0: one a core.",
    )
    batch_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description=(
            "Share of the time that a batch runs even beside realtime requests, so that requests without a "
            "gap cannot hold it up for ever. 0: it waits."
        ),
    )
    checkpoint_interval_s: float = Field(
        default=1.0,
        ge=0.05,
        le=600,
        description="Seconds between two durable checkpoints of a batch: what a crash costs at most.",
    )
    max_realtime_rows: int = Field(
        default=256,
        ge=1,
        le=4096,
        description="Most rows that one realtime request may carry.",
    )
    max_body_bytes: int = Field(
        default=1_048_576,
        ge=1024,
        description="Longest request body that is read, in bytes; longer ones get a 413.",
    )
    realtime_deadline_s: float = Field(
        default=10.0,
        gt=0,
        description=(
            "Seconds in which a realtime request must have sent its body and taken its answer. "
            "It bounds how long a stalled client can keep the batch waiting."
        ),
    )
    shutdown_s: float = Field(
        default=8.0,
        gt=0,
        le=60,
        description="Seconds that requests in flight get to finish when the service stops.",
    )
    switch_interval_ms: float = Field(
        default=0.5,
        gt=0,
        le=100,
        description="How often Python threads take turns, in ms; short, so that none keeps requests waiting.",
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="How log lines are written."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level logged."
    )
    access_log: bool = Field(
        default=False,
        description="Log a line for each request: method, path, status, milliseconds. Never a body.",
    )

    @property
    def reserved_folders(self) -> tuple[Path, ...]:
        """Folders of the service's own state, where no batch may read or write even under a root."""
        return (self.registry, *(self.data / name for name in OWN_FOLDERS))

    @field_validator("batch_roots", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        """Take folders as a shell writes them: one string, separated like PATH."""
        if isinstance(value, str):
            return tuple(part for part in value.split(os.pathsep) if part)
        return value

    @model_validator(mode="after")
    def _know_the_roots(self) -> Self:
        """Put the default roots in place, so that every reader of the settings sees the same ones."""
        roots = self.batch_roots or (self.data, Path.cwd())
        object.__setattr__(self, "batch_roots", tuple(Path(root).absolute() for root in roots))
        return self


def settings_table() -> str:
    """Every setting as one row of a Markdown table, in the order of the class."""
    return markdown_settings(ServingSettings.model_fields)


if __name__ == "__main__":
    sys.stdout.write(settings_table())
