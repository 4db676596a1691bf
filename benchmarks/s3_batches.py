"""A long batch from a bucket to a bucket, killed again and again, against one on disk that nobody disturbs.

    python -m benchmarks.s3_batches [--registry DIR] [--rows 1000000] [--kills 10] [--dims 384]

Starts moto's S3 server, and the command `embup upsample` from object to object. It is killed with kill -9 at
random moments, one in each of as many stretches of the batch, and started again. While it works its memory
is added up: that of the process and all below it, proportional set sizes. A batch of 50,000 rows before, of
which nobody kills anything, is what it is compared with. At the end the object's hash is compared with that
of a local run.

Without a registry kriging is fitted on the sample, with that many output dimensions: the server puts the
parts of an object together in its memory, three times its size. The last line is the figure: how much higher
the memory's peak is than that of the short batch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import psutil

from benchmarks.figures import MEGABYTE, say
from benchmarks.memory import Usage
from benchmarks.service.server import write_input
from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.registry import Registry
from embup_core.decoders import DECODERS
from embup_core.geometry.coordinates import recover_coordinates
from embup_core.object_store import ObjectStore
from embup_core.sources import SampleParameters, generate_sample
from embup_core.sources.cosine_matrix import CosineMatrix

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = (sys.executable, "-m", "embup.cli", "upsample")
SEED = 20_261_130
SHORT_ROWS = 50_000
POLL_S = 0.1
BLOCK_BYTES = 1 << 20


@contextmanager
def s3_server() -> Iterator[str]:
    """Run the server in a process of its own, with this process's environment led to it; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            try:
                httpx.put(f"{endpoint}/batches").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield endpoint
    finally:
        server.kill()
        server.wait()


def publish(folder: Path, dims: int) -> Path:
    """Fit kriging on the sample, with as many output dimensions as wanted; give the registry."""
    source = generate_sample(folder / "sample", parameters=SampleParameters(rows=600))
    projected = np.load(source.projected)
    rows = recover_coordinates(CosineMatrix.open(source.cosines))[:, : dims - 2]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    Registry(folder / "registry").publish(
        DECODERS["kriging"]().fit(projected, rows, output_dims=dims),
        golden=golden_inputs(projected),
        provenance=Provenance("sample", "0" * 64, len(projected), {}, {}, {}),
    )
    return folder / "registry"


class Command:
    """`embup upsample`, watched.

    Parameters
    ----------
    registry, uploads
        Where its decoder is, and where outputs grow.
    """

    def __init__(self, registry: Path, uploads: Path) -> None:
        self._registry = registry
        self._uploads = uploads
        self.peak_bytes = 0.0

    def run(self, source: str, target: str, *, until_row: int | None = None, delay_s: float = 0.0) -> bool:
        """Run it to its end, or kill it some time after a row is in its checkpoint; whether it has ended."""
        process = subprocess.Popen(
            [*COMMAND, source, target, "--registry", str(self._registry)],
            env=os.environ | {"EMBUP_UPLOADS": str(self._uploads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        watched = psutil.Process(process.pid)
        kill_at = None
        while process.poll() is None:
            try:
                self.peak_bytes = max(self.peak_bytes, Usage.of(watched).memory_bytes)
            except psutil.Error:
                break
            if until_row is not None and kill_at is None and self.rows_kept() >= until_row:
                kill_at = time.monotonic() + delay_s
            if kill_at is not None and time.monotonic() >= kill_at:
                process.kill()
                break
            time.sleep(POLL_S)
        assert process.stderr is not None  # noqa: S101 - a pipe
        with process.stderr:
            said = process.stderr.read().decode()
        if process.wait() > 0:
            raise SystemExit(f"error: the command ended with {said}")
        return process.returncode == 0

    def rows_kept(self) -> int:
        """How many rows the last checkpoint has."""
        for path in self._uploads.glob("*/*.checkpoint"):
            try:
                return int(json.loads(path.read_bytes())["checkpoint"]["rows"])
            except (OSError, ValueError):
                continue
        return 0

    def disk_bytes(self) -> int:
        """How much disk its growing files take."""
        return sum(path.stat().st_blocks * 512 for path in self._uploads.rglob("*") if path.is_file())


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_object(address: str) -> str:
    """Hash an object, in one request: the server reads all of it for each."""
    digest = hashlib.sha256()
    with httpx.stream("GET", address, timeout=600) as answer:
        answer.raise_for_status()
        for block in answer.iter_bytes(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--registry", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory(dir=given.folder) as name, s3_server() as endpoint:
        folder, bucket = Path(name), "s3://batches"
        registry = given.registry or publish(folder, given.dims)
        upsampler = Registry(registry).load()
        z = np.random.default_rng(SEED).standard_normal((4096, upsampler.input_dims)).astype(np.float32)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        store = ObjectStore(bucket)
        for source, count in (("short.txt", SHORT_ROWS), ("in.txt", given.rows)):
            write_input(folder / source, z, count)
            store.upload(folder / source, source)

        began = time.monotonic()
        local = Command(registry, folder / "none")
        local.run(str(folder / "in.txt"), str(folder / "out.npy"))
        local_s = time.monotonic() - began
        expected, size_bytes = sha256_of(folder / "out.npy"), (folder / "out.npy").stat().st_size
        (folder / "out.npy").unlink()
        say(f"local: {given.rows:,} rows, {size_bytes / MEGABYTE:,.0f} MB in {local_s:.0f} s")

        short = Command(registry, folder / "uploads")
        short.run(f"{bucket}/short.txt", f"{bucket}/short.npy")
        say(f"{SHORT_ROWS:,} rows, S3 to S3: peak {short.peak_bytes / MEGABYTE:.0f} MB")

        long = Command(registry, folder / "uploads")
        began, most_disk = time.monotonic(), 0
        for kill in range(given.kills):
            row = round((kill + chance.random()) * given.rows / (given.kills + 0.5))
            delay_s = chance.uniform(0, 1)
            if long.run(f"{bucket}/in.txt", f"{bucket}/out.npy", until_row=row, delay_s=delay_s):
                raise SystemExit(f"error: the command ended before kill {kill + 1}")
            if store.find("out.npy") is not None:
                raise SystemExit("error: there is an object before the command has ended")
            most_disk = max(most_disk, long.disk_bytes())
            peak_mb, disk_mb = long.peak_bytes / MEGABYTE, long.disk_bytes() / MEGABYTE
            say(f"kill {kill + 1}: {long.rows_kept():,} rows, peak {peak_mb:.0f} MB, disk {disk_mb:.0f} MB")
        long.run(f"{bucket}/in.txt", f"{bucket}/out.npy")
        long_s = time.monotonic() - began
        found = sha256_of_object(f"{endpoint}/batches/out.npy")
        left = httpx.get(f"{endpoint}/batches?uploads").text.count("<UploadId>")
        disk_mb = most_disk / MEGABYTE
        say(f"S3 to S3 with {given.kills} kills: {long_s:.0f} s, disk at a kill at most {disk_mb:.0f} MB")
        say(f"uploads left: {left}; SHA-256 {found}: {'the same' if found == expected else 'ANOTHER'}")
        if found != expected or left:
            raise SystemExit(1)
        grown = (long.peak_bytes - short.peak_bytes) / MEGABYTE
        say(f"memory of all processes: peak {grown:+.0f} MB over a batch of {SHORT_ROWS:,} rows")


if __name__ == "__main__":
    main()
