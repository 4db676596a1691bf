"""The examples of the OpenAPI page: small, true in shape, and usable in `Try it out`."""

from __future__ import annotations

from typing import Any

ONE_EMBEDDING = [
    0.11, -0.21, 0.08, 0.27, -0.14, 0.19, -0.05, 0.23, -0.31, 0.02, 0.16, -0.09, 0.12, -0.18, 0.25, 0.07,
    -0.22, 0.13, 0.04, -0.17, 0.29, -0.06, 0.15, -0.11, 0.2, 0.01, -0.24, 0.1, 0.18, -0.03, 0.09, -0.26,
]  # fmt: skip
_ID = "5f0f2a4e-8d5b-4b7e-9a53-0c6e6b0a7a11"

REQUESTS: dict[str, dict[str, Any]] = {
    "upsample": {
        "one embedding": {"embedding": ONE_EMBEDDING},
        "several embeddings": {"embeddings": [ONE_EMBEDDING, ONE_EMBEDDING[::-1]]},
    },
    "submitBatch": {
        "a file in the data folder": {
            "input_filepath": "input.txt",
            "output_filepath": "output.txt",
            "on_bad_row": "fail",
            "overwrite": False,
        },
    },
}

_VERSION = "20260131-120000-1a2b3c4d"
_AT_WORK: dict[str, Any] = {
    "batch_request_id": _ID,
    "status": "IN PROGRESS",
    "num_records_processed": 13056,
    "phase": "RUNNING",
    "failed_rows": 0,
    "bytes_done": 5209344,
    "bytes_total": 7979796,
    "percent": 65.28,
    "rows_per_second": 6912.4,
    "eta_s": 1.0,
    "paused_s": 0.213,
    "pause_count": 41,
    "attempts": 1,
    "worker_deaths": 0,
    "cancel_requested": False,
    "model_version": _VERSION,
    "input_filepath": "/data/input.txt",
    "output_filepath": "/data/output.txt",
    "on_bad_row": "fail",
    "overwrite": False,
    "max_bad_rows": None,
    "submitted_at": "2026-01-31T12:30:00Z",
    "started_at": "2026-01-31T12:30:00.020000Z",
    "updated_at": "2026-01-31T12:30:01.910000Z",
    "finished_at": None,
    "error": None,
}
_ENDED = {"rows_per_second": 6840.1, "eta_s": None, "finished_at": "2026-01-31T12:30:02.990000Z"}
_FAILED = (
    _AT_WORK
    | _ENDED
    | {
        "status": "FAILED",
        "phase": "FAILED",
        "error": {
            "code": "bad_row",
            "detail": "/data/input.txt, line 13081: expected 32 numbers, found 31",
            "remedy": "Correct the row, or ask for nans in its place (on_bad_row: nan).",
            "line": 13081,
        },
    }
)
_COMPLETED = (
    _AT_WORK
    | _ENDED
    | {
        "status": "COMPLETED",
        "phase": "COMPLETED",
        "num_records_processed": 20000,
        "bytes_done": 7979796,
        "percent": 100.0,
    }
)

