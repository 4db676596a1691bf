"""Memory and speed of the service over a long batch, and whether each output line answers its input line.

    python -m benchmarks.memory [--registry DIR] [--source DIR] [--rows 200000] [--folder DIR]

Starts the real server, runs a batch of 10,000 rows, then the long one, and adds up the memory of the server
and of all processes below it all the while: proportional set sizes, so that a page that several of them share
counts once. The speed of the first tenth of the rows is compared with that of the last. The output takes
18 kB a row, and is removed at the end. The last line is the figure: how much higher the peak of the long
batch is.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import psutil

from benchmarks.figures import MEGABYTE, say
from benchmarks.service.client import call
from benchmarks.service.server import registry_and_rows, serving_process, write_input
from embup_core.artifacts.registry import Registry
from embup_core.text import row_bytes

if TYPE_CHECKING:
    from embup_core.upsampler import Upsampler

SHORT_ROWS = 10_000
COMPARED_ROWS = 1_000
POLL_S = 0.1
TOLD_EVERY_S = 10.0


@dataclass(frozen=True)
class Watched:
    """What was seen of a batch.

    Attributes
    ----------
    peak_bytes
        Highest memory of all processes together.
    processes
        Most of them at once.
    seconds
        From submission to end, as the service notes it.
    first_tenth, last_tenth
        Rows a second while the first and the last tenth of the rows became durable.
    work_ratio
        Processor time that the last tenth took, of that of the first: other work does not count.
    """

    peak_bytes: float
    processes: int
    seconds: float
    first_tenth: float
    last_tenth: float
    work_ratio: float


@dataclass(frozen=True)
class Usage:
    """What a process and all below it use: memory, processor time, and how many they are."""

    memory_bytes: float
    processor_s: float
    processes: int

    @classmethod
    def of(cls, server: psutil.Process) -> Self:
        """Look now."""
        memory_bytes, processor_s, processes = 0.0, 0.0, 0
        for process in (server, *server.children(recursive=True)):
            try:
                with process.oneshot():
                    memory_bytes += process.memory_full_info().pss
                    processor_s += sum(process.cpu_times()[:2])
            except psutil.Error:  # it has just ended
                continue
            processes += 1
        return cls(memory_bytes, processor_s, processes)


def moment(text: str) -> float:
    """Seconds of a time that the service notes."""
    return datetime.fromisoformat(text).timestamp()


def watch(port: int, server: psutil.Process, source: Path, target: Path, rows: int) -> Watched:
    """Run a batch to its end."""
    request = {"input_filepath": str(source), "output_filepath": str(target)}
    accepted = call(port, "POST", "/v1/batches", request)
    path = f"/v1/batches/{accepted['batch_request_id']}"
    peak, most, told = 0.0, 0, time.monotonic()
    progress: dict[int, tuple[float, float]] = {}  # each checkpoint's moment and processor time, by rows
    work_s = 0.0  # never less than before: it goes with the processes that end
    while (status := call(port, "GET", path))["status"] == "IN PROGRESS":
        used = Usage.of(server)
        peak, most = max(peak, used.memory_bytes), max(most, used.processes)
        work_s = max(work_s, used.processor_s)
        done = status["num_records_processed"]
        if status["started_at"] and status["phase"] != "FINALIZING":
            at = moment(status["updated_at"] if done else status["started_at"])
            progress.setdefault(done, (at, work_s))
        if time.monotonic() - told > TOLD_EVERY_S:
            told = time.monotonic()
            say(f"  {done:,} of {rows:,} rows, {used.memory_bytes / MEGABYTE:.0f} MB")
        time.sleep(POLL_S)
    if status["status"] != "COMPLETED" or status["num_records_processed"] != rows:
        raise SystemExit(f"error: the batch ended as {status}")
    progress.setdefault(rows, (moment(status["finished_at"]), work_s))
    counts = sorted(progress)
    tenths = [0, 0.1 * rows, 0.9 * rows, rows]
    seconds, work = (
        np.diff(np.interp(tenths, counts, values))[[0, 2]]
        for values in zip(*(progress[count] for count in counts), strict=True)
    )
    return Watched(
        peak,
        most,
        moment(status["finished_at"]) - moment(status["submitted_at"]),
        float(0.1 * rows / seconds[0]),
        float(0.1 * rows / seconds[1]),
        float(work[1] / work[0]),
    )


def compare(upsampler: Upsampler, source: Path, target: Path, rows: int) -> float:
    """Decode some lines of the input; give the largest difference to the same lines of the output."""
    asked_bytes, answered_bytes = row_bytes(upsampler.input_dims), row_bytes(upsampler.output_dims)
    if target.stat().st_size != rows * answered_bytes:
        raise SystemExit(f"error: expected {rows} lines, found {target.stat().st_size / answered_bytes}")
    worst = 0.0
    with source.open("rb") as asked, target.open("rb") as answered:
        for line in np.linspace(0, rows - 1, COMPARED_ROWS).astype(int).tolist():
            asked.seek(line * asked_bytes)
            answered.seek(line * answered_bytes)
            z = np.array(asked.readline().split(b","), np.float32)
            found = np.array(answered.readline().split(b","), np.float64)
            worst = max(worst, float(np.abs(upsampler.upsample(z[None])[0][0] - found).max()))
    return worst


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Memory and speed of the service over a long batch.")
    parser.add_argument("--registry", type=Path, help="folder of published decoders; default: one is fitted")
    parser.add_argument("--source", help="where rows come from: folder, two URLs, or sample[:ROWS]")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the long batch")
    parser.add_argument("--folder", type=Path, help="where the files are made; default: the system's own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embup-memory-", dir=options.folder) as made:
        folder = Path(made)
        registry, rows = registry_and_rows(options.registry, options.source, folder)
        upsampler = Registry(registry).load()
        needed = (options.rows + SHORT_ROWS) * (
            row_bytes(upsampler.output_dims) + row_bytes(upsampler.input_dims)
        )
        if shutil.disk_usage(folder).free < needed:
            raise SystemExit(f"error: {folder} has less than the {needed / 1e9:.1f} GB that the files take")
        short, long = folder / "short.txt", folder / "long.txt"
        write_input(short, rows, SHORT_ROWS)
        write_input(long, rows, options.rows)
        with serving_process(registry, folder / "service") as (process, port):
            server = psutil.Process(process.pid)
            idle = Usage.of(server).memory_bytes
            before = watch(port, server, short, folder / "short.out", SHORT_ROWS)
            (folder / "short.out").unlink()
            after = watch(port, server, long, folder / "long.out", options.rows)
        worst = compare(upsampler, long, folder / "long.out", options.rows)
    print(f"before any batch: {idle / MEGABYTE:.0f} MB")
    for count, seen in ((SHORT_ROWS, before), (options.rows, after)):
        print(
            f"{count:9,} rows: peak {seen.peak_bytes / MEGABYTE:.0f} MB in {seen.processes} processes, "
            f"{count / seen.seconds:,.0f} rows/s"
        )
    print(
        f"{COMPARED_ROWS:,} output lines differ from the decoding of their input line by at most {worst:.0e}"
    )
    print(
        f"memory: {(after.peak_bytes - before.peak_bytes) / MEGABYTE:+.1f} MB over the batch of "
        f"{SHORT_ROWS:,} rows; last tenth {after.last_tenth:,.0f} rows/s, "
        f"{after.last_tenth / after.first_tenth:.2f} x the first, with {after.work_ratio:.2f} x its "
        "processor time"
    )


if __name__ == "__main__":
    main()
