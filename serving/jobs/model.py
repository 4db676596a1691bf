"""What a batch job is: its phases, its record, its events. No database and no asyncio here."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

import msgspec

from embup_core.batch import BatchSpec, Checkpoint
from embup_core.object_store import batch_path
from embup_core.upsampler import Basis

RequestStatus = Literal["COMPLETED", "IN PROGRESS", "FAILED"]
OnBadRow = Literal["fail", "nan"]


class Phase(StrEnum):
    """Where a job stands. PAUSED is never stored: it is RUNNING while a realtime request holds the gate."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    FINALIZING = "FINALIZING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes any more."""
        return self in FINAL_PHASES

    @property
    def request_status(self) -> RequestStatus:
        """The three words of the status request. A cancelled job wrote no output: it is FAILED."""
        if self is Phase.COMPLETED:
            return "COMPLETED"
        return "FAILED" if self.is_final else "IN PROGRESS"


FINAL_PHASES = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED})


class EventKind(StrEnum):
    """What happened to a job, in the words of the `kind` column of `batch_events`."""

    SUBMITTED = "submitted"
    STARTED = "started"
    RESUMED = "resumed"
    STOPPED = "stopped"
    WORKER_DIED = "worker_died"
    CANCEL_REQUESTED = "cancel_requested"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobEvent(msgspec.Struct, frozen=True):
    """One row of `batch_events`. Field names are column names; the time is UTC without a zone."""

    event_id: int
    occurred_at: datetime
    kind: str
    phase: str
    num_records_processed: int
    message: str


class JobRequest(msgspec.Struct, frozen=True):
    """What a client asked for, with resolved absolute paths, or addresses of objects."""

    input_filepath: str
    output_filepath: str
    on_bad_row: OnBadRow = "fail"
    overwrite: bool = False
    max_bad_rows: float | None = None
    basis: Basis = "decoded"

    @property
    def digest(self) -> str:
        """SHA-256 of it, to recognise a repeated submission, also one from before the field `basis`."""
        content = msgspec.to_builtins(self)
        if self.basis == "decoded":
            del content["basis"]
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()

    def spec(self) -> BatchSpec:
        """Say the same in the words of the batch engine.

        Raises
        ------
        EmbupError
            A path that no file can have, or a limit that is none.
        """
        return BatchSpec(
            input_path=batch_path(self.input_filepath),
            output_path=batch_path(self.output_filepath),
            on_bad_row=self.on_bad_row,
            overwrite=self.overwrite,
            max_bad_rows=self.max_bad_rows,
        )


class JobRecord(msgspec.Struct, frozen=True):
    """One row of `batch_jobs`. Field names are column names; times are UTC without a zone."""

    batch_request_id: str
    sequence: int
    phase: Phase
    input_filepath: str
    output_filepath: str
    on_bad_row: OnBadRow
    overwrite: bool
    max_bad_rows: float | None
    basis: Basis
    num_records_processed: int
    failed_rows: int
    bytes_done: int
    bytes_total: int
    paused_s: float
    pause_count: int
    running_s: float
    attempts: int
    worker_deaths: int
    cancel_requested: bool
    model_version: str | None
    submitted_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    error: str | None
    error_code: str | None
    error_line: int | None
    error_remedy: str | None
    idempotency_key: str | None
    request_digest: str
    checkpoint: str | None

    @property
    def request(self) -> JobRequest:
        """What was asked for."""
        return JobRequest(
            self.input_filepath,
            self.output_filepath,
            self.on_bad_row,
            self.overwrite,
            self.max_bad_rows,
            self.basis,
        )

    @property
    def last_checkpoint(self) -> Checkpoint | None:
        """The last one that is durable; None before the first."""
        return None if self.checkpoint is None else msgspec.json.decode(self.checkpoint, type=Checkpoint)


class Progress(msgspec.Struct, frozen=True):
    """What one durable checkpoint adds to a job's record.

    Attributes
    ----------
    checkpoint
        The engine's checkpoint as JSON.
    num_records_processed, failed_rows
        Rows in the output so far, and how many of them stand for a bad row.
    bytes_done
        Input bytes behind those rows.
    paused_s, pause_count, running_s
        Totals over all attempts; seconds.
    """

    checkpoint: str
    num_records_processed: int
    failed_rows: int
    bytes_done: int
    paused_s: float
    pause_count: int
    running_s: float


def utc_now() -> datetime:
    """Give the time as the tables hold it: UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)
