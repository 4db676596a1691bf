"""Time and memory of a month in which many rows have come together.

    python -m benchmarks.month [--rows 100000] [--dims 1536] [--decoder kriging] [--folder DIR]

Rows are drawn as the sample is. The first drop has 3,000 of them with all of their cosines, the second one
all others with their cosines with the landmarks. The second month, from checks to the published version, runs
in a fresh process.

"MB" is the highest resident memory in millions of bytes, pages of mapped files among it, which the system
takes back when it needs them; "own MB" is the most without these, looked at twenty times a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figures import MEGABYTE, say, table
from benchmarks.scale import highest_bytes, status_bytes
from embup_core.drops import DropsFolder, check_drop, keep_verdict, run_month
from embup_core.drops.make import make_drop
from embup_core.sources.synthetic import SampleParameters, draw_originals, project

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIRST_ROWS = 3000
LOOK_INTERVAL_S = 0.05
FIRST, SECOND = "2026-01", "2026-02"
COLUMNS = ("decoder", "rows", "checks s", "all s", "MB", "own MB", "R2", "recall@10")


def deliver(folder: Path, rows: int, dims: int) -> None:
    """Write both drops, and check the first."""
    parameters = SampleParameters(rows=rows, dims=dims)
    originals = draw_originals(parameters).astype(np.float32, copy=False)
    originals = originals[np.random.default_rng(0).permutation(rows)]
    projected, place = project(originals, seed=parameters.seed), DropsFolder(folder)
    make_drop(place, FIRST, projected[:FIRST_ROWS], originals=originals[:FIRST_ROWS])
    keep_verdict(place, check_drop(place, FIRST, output_dims=dims))
    landmarks = originals[np.load(folder / "landmarks" / "rows.npy")]
    make_drop(
        place,
        SECOND,
        projected[FIRST_ROWS:],
        originals=originals[FIRST_ROWS:],
        landmark_originals=landmarks,
    )


def measure(folder: Path, decoder: str, dims: int) -> dict[str, Any]:
    """Run the second month, in a process that has done nothing else."""
    with watched_memory() as own:
        result = run_month(
            DropsFolder(folder),
            folder / "registry",
            SECOND,
            work=folder / "data",
            decoder=decoder,
            output_dims=dims,
        )
    if result.training is None:
        raise SystemExit(" ".join(result.reasons))
    return result.to_json() | {"highest_bytes": highest_bytes(), "own_bytes": max(own)}


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """Bytes of memory without pages of files, as they are found until the end."""
    found, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_INTERVAL_S):
            found.append(status_bytes("RssAnon"))

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield found
    finally:
        ended.set()
        watch.join()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time and memory of a month of many rows.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=1536, help="of the originals")
    parser.add_argument("--decoder", default="kriging", help="auto, ladder, or a decoder's name")
    parser.add_argument(
        "--folder", type=Path, help="for drops and what is made of them; default: a temporary one"
    )
    parser.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.fresh:
        print(json.dumps(measure(options.folder, options.decoder, options.dims)))
        return
    with ExitStack() as temporary:
        folder = options.folder or Path(temporary.enter_context(tempfile.TemporaryDirectory()))
        say(f"drawing {options.rows:,} rows")
        deliver(folder, options.rows, options.dims)
        say("running the month")
        command = [sys.executable, "-m", "benchmarks.month", "--fresh", "--folder", str(folder)]
        command += ["--decoder", options.decoder, "--dims", str(options.dims)]
        answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = json.loads(answer)
    line = [
        found["champion"],
        f"{found['rows']:,}",
        f"{found['checks_s']:.0f}",
        f"{found['seconds']:.0f}",
        f"{found['highest_bytes'] / MEGABYTE:,.0f}",
        f"{found['own_bytes'] / MEGABYTE:,.0f}",
        f"{found['r2']:.3f}",
        f"{found['recall_at_10']:.3f}",
    ]
    print(table(COLUMNS, [line]))


if __name__ == "__main__":
    main()
