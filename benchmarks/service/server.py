"""A real server with a real decoder, and what to send to it, for benchmarks that ask it over loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from embup_core.artifacts.registry import Registry
from embup_core.sources import load_projected, resolve_source
from embup_core.text import format_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

START_S = 60.0
STOP_S = 20.0
JITTER = 0.02  # of each number, where rows of unit length have numbers of about 0.18
BLOCK_ROWS = 10_000


def registry_and_rows(
    registry: Path | None, source: str | None, folder: Path
) -> tuple[Path, NDArray[np.float32]]:
    """A registry with a decoder, and rows to send: float32, shape (n, d), unit.

    Parameters
    ----------
    registry
        Of published decoders; without one, kriging is fitted on the source.
    source
        Where the rows come from. None: the sample where a decoder is fitted, else random rows.
    folder
        For what is made.
    """
    if registry is not None and source is None:
        input_dims = Registry(registry).current().manifest["input_dims"]
        rows = np.random.default_rng(0).standard_normal((BLOCK_ROWS, input_dims)).astype(np.float32)
        return registry, rows / np.linalg.norm(rows, axis=1, keepdims=True)
    files = resolve_source(source or "sample", cache_dir=folder / "sources")
    projected = load_projected(files.projected)
    if registry is None:
        registry = folder / "registry"
        _publish(registry, projected, files.cosines)
    return registry, projected


def _publish(registry: Path, projected: NDArray[np.float32], cosines: Path) -> None:
    from embup_core.artifacts.artifact import Provenance
    from embup_core.artifacts.golden import golden_inputs
    from embup_core.decoders import DECODERS
    from embup_core.geometry.coordinates import recover_coordinates
    from embup_core.sources.cosine_matrix import CosineMatrix

    decoder = DECODERS["kriging"]().fit(projected, recover_coordinates(CosineMatrix.open(cosines)))
    Registry(registry).publish(
        decoder,
        golden=golden_inputs(projected),
        provenance=Provenance("sample", "0" * 64, len(projected), {}, {}, {}),
    )


def jittered(rows: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """As many unit rows as wanted, each near one of these, the same ones for the same seed."""
    draw = np.random.default_rng(seed)
    drawn = rows[draw.integers(len(rows), size=count)]
    drawn = drawn + JITTER * draw.standard_normal(drawn.shape).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


def write_input(path: Path, rows: NDArray[np.float32], count: int) -> None:
    """Write a batch's input, a block at a time: jittered rows, one a line."""
    with path.open("wb") as file:
        for start in range(0, count, BLOCK_ROWS):
            block = jittered(rows, min(BLOCK_ROWS, count - start), seed=start)
            file.write(format_rows(block).tobytes())


@contextmanager
def serving_process(
    registry: Path,
    folder: Path,
    *,
    open_gate: bool = False,
    pauses: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the service in a process of its own; give it and its port, once it answers.

    Batch files may lie where `folder` lies.
    """
    folder.mkdir(exist_ok=True)
    port_file = folder / "port"
    command: list[str | Path] = [
        sys.executable, "-m", "benchmarks.service.launcher", registry, folder, port_file,
        *(["--open-gate"] if open_gate else []),
    ]  # fmt: skip
    if pauses is not None:
        command += ["--pauses", pauses]
    process = subprocess.Popen(command, env=os.environ | dict(environment or {}))
    try:
        deadline = time.monotonic() + START_S
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("error: the service did not start; what it said stands above")
            time.sleep(0.02)
        yield process, int(port_file.read_text())
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
