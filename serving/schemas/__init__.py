"""What goes over the wire: requests and answers as msgspec Structs. Controllers speak in nothing else.

`serving.description.dimensions` fills in the dimensions in braces.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from embup_core.upsampler import Basis
from serving.jobs.model import OnBadRow, Phase, RequestStatus

_BASIS = (
    "Axes of the vectors. `decoded`: the decoder's own, to be compared with other decoded vectors. "
    "`original`: the originals', to be compared with original embeddings as well; the decoder needs anchors "
    "for that."
)


class UpsampleRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the two fields `embedding` and `embeddings`: one embedding, or several."""

    embedding: (
        Annotated[
            list[float], Meta(description="One projected embedding: {input_dims} numbers, not all zero.")
        ]
        | None
    ) = None
    embeddings: (
        Annotated[list[list[float]], Meta(description="Projected embeddings, answered in the same order.")]
        | None
    ) = None
    basis: Annotated[Basis, Meta(description=_BASIS)] = "decoded"


class UpsampleAnswer(Struct, frozen=True):
    """The answer to `embedding`."""

    embedding: Annotated[list[float], Meta(description="{output_dims} numbers; the vector has length 1.")]
    model_version: Annotated[str, Meta(description="Version of the decoder that answered.")]
    confidence: Annotated[
        float | None,
        Meta(
            description="0 to 1: the share of the vector's squared length that the input determines; "
            "null from a decoder that does not know."
        ),
    ]


class UpsampleManyAnswer(Struct, frozen=True):
    """The answer to `embeddings`: the same fields, one entry a row."""

    embeddings: Annotated[
        list[list[float]],
        Meta(description="Vectors of {output_dims} numbers and length 1, in the order of the request."),
    ]
    model_version: Annotated[str, Meta(description="Version of the decoder that answered.")]
    confidence: Annotated[list[float | None], Meta(description="One entry a vector, as for `embedding`.")]


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of rows in, a file of rows out, both seen from the service's machine."""

    input_filepath: Annotated[
        str,
        Meta(
            description="A file of embeddings of {input_dims} numbers. Its ending names the format: `.npy`, "
            "`.npz`, `.parquet`, `.csv`, `.tsv`, `.jsonl`, else strict text: one embedding a line, values "
            "separated by commas; text also compressed, as `.gz` or `.zst`. docs/reference/file-formats.md "
            "has what each may hold. "
            "Absolute, or relative to the service's first batch folder. A regular file below one of these "
            "folders, with one name and no link on the way. Or an object, `s3://bucket/key` (`gs://`, "
            "`az://`), beneath one of the prefixes in EMBUP_BATCH_PREFIXES."
        ),
    ]
    output_filepath: Annotated[
        str,
        Meta(
            description="Where the {output_dims} numbers a row go, row i for row i: `.npy` or `.parquet` "
            "(float32), else text; not `.gz` or `.zst`. Appears when it is complete; until then it grows in "
            "`<output>.part`, which must not be there before. Or `s3://bucket/key`, beneath a prefix that is "
            "open to batches."
        ),
    ]
    on_bad_row: Annotated[
        OnBadRow,
        Meta(
            description="`fail`: a bad row fails the batch. `nan`: it becomes a row of nan, "
            "and `<output>.errors.jsonl` says why."
        ),
    ] = "fail"
    overwrite: Annotated[bool, Meta(description="Replace an existing output file, at the end.")] = False
    make_parents: Annotated[
        bool,
        Meta(
            description="Create the missing folders above `output_filepath`. They stay even if the batch is "
            "refused or fails."
        ),
    ] = False
    max_bad_rows: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="With `on_bad_row` `nan`: the batch fails when more rows are bad. A whole number is "
            "a count, a number between 0 and 1 a share of all rows; null: all but one may be.",
        ),
    ] = None
    basis: Annotated[Basis, Meta(description=_BASIS)] = "decoded"


class BatchAccepted(Struct, frozen=True):
    """The batch is stored durably and will be worked on."""

    batch_request_id: str


class BatchError(Struct, frozen=True):
    """Why a batch failed."""

    code: Annotated[str, Meta(description="The kind of reason, for programs: `bad_row`, `no_space`, …")]
    detail: str
    remedy: str
    line: Annotated[
        int | None, Meta(description="1-based line or row of the input file, where one is to blame.")
    ]


