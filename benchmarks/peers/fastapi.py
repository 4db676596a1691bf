"""The same decoder behind FastAPI and uvicorn: a peer of the service.

    python -m benchmarks.peers.fastapi REGISTRY PORT

POST /predict takes what POST /v1/upsample takes for one row.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from embup_core.artifacts.registry import Registry


class Row(BaseModel):
    """One row."""

    embedding: list[float]


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="The decoder behind FastAPI.")
    parser.add_argument("registry", type=Path)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    upsampler = Registry(options.registry).load()
    app = FastAPI()

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.post("/predict")
    async def predict(row: Row) -> dict[str, Any]:
        rows, confidence = upsampler.upsample(np.array([row.embedding], dtype=np.float32))
        return {"embedding": rows[0].tolist(), "confidence": float(confidence[0])}

    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="error")


if __name__ == "__main__":
    main()
