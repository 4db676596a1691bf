"""What can be set about the service, and where each value comes from: arguments, then EMBUP_* variables.

`python -m serving.settings` prints its table in docs/reference/settings.md.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from embup_core.artifacts.remote import registry_folder, registry_place
from embup_core.batch import DEFAULT_CHUNK_ROWS
from embup_core.object_store import parsed_address
from embup_core.settings_table import PREFIX, markdown_settings
from embup_core.training.data_folder import REGISTRY_CACHE

# What the service and the training pipeline keep in the data folder.
OWN_FOLDERS = (
    "jobs", "history", "registry", REGISTRY_CACHE, "staging", "sources", "debug", ".dagster", "drops",
    "training-sets", "notifications", "uploads",
)  # fmt: skip

_HOST_NAME = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


class ServingSettings(BaseSettings):
    """Settings of one service process; validated once, at start, and frozen."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description=(
            "Further names, separated by commas, by which clients may address the service (their `Host` "
            "header, without the port), such as that of a proxy or a container."
        ),
    )
    api_keys_file: Path | None = Field(
        default=None,
        description=(
            "File of API keys, a line each as `embup keys new` prints it; read again when it changes. Keys "
            "are needed to listen on another address than a loopback one."
        ),
    )
    api_keys: str = Field(
        default="",
        repr=False,
        description="The same lines, separated by `;` or line ends, in place of a file.",
    )
    registry: Annotated[Path | str, BeforeValidator(registry_place)] = Field(
        default=Path("data/registry"),
        description="Folder of published decoders, or an address: `s3://bucket/prefix`, `gs://...`, `az://...`.",
    )
    registry_cache: Path | None = Field(
        default=None,
        description=(
            "Folder of the verified copy of a registry in an object store. Not set: `registry-cache` in the "
            "data folder."
        ),
    )
    data: Path = Field(
        default=Path("data"), description="Folder of the job database and of its published history."
    )
    batch_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description=(
            f"Folders in which batch files may lie, separated by `{os.pathsep}`. Relative paths of a batch "
            "request start at the first. Links are not followed below them. Empty: the data folder, then the "
            "working directory."
        ),
    )
    batch_prefixes: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description=(
            "Addresses beneath which batches may read and write objects, such as `s3://bucket/prefix`, "
            "separated by commas. Empty: batches have files alone."
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
    max_realtime_requests: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="Most realtime requests in flight at once; one more gets a 429 before its body is read.",
    )
    max_connections: int = Field(
        default=512,
        ge=1,
        le=100_000,
        description=(
            "Most open connections; one more gets a 503. Keep it well below the number of files that the "
            "process may open (`ulimit -n`)."
        ),
    )
    max_head_bytes: int = Field(
        default=32_768,
        ge=1024,
        le=1_048_576,
        description="Longest head of a request (its headers), in bytes; longer ones get a 431.",
    )
    max_body_bytes: int = Field(
        default=1_048_576,
        ge=1024,
        description="Longest request body that is read, in bytes; longer ones get a 413.",
    )
    receive_deadline_s: float = Field(
        default=20.0,
        gt=0,
        description=(
            "Seconds in which a client must have sent a request's head, and then as many for its body; a 408 "
            "and the end of the connection otherwise."
        ),
    )
    send_deadline_s: float = Field(
        default=20.0,
        gt=0,
        description="Seconds in which a client must take what it is sent; it is dropped otherwise.",
    )
    realtime_deadline_s: float = Field(
        default=10.0,
        gt=0,
        description=(
            "Seconds in which a realtime request must have sent its body and taken its answer. "
            "It bounds how long a stalled client can keep the batch waiting."
        ),
    )
    keep_job_months: int = Field(
        default=24,
        ge=0,
        description="Months that ended batches stay in the job history; older ones are removed when the "
        "service starts. 0: all stay.",
    )
    search_index: Path | None = Field(
        default=None,
        description=(
            "Folder of an export to FAISS (`embup export --to faiss`). It is loaded at the start, and "
            "`POST /v1/search` is answered from it."
        ),
    )
    sql_over_http: bool = Field(
        default=False,
        description=(
            "Answer `POST /v1/sql`: one SELECT on the published history, in a process of its own. Linux only."
        ),
    )
    sql_deadline_s: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="Seconds after which the process of a statement is killed.",
    )
    sql_memory_mb: int = Field(
        default=1024,
        ge=256,
        le=65_536,
        description="Address space of the process of a statement, in MiB; DuckDB gets half of it.",
    )
    shutdown_s: float = Field(
        default=8.0,
        gt=0,
        le=60,
        description="Seconds that requests in flight get to finish when the service stops.",
    )
    drain_s: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="Seconds in which a stopping service still accepts and answers requests, but "
        "says that it is not ready, so that a load balancer leaves it; they come before EMBUP_SHUTDOWN_S.",
    )
    model_poll_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="Seconds between two checks for a newly promoted decoder, in an object store one request "
        "each; 0 checks only at POST /v1/models/reload.",
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
    metrics: bool = Field(
        default=True, description="Measure requests and offer `/metrics`; a few microseconds a request."
    )
    low_confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description=(
            "Confidence below which an incoming vector is counted as unlike the training rows. Not set: the "
            "decoder's own, below which a tenth of the rows lay that training held back."
        ),
    )
    traces: bool = Field(
        default=False,
        description=(
            "Send OpenTelemetry traces where the standard `OTEL_*` variables say; needs `embup[otel]`."
        ),
    )

    @property
    def cache_folder(self) -> Path:
        """Where a registry in an object store has its copies."""
        return self.data / REGISTRY_CACHE if self.registry_cache is None else self.registry_cache

    @property
    def registry_folder(self) -> Path:
        """The local folder of the registry, or of its copy."""
        return registry_folder(self.registry, self.cache_folder)

    @property
    def uploads_folder(self) -> Path:
        """Where outputs that go into a bucket grow."""
        return self.data / "uploads"

    @property
    def reserved_folders(self) -> tuple[Path, ...]:
        """The service's own state, where no batch may read or write; keys and index, too."""
        keys = () if self.api_keys_file is None else (self.api_keys_file,)
        index = () if self.search_index is None else (self.search_index,)
        own = (self.data / name for name in OWN_FOLDERS)
        return (self.registry_folder, self.cache_folder, *own, *keys, *index)

    @property
    def reserved_addresses(self) -> tuple[str, ...]:
        """The registry, where it lies in a bucket: no batch may read or write there."""
        return (self.registry,) if isinstance(self.registry, str) else ()

    @field_validator("batch_roots", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        """Take folders as a shell writes them: one string, separated like PATH."""
        if isinstance(value, str):
            return tuple(part for part in value.split(os.pathsep) if part)
        return value

    @field_validator("batch_prefixes", mode="before")
    @classmethod
    def _split_prefixes(cls, value: object) -> object:
        """Take addresses as a shell writes them, and give each its one spelling."""
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, tuple) else ()
        return tuple(parsed_address(str(part)) for part in parts if str(part).strip())

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        """Take names as a shell writes them; none has a port, and an address of IPv6 has its brackets."""
        if isinstance(value, str):
            value = tuple(part.strip().lower() for part in value.split(",") if part.strip())
        for name in value if isinstance(value, tuple) else ():
            if not _HOST_NAME.fullmatch(str(name)):
                raise ValueError(
                    f"expected names without a port such as embup.example.org or [::1], found {name}"
                )
        return value

    @field_validator("sql_over_http")
    @classmethod
    def _confinable(cls, value: bool) -> bool:
        if value and not sys.platform.startswith("linux"):
            raise ValueError("statements can be confined on Linux only")
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
