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

ANSWERS: dict[str, dict[str, Any]] = {
    "upsample": {
        "one embedding, 3 of its 1536 numbers shown": {
            "embedding": [0.01234567, -0.0004321, 0.02718281],
            "model_version": "20260131-120000-1a2b3c4d",
            "confidence": 0.853214,
        },
    },
    "submitBatch": {"accepted": {"batch_request_id": _ID}},
    "getBatch": {
        "at work": {
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
            "cancel_requested": False,
            "model_version": "20260131-120000-1a2b3c4d",
            "input_filepath": "/data/input.txt",
            "output_filepath": "/data/output.txt",
            "on_bad_row": "fail",
            "overwrite": False,
            "submitted_at": "2026-01-31T12:30:00.000000Z",
            "started_at": "2026-01-31T12:30:00.020000Z",
            "updated_at": "2026-01-31T12:30:01.910000Z",
            "finished_at": None,
            "error": None,
        },
    },
}