ANSWERS: dict[str, dict[str, Any]] = {
    "upsample": {
        "one embedding, 3 of its 1536 numbers shown": {
            "embedding": [0.01234567, -0.0004321, 0.02718281],
            "model_version": _VERSION,
            "confidence": 0.853214,
        },
        "several embeddings, 3 of the 1536 numbers of each shown": {
            "embeddings": [[0.01234567, -0.0004321, 0.02718281], [-0.03141592, 0.00161803, 0.0057721]],
            "model_version": _VERSION,
            "confidence": [0.853214, 0.791377],
        },
    },
    "submitBatch": {"accepted": {"batch_request_id": _ID}},
    "getBatch": {"at work": _AT_WORK, "completed": _COMPLETED, "failed": _FAILED},
    "listBatches": {"one batch": {"batches": [_AT_WORK]}},
    "cancelBatch": {"to be cancelled": _AT_WORK | {"cancel_requested": True}},
    "listModels": {
        "two decoders, the older one in service": {
            "in_service": _VERSION,
            "loaded_at": "2026-01-31T12:05:00Z",
            "last_failure": None,
            "models": [
                {
                    "version": "20260201-090000-9f8e7d6c",
                    "decoder": "mlp",
                    "created_at": "2026-02-01T09:00:00Z",
                    "latest": True,
                    "in_service": False,
                },
                {
                    "version": _VERSION,
                    "decoder": "kriging",
                    "created_at": "2026-01-31T12:00:00Z",
                    "latest": False,
                    "in_service": True,
                },
            ],
        },
    },
    "reloadModel": {
        "a newer one": {
            "model_version": "20260201-090000-9f8e7d6c",
            "previous_version": _VERSION,
            "changed": True,
        },
    },
    "live": {"alive": {"status": "alive"}},
    "ready": {
        "ready": {
            "status": "ready",
            "model_version": _VERSION,
            "last_reload_failure": None,
            "batch_engine_failure": None,
            "batches": {
                "QUEUED": 1, "RUNNING": 1, "FINALIZING": 0, "COMPLETED": 12, "FAILED": 1, "CANCELLED": 0,
            },
        },
    },
}  # fmt: skip

PROBLEMS: dict[int, dict[str, Any]] = {
    400: {
        "a wrong count": {
            "type": "/problems/malformed-request",
            "title": "The request cannot be understood",
            "status": 400,
            "detail": "embedding: expected 32 numbers, found 31.",
            "instance": "/v1/upsample",
            "remedy": "Send exactly 32 numbers a row, 1 to 256 rows; larger sets through POST /v1/batches.",
        },
    },
    404: {
        "no such batch": {
            "type": "/problems/unknown-batch-request",
            "title": "No such batch request",
            "status": 404,
            "detail": "There is no batch request 'nope'.",
            "instance": "/v1/batches/nope",
            "remedy": "Use the batch_request_id that POST /v1/batches answered; GET /v1/batches lists them.",
        },
    },
    408: {
        "a stalled client": {
            "type": "/problems/too-slow",
            "title": "The request took too long",
            "status": 408,
            "detail": "The request was not read and answered within 10 s.",
            "instance": "/v1/upsample",
            "remedy": "Send the body at once; split large requests.",
        },
    },
    409: {
        "another batch": {
            "type": "/problems/batch-conflict",
            "title": "The batch request contradicts another one",
            "status": 409,
            "detail": f"The batch request {_ID} already writes to /data/output.txt.",
            "instance": "/v1/batches",
            "remedy": "Wait for it, cancel it, or name another output_filepath.",
        },
    },
    413: {
        "too many rows": {
            "type": "/problems/too-large",
            "title": "The request body is too large",
            "status": 413,
            "detail": "Expected a body of at most 1048576 bytes.",
            "instance": "/v1/upsample",
            "remedy": "Send fewer rows at a time, or a file through POST /v1/batches.",
        },
    },
    415: {
        "no media type": {
            "type": "/problems/unsupported-media-type",
            "title": "The body's media type is not understood",
            "status": 415,
            "detail": "Expected a body of the media type application/json, found none.",
            "instance": "/v1/upsample",
            "remedy": "Send the header `Content-Type: application/json`.",
        },
    },
    422: {
        "a bad first row": {
            "type": "/problems/bad-row",
            "title": "A row cannot be used",
            "status": 422,
            "detail": "/data/input.txt, line 1: expected 32 numbers, found 31",
            "instance": "/v1/batches",
            "remedy": "Correct the row, or ask for nans in its place (on_bad_row: nan).",
            "line": 1,
        },
    },
    503: {
        "no decoder": {
            "type": "/problems/no-decoder",
            "title": "No decoder is published yet",
            "status": 503,
            "detail": "No decoder is published yet in data/registry.",
            "instance": "/health/ready",
            "remedy": "Train one (`embup train --source sample --registry data/registry`), then "
            "`POST /v1/models/reload`; a restart is not needed.",
        },
    },
}