class BatchStatus(Struct, frozen=True):
    """Where a batch stands."""

    batch_request_id: str
    status: Annotated[
        RequestStatus,
        Meta(description="COMPLETED, IN PROGRESS or FAILED. A cancelled batch is FAILED, phase CANCELLED."),
    ]
    num_records_processed: Annotated[
        int, Meta(description="Rows that are durable in the output so far; never goes down.")
    ]
    phase: Annotated[
        Phase,
        Meta(description="The finer state; PAUSED while a realtime request is in flight."),
    ]
    failed_rows: int
    bytes_done: int
    bytes_total: int
    percent: float
    rows_per_second: float | None
    eta_s: float | None
    paused_s: float
    pause_count: int
    attempts: int
    worker_deaths: Annotated[
        int, Meta(description="How often the worker process died under it; at the third the batch fails.")
    ]
    cancel_requested: bool
    model_version: str | None
    input_filepath: str
    output_filepath: str
    on_bad_row: OnBadRow
    overwrite: bool
    max_bad_rows: float | None
    basis: Basis
    submitted_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    error: BatchError | None


class BatchList(Struct, frozen=True):
    """Batches, newest first."""

    batches: list[BatchStatus]


class ModelScores(Struct, frozen=True):
    """What a decoder reached on held-out rows when it was trained; null where it was not measured."""

    r2: Annotated[float | None, Meta(description="R2 of the cosines between test rows.")] = None
    mae: Annotated[float | None, Meta(description="Mean absolute error of those cosines.")] = None
    recall_at_10: Annotated[
        float | None, Meta(description="Share of the 10 true nearest training rows that are retrieved.")
    ] = None


class ModelAnchors(Struct, frozen=True):
    """How well a decoder's vectors in the basis `original` agree with original embeddings."""

    anchors: Annotated[int, Meta(description="Known originals that fix the basis.")]
    documents: Annotated[int, Meta(description="Decoded vectors that each was compared with when held out.")]
    r2: Annotated[float, Meta(description="R2 of the cosines of held-out originals with decoded vectors.")]
    recall_at_10: Annotated[
        float | None,
        Meta(description="Share of the 10 true nearest of these that are found; null among too few."),
    ] = None


class ModelEntry(Struct, frozen=True, kw_only=True):
    """One published decoder."""

    version: str
    decoder: str
    input_dims: Annotated[int, Meta(description="Numbers in a projected embedding.")]
    output_dims: Annotated[int, Meta(description="Numbers in a decoded vector.")]
    created_at: str
    source: Annotated[str | None, Meta(description="The data it was trained on.")] = None
    rows: Annotated[int | None, Meta(description="Rows of that data.")] = None
    scores: ModelScores
    anchors: Annotated[
        ModelAnchors | None, Meta(description="null: only the basis `decoded` is to be had of it.")
    ] = None
    basis_id: Annotated[
        str | None, Meta(description="Decoded vectors of versions with the same one can be compared.")
    ] = None
    current: Annotated[bool, Meta(description="What a reload would put into service.")]
    in_service: bool


class ReloadFailure(Struct, frozen=True):
    """Why a decoder was not put into service."""

    at: datetime
    version: Annotated[str | None, Meta(description="Which one; null where CURRENT names none.")]
    detail: str
    remedy: str


class ModelList(Struct, frozen=True):
    """Published decoders, newest first."""

    in_service: str | None
    loaded_at: datetime | None
    last_failure: Annotated[
        ReloadFailure | None, Meta(description="Why the current one is not in service; null when it is.")
    ]
    refused: Annotated[
        list[ReloadFailure],
        Meta(description="Versions that were refused and have not been in service since, newest first."),
    ]
    models: list[ModelEntry]


class ReloadAnswer(Struct, frozen=True):
    """What a reload, a promotion or a rollback did."""

    model_version: str
    previous_version: str | None
    changed: bool


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(Struct, frozen=True):
    """The service can do its work; degraded, where it serves on without the store of its registry."""

    status: Literal["ready", "degraded"]
    model_version: str
    last_reload_failure: ReloadFailure | None
    registry_outage: str | None
    batch_engine_failure: str | None
    batches: dict[str, int]
