"""What the service answers, as frozen structs. Fields of a newer service that are not here are ignored.

`openapi.json` has the same fields; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Upsampled(Struct, frozen=True):
    """One decoded vector.

    Attributes
    ----------
    embedding
        As many numbers as the decoder's output dimensions; the vector has length 1.
    model_version
        Version of the decoder that answered.
    confidence
        0 to 1: the share of the vector's squared length that the input determines; None from a decoder that
        does not know.
    """

    embedding: list[float]
    model_version: str
    confidence: float | None = None


class UpsampledMany(Struct, frozen=True):
    """Decoded vectors in the order of the request, with the fields of `Upsampled`, one entry a row."""

    embeddings: list[list[float]]
    model_version: str
    confidence: list[float | None] = []


@dataclass(frozen=True, eq=False)
class UpsampledArray:
    """Decoded vectors as arrays.

    Attributes
    ----------
    embeddings
        float32, shape (n, output dimensions), unit rows.
    model_version
        Version of the decoder that answered.
    confidence
        float64, shape (n,); nan from a decoder that does not know.
    """

    embeddings: NDArray[np.float32]
    model_version: str
    confidence: NDArray[np.float64]


class BatchError(Struct, frozen=True):
    """Why a batch failed.

    Attributes
    ----------
    code
        The kind of reason, for programs: `bad_row`, `no_space`, …
    line
        1-based line or row of the input file, where one is to blame.
    """

    code: str
    detail: str
    remedy: str = ""
    line: int | None = None


class BatchStatus(Struct, frozen=True, kw_only=True):
    """Where a batch stands.

    Attributes
    ----------
    status
        `COMPLETED`, `IN PROGRESS` or `FAILED`.
    num_records_processed
        Rows that are durable in the output so far; never goes down.
    phase
        The finer state: `QUEUED`, `RUNNING`, `PAUSED`, `FINALIZING`, `COMPLETED`, `FAILED`, `CANCELLED`.
    bytes_done, bytes_total, percent
        Of the input file.
    rows_per_second, eta_s, paused_s, pause_count
        Speed, seconds to go, seconds and number of pauses for realtime requests.
    error
        Why it failed; None unless it did.
    """

    batch_request_id: str
    status: str
    num_records_processed: int
    phase: str
    failed_rows: int
    bytes_done: int
    bytes_total: int
    percent: float
    rows_per_second: float | None = None
    eta_s: float | None = None
    paused_s: float
    pause_count: int
    attempts: int
    worker_deaths: int
    cancel_requested: bool
    model_version: str | None = None
    input_filepath: str
    output_filepath: str
    on_bad_row: str
    overwrite: bool
    max_bad_rows: float | None = None
    basis: str = "decoded"
    submitted_at: datetime
    started_at: datetime | None = None
    updated_at: datetime
    finished_at: datetime | None = None
    error: BatchError | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing changes any more."""
        return self.status != "IN PROGRESS"


class ModelScores(Struct, frozen=True):
    """What a decoder reached on held-out rows when it was trained; None where it was not measured.

    Attributes
    ----------
    r2, mae
        R2 and mean absolute error of the cosines between test rows.
    recall_at_10
        Share of the 10 true nearest training rows that are retrieved.
    """

    r2: float | None = None
    mae: float | None = None
    recall_at_10: float | None = None


class ModelAnchors(Struct, frozen=True):
    """How well a decoder's vectors in the basis `original` agree with original embeddings.

    Attributes
    ----------
    anchors
        Known originals that fix the basis.
    documents
        Decoded vectors that each was compared with when held out.
    r2
        Of the cosines of held-out originals with decoded vectors.
    recall_at_10
        Share of the 10 true nearest of these that are found; None among too few.
    """

    anchors: int
    documents: int
    r2: float
    recall_at_10: float | None = None


class ModelEntry(Struct, frozen=True, kw_only=True):
    """One published decoder.

    Attributes
    ----------
    source, rows
        The data it was trained on, and how many rows that has.
    current
        Whether a reload would put it into service.
    input_dims, output_dims
        Numbers in a projected embedding and in a decoded vector; None from an older service.
    anchors
        None of a version without anchors, which has only the basis `decoded`.
    basis_id
        Decoded vectors of versions with the same one can be compared; None from an older service.
    """

    version: str
    decoder: str
    created_at: str
    source: str | None = None
    rows: int | None = None
    scores: ModelScores = ModelScores()
    current: bool
    in_service: bool
    input_dims: int | None = None
    output_dims: int | None = None
    anchors: ModelAnchors | None = None
    basis_id: str | None = None


class ReloadFailure(Struct, frozen=True, kw_only=True):
    """Why a decoder was not put into service."""

    at: datetime
    version: str | None = None
    detail: str
    remedy: str = ""


class ModelList(Struct, frozen=True, kw_only=True):
    """Published decoders, newest first, and which one answers."""

    in_service: str | None = None
    loaded_at: datetime | None = None
    last_failure: ReloadFailure | None = None
    refused: list[ReloadFailure] = []
    models: list[ModelEntry]


class Reloaded(Struct, frozen=True):
    """What a reload, a promotion or a rollback did."""

    model_version: str
    previous_version: str | None = None
    changed: bool | None = None


class Alive(Struct, frozen=True):
    """The process answers."""

    status: str


class Ready(Struct, frozen=True, kw_only=True):
    """The service can do its work.

    Attributes
    ----------
    status
        ``ready``; or ``degraded``, where it serves on without the object store of its registry.
    registry_outage
        Why that store does not answer.
    batches
        Number of batches in each phase.
    """

    status: str
    model_version: str
    last_reload_failure: ReloadFailure | None = None
    registry_outage: str | None = None
    batch_engine_failure: str | None = None
    batches: dict[str, int]


class BatchAccepted(Struct, frozen=True):
    """The batch is stored durably and will be worked on."""

    batch_request_id: str


class BatchList(Struct, frozen=True):
    """Batches, newest first."""

    batches: list[BatchStatus]
