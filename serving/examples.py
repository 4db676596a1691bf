"""The examples of the OpenAPI page: small, true in shape, and usable in `Try it out`."""

from __future__ import annotations

from typing import Any

ONE_EMBEDDING = [
    0.11, -0.21, 0.08, 0.27, -0.14, 0.19, -0.05, 0.23, -0.31, 0.02, 0.16, -0.09, 0.12, -0.18, 0.25, 0.07,
    -0.22, 0.13, 0.04, -0.17, 0.29, -0.06, 0.15, -0.11, 0.2, 0.01, -0.24, 0.1, 0.18, -0.03, 0.09, -0.26,
]  # fmt: skip
ONE_REQUEST: dict[str, Any] = {"embedding": ONE_EMBEDDING}
MANY_REQUEST: dict[str, Any] = {"embeddings": [ONE_EMBEDDING, ONE_EMBEDDING[::-1]]}
ONE_ANSWER: dict[str, Any] = {  # an answer has 1536 numbers; three stand for them here
    "embedding": [0.01234567, -0.0004321, 0.02718281],
    "model_version": "20260131-120000-1a2b3c4d",
    "confidence": 0.853214,
}
BATCH_REQUEST: dict[str, Any] = {
    "input_filepath": "input.txt",
    "output_filepath": "output.txt",
    "on_bad_row": "fail",
    "overwrite": False,
}
