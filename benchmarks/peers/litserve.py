"""The same decoder behind LitServe, with the usual batch loop in a thread beside it: a peer of the service.

    python -m benchmarks.peers.litserve REGISTRY PORT

POST /predict takes what POST /v1/upsample takes. {"batch": [INPUT, OUTPUT]} starts the loop, {"batch": []}
ends it; both answer how many rows were written last.
"""

import argparse
import threading
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from benchmarks.peers.usual_loop import usual_loop
from embup_core.artifacts.registry import Registry


class Decoding(litserve.LitAPI):  # type: ignore[misc]  # it has no types
    """Decodes one row a request.

    Parameters
    ----------
    registry
        Of published decoders.
    """

    def __init__(self, registry: Path) -> None:
        super().__init__()
        self._registry = registry

    def setup(self, device: str) -> None:  # noqa: ARG002 - there is one
        """Load the decoder, in the worker process."""
        self._upsampler = Registry(self._registry).load()
        self._rows = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def decode_request(self, request: dict[str, Any], **_: Any) -> Any:
        """Give the row, or the paths of a batch."""
        if "batch" in request:
            return [Path(path) for path in request["batch"]]
        return np.array([request["embedding"]], dtype=np.float32)

    def predict(self, x: Any, **_: Any) -> Any:
        """Decode the row, or start or end the batch."""
        if not isinstance(x, list):
            return self._upsampler.upsample(x)
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None
        if x:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._batch, args=x, daemon=True)
            self._thread.start()
        return self._rows

    def encode_response(self, output: Any, **_: Any) -> dict[str, Any]:
        """Answer with numbers."""
        if isinstance(output, int):
            return {"rows": output}
        rows, confidence = output
        return {"embedding": rows[0].tolist(), "confidence": float(confidence[0])}

    def _batch(self, source: Path, target: Path) -> None:
        self._rows = 0
        for rows in usual_loop(self._upsampler, source, target):
            self._rows = rows
            if self._stopped.is_set():
                return


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="The decoder behind LitServe.")
    parser.add_argument("registry", type=Path)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    server = litserve.LitServer(Decoding(options.registry), accelerator="cpu")
    server.run(
        host="127.0.0.1", port=options.port, log_level="error", generate_client_file=False, num_api_servers=1
    )


if __name__ == "__main__":
    main()
