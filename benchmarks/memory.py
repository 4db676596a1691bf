"""Memory of the service over a long batch, and whether each line of the output answers its line of the input.

    python -m benchmarks.memory [--registry DIR] [--rows 200000]

Starts the real server, runs a batch of 2,000 rows, then the long one, and samples the server's resident
memory all the while. The last line is the figure: how much higher the peak of the long batch is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.server import publish_sample_decoder, start_server
from embup_cli.client import ServiceClient
from embup_core.registry import Registry
from embup_core.text import format_rows, row_bytes

SHORT_ROWS = 2_000
COMPARED_ROWS = 1_000
BLOCK_ROWS = 10_000
DIMS, OUTPUT_DIMS = 32, 1536
MEGABYTE = 1e6


def write_input(path: Path, rows: int) -> None:
    """Write random unit rows, a block at a time, the same ones for the same line."""
    with path.open("wb") as file:
        for start in range(0, rows, BLOCK_ROWS):
            block = np.random.default_rng(start).standard_normal((min(BLOCK_ROWS, rows - start), DIMS))
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            file.write(format_rows(block.astype(np.float32)).tobytes())


def peak_during_batch(
    service: ServiceClient, server: psutil.Process, source: Path, target: Path
) -> tuple[float, float]:
    """Run a batch to its end; give the server's highest resident memory, in bytes, and the rows a second."""
    started, peak = time.perf_counter(), 0.0
    batch_request_id = service.submit({"input_filepath": str(source), "output_filepath": str(target)})
    while (status := service.status(batch_request_id))["status"] == "IN PROGRESS":
        peak = max(peak, float(server.memory_info().rss))
        time.sleep(0.05)
    if status["status"] != "COMPLETED":
        raise SystemExit(f"error: the batch ended as {status}")
    return peak, status["num_records_processed"] / (time.perf_counter() - started)


def compare(registry: Path, source: Path, target: Path, rows: int) -> float:
    """Decode some lines of the input; give the largest difference to the same lines of the output."""
    if target.stat().st_size != rows * row_bytes(OUTPUT_DIMS):
        raise SystemExit(
            f"error: expected {rows} lines, found {target.stat().st_size / row_bytes(OUTPUT_DIMS)}"
        )
    upsampler = Registry(registry).load()
    worst = 0.0
    with source.open("rb") as asked, target.open("rb") as answered:
        for line in np.linspace(0, rows - 1, COMPARED_ROWS).astype(int).tolist():
            asked.seek(line * row_bytes(DIMS))
            answered.seek(line * row_bytes(OUTPUT_DIMS))
            z = np.array(asked.readline().split(b","), np.float32)
            found = np.array(answered.readline().split(b","), np.float64)
            worst = max(worst, float(np.abs(upsampler.upsample(z[None])[0][0] - found).max()))
    return worst


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Memory of the service over a long batch.")
    parser.add_argument("--registry", type=Path, help="folder of published decoders; default: one is fitted")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the long batch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embup-memory-") as name:
        folder = Path(name)
        registry = options.registry or publish_sample_decoder(folder)
        short, long = folder / "short.txt", folder / "long.txt"
        write_input(short, SHORT_ROWS)
        write_input(long, options.rows)
        process, port = start_server(registry, folder)
        try:
            server = psutil.Process(process.pid)
            with ServiceClient(f"http://127.0.0.1:{port}") as service:
                before, _ = peak_during_batch(service, server, short, folder / "short.out")
                peak, rows_per_s = peak_during_batch(service, server, long, folder / "long.out")
        finally:
            process.terminate()
            process.wait(20)
        worst = compare(registry, long, folder / "long.out", options.rows)
    print(f"{SHORT_ROWS:7,} rows: peak {before / MEGABYTE:.0f} MB")
    print(f"{options.rows:7,} rows: peak {peak / MEGABYTE:.0f} MB, {rows_per_s:,.0f} rows/s")
    print(
        f"{COMPARED_ROWS:,} output lines differ from the decoding of their input line by at most {worst:.0e}"
    )
    print(f"memory: {(peak - before) / MEGABYTE:+.1f} MB over the batch of {SHORT_ROWS:,} rows")


if __name__ == "__main__":
    main()
