"""The examples of the OpenAPI page: small, true in shape, and usable in `Try it out`."""

from __future__ import annotations

from typing import Any

from serving.description import debug_examples
from serving.jobs.example import EXAMPLE_FILE

AN_EMBEDDING, ANOTHER_EMBEDDING = "{embedding}", "{another_embedding}"
EMBEDDING_VALUES = [
    0.11, -0.21, 0.08, 0.27, -0.14, 0.19, -0.05, 0.23, -0.31, 0.02, 0.16, -0.09, 0.12, -0.18, 0.25, 0.07,
    -0.22, 0.13, 0.04, -0.17, 0.29, -0.06, 0.15, -0.11, 0.2, 0.01, -0.24, 0.1, 0.18, -0.03, 0.09, -0.26,
]  # fmt: skip
_REQUEST_ID = "9f2c41d07a3e-1f"
_ID = "5f0f2a4e-8d5b-4b7e-9a53-0c6e6b0a7a11"

REQUESTS: dict[str, dict[str, Any]] = {
    "upsample": {
        "one embedding": {"embedding": AN_EMBEDDING},
        "several embeddings": {"embeddings": [AN_EMBEDDING, ANOTHER_EMBEDDING]},
    },
    "search": {
        "the ten nearest rows": {"short": AN_EMBEDDING},
        "only rows of one language": {"short": AN_EMBEDDING, "k": 3, "filter": {"language": "en"}},
    },
    "submitBatch": {
        "the example file in the data folder (the first folder of EMBUP_BATCH_ROOTS by default)": {
            "input_filepath": EXAMPLE_FILE,
            "output_filepath": "example/output.txt",
            "make_parents": True,
            "overwrite": True,
        },
    },
    "sql": {
        "batches by status": {"statement": "select status, count(*) as batches from batch_jobs group by all"},
    },
    **debug_examples.REQUESTS,
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
    "basis": "decoded",
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
            "detail": "/data/input.txt, line 13081: expected {input_dims} numbers, found 3",
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
        "one embedding, 3 of its {output_dims} numbers shown": {
            "embedding": [0.01234567, -0.0004321, 0.02718281],
            "model_version": _VERSION,
            "confidence": 0.853214,
        },
        "several embeddings, 3 of the {output_dims} numbers of each shown": {
            "embeddings": [[0.01234567, -0.0004321, 0.02718281], [-0.03141592, 0.00161803, 0.0057721]],
            "model_version": _VERSION,
            "confidence": [0.853214, 0.791377],
        },
    },
    "search": {
        "two rows found": {
            "ids": [17, 4711],
            "cosines": [0.912345, 0.873211],
            "payload": [
                {"confidence": 0.853214, "language": "en"},
                {"confidence": 0.791377, "language": "de"},
            ],
            "model_version": _VERSION,
            "basis": "decoded",
            "basis_id": "0f1e2d3c4b5a6978",
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
            "refused": [
                {
                    "at": "2026-01-31T12:04:00Z",
                    "version": "20260131-115900-0badc0de",
                    "detail": "20260131-115900-0badc0de/MODEL_CARD.md: expected 2871 bytes, found 2048.",
                    "remedy": "The file was changed or cut short: publish again.",
                },
            ],
            "models": [
                {
                    "version": "20260201-090000-9f8e7d6c",
                    "decoder": "mlp",
                    "input_dims": 32,
                    "output_dims": 1536,
                    "created_at": "2026-02-01T09:00:00Z",
                    "source": "sample",
                    "rows": 4250,
                    "scores": {"r2": 0.641, "mae": 0.031, "recall_at_10": 0.402},
                    "anchors": None,
                    "basis_id": "9e6a9f117ad1d323",
                    "current": True,
                    "in_service": False,
                },
                {
                    "version": _VERSION,
                    "decoder": "kriging",
                    "input_dims": 32,
                    "output_dims": 1536,
                    "created_at": "2026-01-31T12:00:00Z",
                    "source": "sample",
                    "rows": 4250,
                    "scores": {"r2": 0.733, "mae": 0.027, "recall_at_10": 0.518},
                    "anchors": {"anchors": 600, "documents": 637, "r2": 0.765, "recall_at_10": 0.55},
                    "basis_id": "9e6a9f117ad1d323",
                    "current": False,
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
    "promoteModel": {
        "another one": {
            "model_version": "20260201-090000-9f8e7d6c",
            "previous_version": _VERSION,
            "changed": True,
        },
    },
    "rollBackModel": {
        "the one before": {
            "model_version": _VERSION,
            "previous_version": "20260201-090000-9f8e7d6c",
            "changed": True,
        },
    },
    "live": {"alive": {"status": "alive"}},
    "sql": {
        "batches by status": {
            "columns": [{"name": "status", "type": "VARCHAR"}, {"name": "batches", "type": "BIGINT"}],
            "rows": [["COMPLETED", 41], ["FAILED", 1]],
            "truncated": False,
            "published_at": "2026-01-31T12:30:02.991204Z",
            "snapshot_age_s": 4.2,
        },
    },
    "ready": {
        "ready": {
            "status": "ready",
            "model_version": _VERSION,
            "last_reload_failure": None,
            "registry_outage": None,
            "batch_engine_failure": None,
            "batches": {
                "QUEUED": 1, "RUNNING": 1, "FINALIZING": 0, "COMPLETED": 12, "FAILED": 1, "CANCELLED": 0,
            },
        },
    },
    **debug_examples.ANSWERS,
}  # fmt: skip

PROBLEMS: dict[int, dict[str, Any]] = {
    400: {
        "a wrong count": {
            "type": "/problems/malformed-request",
            "title": "The request cannot be understood",
            "status": 400,
            "detail": "embedding: expected {input_dims} numbers, found 3.",
            "instance": "/v1/upsample",
            "request_id": _REQUEST_ID,
            "remedy": "Send exactly {input_dims} numbers a row, 1 to 256 rows; larger sets through "
            "POST /v1/batches.",
        },
    },
    401: {
        "no key": {
            "type": "/problems/no-valid-key",
            "title": "An API key is needed",
            "status": 401,
            "detail": "Expected an API key, found none.",
            "instance": "/v1/upsample",
            "request_id": _REQUEST_ID,
            "remedy": "Send the header `Authorization: Bearer <key>`; `embup keys new` makes a key.",
        },
    },
    403: {
        "another page": {
            "type": "/problems/foreign-origin",
            "title": "Requests from other web pages are refused",
            "status": 403,
            "detail": "Expected no web page, or one of the service's own, to send this request, found a page "
            "of the origin https://example.com.",
            "instance": "/v1/upsample",
            "request_id": _REQUEST_ID,
            "remedy": "Send it from a program, or serve the page under the service's own address.",
        },
    },
    404: {
        "no such batch": {
            "type": "/problems/unknown-batch-request",
            "title": "No such batch request",
            "status": 404,
            "detail": "There is no batch request 'nope'.",
            "instance": "/v1/batches/nope",
            "request_id": _REQUEST_ID,
            "remedy": "Look for its id in `embup list` or GET /v1/batches.",
        },
    },
    408: {
        "a stalled client": {
            "type": "/problems/too-slow",
            "title": "The request took too long",
            "status": 408,
            "detail": "The request was not read and answered within 10 s.",
            "instance": "/v1/upsample",
            "request_id": _REQUEST_ID,
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
            "request_id": _REQUEST_ID,
            "remedy": "Wait for it, cancel it, or name another output_filepath.",
        },
        "no version before": {
            "type": "/problems/decoder-refused",
            "title": "The decoder was not put into service",
            "status": 409,
            "detail": f"No version was in service before {_VERSION}.",
            "instance": "/v1/models/rollback",
            "request_id": _REQUEST_ID,
            "remedy": "`embup models` lists the published ones; `embup models promote VERSION` takes any.",
        },
    },
    413: {
        "too many rows": {
            "type": "/problems/too-large",
            "title": "The request body is too large",
            "status": 413,
            "detail": "Expected a body of at most 1048576 bytes.",
            "instance": "/v1/upsample",
            "request_id": _REQUEST_ID,
            "remedy": "Send fewer rows at a time, or a file through POST /v1/batches.",
        },
    },
    414: {
        "a long query": {
            "type": "/problems/target-too-long",
            "title": "The request's address is too long",
            "status": 414,
            "detail": "Expected an address of at most 8192 bytes, found 10000.",
            "request_id": _REQUEST_ID,
        },
    },
    415: {
        "no media type": {
            "type": "/problems/unsupported-media-type",
            "title": "The body's media type is not understood",
            "status": 415,
            "detail": "Expected a body of the media type application/json, found none.",
            "instance": "/v1/upsample",
            "request_id": _REQUEST_ID,
            "remedy": "Send the header `Content-Type: application/json`.",
        },
    },
    421: {
        "an unknown host name": {
            "type": "/problems/unknown-host",
            "title": "The service does not go by this name",
            "status": 421,
            "detail": "Expected a Host header that names this service, found example.com.",
            "instance": "/v1/upsample",
            "request_id": _REQUEST_ID,
            "remedy": "Use the address that the service listens on, or have the name added to "
            "EMBUP_ALLOWED_HOSTS.",
        },
    },
    422: {
        "a bad first row": {
            "type": "/problems/bad-row",
            "title": "A row cannot be used",
            "status": 422,
            "detail": "/data/input.txt, line 1: expected {input_dims} numbers, found 3",
            "instance": "/v1/batches",
            "request_id": _REQUEST_ID,
            "remedy": "Correct the row, or ask for nans in its place (on_bad_row: nan).",
            "line": 1,
        },
    },
    429: {
        "too many at once": {
            "type": "/problems/too-many-requests",
            "title": "Too many realtime requests at once",
            "status": 429,
            "detail": "Expected at most 64 realtime requests at once, found one more.",
            "instance": "/v1/upsample",
            "request_id": _REQUEST_ID,
            "remedy": "Send it again a little later, or several vectors in one request.",
        },
    },
    431: {
        "a long cookie": {
            "type": "/problems/head-too-large",
            "title": "The request's headers are too large",
            "status": 431,
            "detail": "Expected at most 100 headers of 32768 bytes altogether, found more.",
            "request_id": _REQUEST_ID,
            "remedy": "Send fewer headers.",
        },
    },
    500: {
        "a fault": {
            "type": "/problems/internal",
            "title": "The service failed",
            "status": 500,
            "detail": "An unexpected error happened; it is written in the service's log.",
            "instance": "/v1/upsample",
            "request_id": _REQUEST_ID,
            "remedy": "Try again; if it stays, look into the log and report what it says.",
        },
    },
    503: {
        "no decoder": {
            "type": "/problems/no-decoder",
            "title": "No decoder is published yet",
            "status": 503,
            "detail": "No decoder is published yet.",
            "instance": "/health/ready",
            "request_id": _REQUEST_ID,
            "remedy": "Train one into the registry of this service (`embup train --source sample`); it is "
            "taken up without a restart, at once by `POST /v1/models/reload`.",
        },
    },
}
