"""A real server with a real decoder, for benchmarks that ask it over loopback."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

START_S = 60.0


def publish_sample_decoder(folder: Path) -> Path:
    """Fit the kriging decoder on the built-in sample; give the registry."""
    from embup_core.artifact import Provenance, golden_inputs
    from embup_core.coordinates import recover_coordinates
    from embup_core.cosine_matrix import CosineMatrix
    from embup_core.decoders import DECODERS
    from embup_core.registry import Registry
    from embup_core.sources import resolve_source

    files = resolve_source("sample", cache_dir=folder / "sample")
    projected = np.load(files.projected)
    decoder = DECODERS["kriging"]().fit(projected, recover_coordinates(CosineMatrix.open(files.cosines)))
    Registry(folder / "registry").publish(
        decoder,
        golden=golden_inputs(projected),
        provenance=Provenance("sample", "0" * 64, len(projected), {}, {}, {}),
    )
    return folder / "registry"


def start_server(registry: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the service in a process of its own; give it and its port."""
    port_file = folder / "port"
    code = (
        "import sys; from pathlib import Path\n"
        "from serving.server import run_server; from serving.settings import ServingSettings\n"
        "registry, data, port_file = map(Path, sys.argv[1:])\n"
        "run_server(ServingSettings(registry=registry, data=data, port=0, batch_roots=str(data),"
        " log_level='warning'), port_file=port_file)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(registry), str(folder), str(port_file)])
    deadline = time.monotonic() + START_S
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit("error: the service did not start")
        time.sleep(0.02)
    return process, int(port_file.read_text())
