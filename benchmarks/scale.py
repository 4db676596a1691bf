"""How a decoder grows with its training rows: time to fit, memory, speed, and size of the artifact.

    python -m benchmarks.scale [--source DIR] [--decoder neural_kriging] [--rows 3000,6000,12000]
                               [--generated 10000,100000] [--set NAME=VALUE ...]

Real rows are taken from the source at random; generated ones are drawn as the sample is, with originals of
400 dimensions instead of 1536 and without their N x N cosines. Each size is fitted in a fresh process on one
core.

"fit MB" is how far the resident memory rose above what the process held before the fit: libraries and rows.
"step ms" is the median step of a fit of many steps, "beside s" what the fit took beside all of its steps. The
"^" behind a figure is the exponent of its growth since the line above: 1 is linear in the rows, 2 quadratic.
Short fits (--set epochs=2) show the same growth sooner.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from benchmarks.figures import MEGABYTE, Rows, Speed, import_what_fits, run_on_one_core, say, setting, table
from embup_core.artifacts.artifact import decoder_bytes
from embup_core.decoders import DECODERS
from embup_core.errors import EmbupError
from embup_core.sources.synthetic import SampleParameters, draw_originals, project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Figures: TypeAlias = "dict[str, float]"

GENERATED_DIMS = 400
ASKED_ROWS = 1024
COLUMNS = ("rows", "fit s", "^", "step ms", "^", "beside s", "fit MB", "^", "rows/s", "one row ms", "MB")
PROJECTED, COORDINATES, ASKED = "projected.npy", "coordinates.npy", "asked.npy"


def write_real(folder: Path, rows: Rows, count: int) -> None:
    """Some rows of a source at random, and others to decode where there are any left."""
    order = np.random.default_rng(0).permutation(len(rows.projected))
    taken, others = np.sort(order[:count]), order[count : count + ASKED_ROWS]
    write(folder, rows.projected[taken], rows.coordinates[taken], rows.projected[others])


def write_generated(folder: Path, count: int) -> None:
    """Rows drawn as the sample is, and others of the same draw to decode."""
    parameters = SampleParameters(rows=count + ASKED_ROWS, dims=GENERATED_DIMS)
    originals = draw_originals(parameters)
    projected = project(originals, seed=parameters.seed)
    write(folder, projected[:count], originals[:count], projected[count:])


def write(
    folder: Path,
    projected: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    asked: NDArray[np.float32],
) -> None:
    """What one process fits on and decodes."""
    np.save(folder / PROJECTED, projected)
    np.save(folder / COORDINATES, coordinates)
    np.save(folder / ASKED, asked if len(asked) else projected[:ASKED_ROWS])


def highest_bytes() -> int:
    """Most memory that this process has held since its program began.

    Not by `resource.getrusage`: there Linux counts what the process that started this one held.
    """
    return status_bytes("VmHWM")


def status_bytes(field: str) -> int:
    """A figure of /proc/self/status, such as RssAnon, which is memory without pages of files."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return 1024 * int(status.partition(f"{field}:")[2].split(maxsplit=1)[0])


def measure(folder: Path, name: str, settings: Mapping[str, Any]) -> Figures:
    """Fit and time, in a process that has done nothing else."""
    import_what_fits()
    projected, coordinates = np.load(folder / PROJECTED), np.load(folder / COORDINATES)
    decoder = DECODERS[name](**settings)
    told_s = [time.perf_counter()]
    decoder.on_progress = lambda *_: told_s.append(time.perf_counter())
    before_bytes = highest_bytes()
    decoder.fit(projected, coordinates)
    fit_s = time.perf_counter() - told_s[0]
    fit_bytes = highest_bytes() - before_bytes
    # The step after a pause, such as the first, has waited for what stands between steps.
    steps_s = np.diff(told_s)
    step_s = float(np.median(steps_s)) if len(steps_s) else math.nan
    speed = Speed.of(decoder, np.load(folder / ASKED))
    return {
        "rows": len(projected),
        "fit_s": fit_s,
        "step_s": step_s,
        "beside_s": fit_s - (step_s * len(steps_s) if len(steps_s) else 0.0),
        "fit_bytes": fit_bytes,
        "rows_per_s": speed.rows_per_s,
        "one_row_ms": speed.one_row_ms,
        "artifact_bytes": len(decoder_bytes(decoder)),
    }


def measured_afresh(folder: Path, name: str, settings: Mapping[str, Any]) -> Figures:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--decoder", name, "--fresh", str(folder)]
    command += [f"--set={setting}={json.dumps(value)}" for setting, value in settings.items()]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    figures: Figures = json.loads(answer)
    return figures


def exponent(before: Figures | None, after: Figures, of: str) -> str:
    """By which power of the rows something grew."""
    if before is None or not min(before[of], after[of]) > 0 or after["rows"] == before["rows"]:
        return "-"
    return f"{math.log(after[of] / before[of]) / math.log(after['rows'] / before['rows']):.1f}"


def cells(before: Figures | None, after: Figures) -> list[str]:
    """A line of the table."""
    return [
        f"{after['rows']:,.0f}",
        f"{after['fit_s']:.1f}",
        exponent(before, after, "fit_s"),
        "-" if math.isnan(after["step_s"]) else f"{after['step_s'] * 1e3:.0f}",
        exponent(before, after, "step_s"),
        f"{after['beside_s']:.1f}",
        f"{after['fit_bytes'] / MEGABYTE:,.0f}",
        exponent(before, after, "fit_bytes"),
        f"{after['rows_per_s']:,.0f}",
        f"{after['one_row_ms']:.2f}",
        f"{after['artifact_bytes'] / MEGABYTE:.1f}",
    ]


def sizes(text: str) -> list[int]:
    """Numbers separated by commas; none of an empty text."""
    return [int(size) for size in text.split(",") if size]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How a decoder grows with its training rows.")
    parser.add_argument("--source", default="sample", help="folder, two URLs, or sample[:ROWS]")
    parser.add_argument("--decoder", choices=list(DECODERS), default="neural_kriging")
    parser.add_argument("--rows", type=sizes, default=[3000, 6000, 12000], help="of the source")
    parser.add_argument("--generated", type=sizes, default=[10_000, 100_000], help="rows to generate")
    parser.add_argument("--set", type=setting, action="append", default=[], help="a setting of the decoder")
    parser.add_argument("--cache", type=Path, default=Path("data/sources"), help="for samples and downloads")
    parser.add_argument("--fresh", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = dict(options.set)
    if options.fresh:
        print(json.dumps(measure(options.fresh, options.decoder, settings)))
        return
    try:
        rows = Rows.of(options.source, cache_dir=options.cache) if options.rows else None
    except EmbupError as error:
        parser.error(str(error))
    lines: list[list[str]] = []
    for kind, counts in (("real", options.rows), ("generated", options.generated)):
        before: Figures | None = None
        for count in counts:
            say(f"{options.decoder}: {count:,} {kind} rows")
            with tempfile.TemporaryDirectory(prefix="embup-scale-") as folder:
                if kind == "generated":
                    write_generated(Path(folder), count)
                elif rows is not None:
                    write_real(Path(folder), rows, count)
                after = measured_afresh(Path(folder), options.decoder, settings)
            lines.append([kind, *cells(before, after)])
            before = after
    print(table(["", *COLUMNS], lines))


if __name__ == "__main__":
    run_on_one_core()
    main()
