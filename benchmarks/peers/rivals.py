"""Who answers realtime requests and works on a batch: the service and its peers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from benchmarks.service.client import Caller, OpenLoop, call
from benchmarks.service.server import START_S, serving_process
from embup_core.text import row_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLL_S = 0.02


class Service:
    """The service; its batch is one that has more to do than any round takes.

    Parameters
    ----------
    port
        On the loopback.
    source
        The batch's input.
    """

    def __init__(self, port: int, source: Path) -> None:
        self.port = port
        self.requests = OpenLoop(port, "/v1/upsample")
        self._source = source
        self._target = source.with_name(f"{source.stem}-{port}.out")
        self._output_dims = 0
        self._path = ""
        self._paused_s = 0.0
        self.paused_s = 0.0

    def start_batch(self) -> None:
        """Start the batch and wait until it writes."""
        models = call(self.port, "GET", "/v1/models")["models"]
        (self._output_dims,) = {model["output_dims"] for model in models if model["in_service"]}
        request = {"input_filepath": str(self._source), "output_filepath": str(self._target)}
        accepted = call(self.port, "POST", "/v1/batches", request)
        self._path = f"/v1/batches/{accepted['batch_request_id']}"
        while call(self.port, "GET", self._path)["num_records_processed"] == 0:
            time.sleep(POLL_S)
        self._paused_s = call(self.port, "GET", self._path)["paused_s"]

    def rows_written(self) -> float:
        """How many rows the batch has written, by the length of its growing file."""
        return self._target.with_name(self._target.name + ".part").stat().st_size / row_bytes(
            self._output_dims
        )

    def end_batch(self) -> None:
        """Cancel the batch and wait until it is gone; `paused_s` is how long it was paused."""
        status = call(self.port, "GET", self._path)
        if status["status"] != "IN PROGRESS":
            raise SystemExit(f"error: the batch ended by itself: {status}")
        self.paused_s = status["paused_s"] - self._paused_s
        call(self.port, "POST", self._path + "/cancel")
        while call(self.port, "GET", self._path)["phase"] != "CANCELLED":
            time.sleep(POLL_S)

    def close(self) -> None:
        """Close every connection."""
        self.requests.close()


class Peer:
    """LitServe with the same decoder, and the usual loop in a thread of its worker.

    Parameters
    ----------
    port
        On the loopback.
    source
        The loop's input.
    """

    def __init__(self, port: int, source: Path) -> None:
        self.port = port
        self.requests = OpenLoop(port, "/predict")
        self._source = source
        self._target = source.with_name("peer.out")
        self.paused_s = 0.0

    def start_batch(self) -> None:
        """Start the loop and wait until it writes."""
        self._target.unlink(missing_ok=True)
        call(self.port, "POST", "/predict", {"batch": [str(self._source), str(self._target)]})
        while not self._target.exists() or self.rows_written() == 0:
            time.sleep(POLL_S)

    def rows_written(self) -> float:
        """How many rows the loop has written, by the length of its growing file and of its first line."""
        with self._target.open("rb") as file:
            first = len(file.readline())
            return os.fstat(file.fileno()).st_size / first if first else 0.0

    def end_batch(self) -> None:
        """End the loop."""
        call(self.port, "POST", "/predict", {"batch": []})

    def close(self) -> None:
        """Close every connection."""
        self.requests.close()


Rival = Service | Peer


@contextmanager
def service(
    registry: Path, folder: Path, source: Path, *, open_gate: bool = False, pauses: Path | None = None
) -> Iterator[Service]:
    """Run the service; `folder` is its data folder, beside the input."""
    with serving_process(registry, folder, open_gate=open_gate, pauses=pauses) as (_, port):
        made = Service(port, source)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def peer(
    registry: Path,
    source: Path,
    module: str = "litserve",
    *,
    python: str = sys.executable,
    ready: str = "/health",
) -> Iterator[Peer]:
    """Run LitServe, or what another module of this folder runs, until it answers at `ready`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    process = subprocess.Popen(
        [python, "-m", f"benchmarks.peers.{module}", registry, str(port)], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"error: {module} did not start; what it said stands above")
            time.sleep(POLL_S)
        made = Peer(port, source)
        try:
            yield made
        finally:
            made.close()
    finally:
        # Told to end, it leaves its workers behind.
        for worker in psutil.Process(process.pid).children(recursive=True):
            worker.kill()
        process.kill()
        process.wait()


def _answers(port: int, path: str) -> bool:
    try:
        caller = Caller(port)
    except ConnectionRefusedError:
        return False
    status, _ = caller.request("GET", path)
    caller.close()
    return status == 200
