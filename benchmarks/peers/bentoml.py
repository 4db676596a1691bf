"""The same decoder behind BentoML: a peer of the service.

    PYTHON -m benchmarks.peers.bentoml REGISTRY PORT

POST /predict takes what POST /v1/upsample takes for one row. BentoML asks for other versions of packages than
embup's own extras do, so PYTHON is that of an environment of its own with `bentoml` and what embup needs to
decode, started in the folder of this repository.
"""

import argparse
import os
import sys
from typing import Any

import bentoml
import numpy as np

from embup_core.artifacts.registry import Registry

REGISTRY = "BENCHMARK_REGISTRY"


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Decoding:
    """Decodes one row a request."""

    def __init__(self) -> None:
        self._upsampler = Registry(os.environ[REGISTRY]).load()

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, embedding: list[float]) -> dict[str, Any]:
        """Decode the row."""
        rows, confidence = self._upsampler.upsample(np.array([embedding], dtype=np.float32))
        return {"embedding": rows[0].tolist(), "confidence": float(confidence[0])}


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="The decoder behind BentoML.")
    parser.add_argument("registry")
    parser.add_argument("port")
    options = parser.parse_args()
    command = [
        sys.executable, "-m", "bentoml", "serve", "benchmarks.peers.bentoml:Decoding",
        "--host", "127.0.0.1", "--port", options.port,
    ]  # fmt: skip
    environment = {**os.environ, REGISTRY: options.registry, "BENTOML_DO_NOT_TRACK": "True"}
    os.execve(sys.executable, command, environment)  # noqa: S606


if __name__ == "__main__":
    main()
