"""A batch of the service against the loop that is written first, against formatters alone, and the disk.

    python -m benchmarks.batch [--registry DIR] [--source DIR] [--rows 60000] [--rounds 5]

A round has each rival once, in changing order; figures are medians. The service does the whole batch over
HTTP, from its submission to its end, with checkpoints and all, from text to text and from `.npy` to `.npy`
and Parquet. The usual loop (np.loadtxt, the same decoder, np.savetxt, 256 rows at a time) ends with the file
on disk too. The formatters get decoded rows in the form that they like best, and write to /dev/null or
memory. Each is tried in several ways before the rounds, and the fastest counts. The plain write has the bytes
of the output ready and brings them to disk. The last line is the figure.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.figures import say
from benchmarks.peers.usual_loop import usual_loop
from benchmarks.service.client import Caller
from benchmarks.service.server import jittered, registry_and_rows, serving_process, write_input
from embup_core.artifacts.registry import Registry
from embup_core.text import format_rows, parse_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embup_core.upsampler import Upsampler

WARM_ROWS = 2_000
OTHER_OUTPUTS = ("npy", "parquet")
TRIED_ROWS = 512
LOOP_ROWS = 4_096  # so many seconds a round that more rows would say nothing new
FORMATTED_S = 1.0
WRITE_BYTES = 1 << 20
STAGE_ROWS = 256
STAGE_S = 0.5
POLL_S = 0.05

Timed = tuple[int, float]  # rows, seconds


class Service:
    """The service's batches, asked for over HTTP.

    Parameters
    ----------
    port
        On the loopback.
    folder
        Holds `in.txt`, and gets the outputs.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self._caller = Caller(port)
        self._folder = folder

    def batch(self, source: str, rows: int, target_format: str = "txt") -> Timed:
        """Run one, timed by the moments that the service notes: frequent polling would slow it."""
        target = self._folder / f"out.{target_format}"
        request = {"input_filepath": str(self._folder / source), "output_filepath": str(target)}
        accepted = self._caller.json("POST", "/v1/batches", request | {"overwrite": True})
        path = f"/v1/batches/{accepted['batch_request_id']}"
        while (status := self._caller.json("GET", path))["status"] == "IN PROGRESS":
            time.sleep(POLL_S)
        if status["status"] != "COMPLETED" or status["num_records_processed"] != rows:
            raise SystemExit(f"error: the batch ended as {status}")
        submitted, finished = (datetime.fromisoformat(status[f"{at}_at"]) for at in ("submitted", "finished"))
        return rows, (finished - submitted).total_seconds()


@dataclass(frozen=True)
class Formatter:
    """One way of a peer to make text of rows.

    Attributes
    ----------
    peer, way
        What it is called.
    write
        Makes text of so many rows, of those that it was given before.
    """

    peer: str
    way: str
    write: Callable[[int], object]


def formatters(rows: NDArray[np.float32]) -> list[Formatter]:
    """Ways of Polars, pandas and orjson: eight decimals, or the shortest text that reads back the same.

    Polars with eight decimals writes what the batch writes; with the shortest text it has less to do.
    """
    import orjson
    import pandas as pd
    import polars as pl

    names = [str(i) for i in range(rows.shape[1])]
    polars_frame = pl.DataFrame(np.asfortranarray(rows), schema=names, orient="row").rechunk()
    pandas_frame = pd.DataFrame(rows)

    def polars(count: int, block: int, decimals: int | None) -> None:
        part = polars_frame.head(count)
        part.write_csv("/dev/null", include_header=False, float_precision=decimals, batch_size=block)

    def polars_sink(count: int, decimals: int | None) -> None:
        part = polars_frame.head(count).lazy()
        part.sink_csv("/dev/null", include_header=False, float_precision=decimals)

    def pandas(count: int, decimals: str | None) -> None:
        pandas_frame.head(count).to_csv("/dev/null", header=False, index=False, float_format=decimals)

    ways = [
        Formatter("pandas", "to_csv, %.8f", lambda count: pandas(count, "%.8f")),
        Formatter("pandas", "to_csv, shortest", lambda count: pandas(count, None)),
        Formatter(
            "orjson", "shortest", lambda count: orjson.dumps(rows[:count], option=orjson.OPT_SERIALIZE_NUMPY)
        ),
    ]
    for peer, decimals, digits in (
        ("Polars", 8, "eight decimals"),
        ("Polars, shortest", None, "shortest"),
    ):
        ways.append(
            Formatter(peer, f"sink_csv, {digits}", lambda count, d=decimals: polars_sink(count, d))  # type: ignore[misc]
        )
        ways.extend(
            Formatter(
                peer,
                f"write_csv, {digits}, {block} rows a block",
                lambda count, b=block, d=decimals: polars(count, b, d),  # type: ignore[misc]
            )
            for block in (64, 256, 1024)
        )
    return ways


def seconds_of(work: Callable[[], object]) -> float:
    """Run once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def fastest_of_each(ways: list[Formatter], available: int) -> dict[str, tuple[Formatter, int]]:
    """The fastest way of each peer, and as many rows as take it about a second."""
    found: dict[str, tuple[float, Formatter]] = {}
    tried = min(TRIED_ROWS, available)
    for way in ways:
        way.write(tried)
        seconds = min(seconds_of(lambda way=way: way.write(tried)) for _ in range(2))  # type: ignore[misc]
        if way.peer not in found or seconds < found[way.peer][0]:
            found[way.peer] = (seconds, way)
    return {
        peer: (way, min(available, max(tried, round(tried * FORMATTED_S / seconds))))
        for peer, (seconds, way) in found.items()
    }


def plain_write(blocks: list[memoryview], target: Path) -> None:
    """Bring bytes to disk."""
    target.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_CREAT | os.O_WRONLY)
    try:
        for block in blocks:
            os.write(descriptor, block)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def stages(upsampler: Upsampler, rows: NDArray[np.float32]) -> dict[str, float]:
    """Rows a second of what a batch does with them, on one core, in blocks of 256 rows."""
    import faiss

    faiss.omp_set_num_threads(1)
    text = format_rows(rows[:STAGE_ROWS]).tobytes()
    decoded, _ = upsampler.upsample(rows[:STAGE_ROWS])
    works: dict[str, Callable[[], object]] = {
        "parse": lambda: parse_rows(text, dims=upsampler.input_dims),
        "decode": lambda: upsampler.upsample(rows[:STAGE_ROWS]),
        "format": lambda: format_rows(decoded),
    }
    found = {}
    with threadpool_limits(1):
        for name, work in works.items():
            work()
            taken: list[float] = []
            while sum(taken) < STAGE_S:
                taken.append(seconds_of(work))
            found[name] = STAGE_ROWS / statistics.median(taken)
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    return found


def measure(
    service: Service, upsampler: Upsampler, folder: Path, rows: NDArray[np.float32], count: int, rounds: int
) -> tuple[dict[str, list[Timed]], dict[str, str]]:
    """Run the rounds; give what each rival took, and which way of its peer it was."""
    say("warming up")
    service.batch("warm.txt", WARM_ROWS)
    say("trying the formatters")
    block = 1024
    decoded = np.concatenate(
        [upsampler.upsample(rows[start : start + block])[0] for start in range(0, len(rows), block)]
    )
    chosen = fastest_of_each(formatters(decoded), len(decoded))
    service.batch("in.txt", count)
    output = memoryview((folder / "out.txt").read_bytes())
    blocks = [output[start : start + WRITE_BYTES] for start in range(0, len(output), WRITE_BYTES)]

    def loop() -> Timed:
        target = folder / "loop.out"
        target.unlink(missing_ok=True)
        seconds = seconds_of(lambda: list(usual_loop(upsampler, folder / "loop.txt", target)))
        return min(count, LOOP_ROWS), seconds

    rivals: dict[str, Callable[[], Timed]] = {
        "embup": lambda: service.batch("in.txt", count),
        **{f"embup, {other}": partial(service.batch, "in.npy", count, other) for other in OTHER_OUTPUTS},
        "usual loop": loop,
        "plain write": lambda: (count, seconds_of(lambda: plain_write(blocks, folder / "plain.txt"))),
    }
    for peer, (way, some) in chosen.items():
        rivals[peer] = lambda way=way, some=some: (some, seconds_of(lambda: way.write(some)))  # type: ignore[misc]
    found: dict[str, list[Timed]] = {name: [] for name in rivals}
    names = list(rivals)
    shuffler = random.Random(0)
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}")
        shuffler.shuffle(names)
        for name in names:
            found[name].append(rivals[name]())
    return found, {peer: f"{way.way}, {some:,} rows" for peer, (way, some) in chosen.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="A batch against its rivals.")
    parser.add_argument("--registry", type=Path, help="folder of published decoders; default: one is fitted")
    parser.add_argument("--source", help="where rows come from: folder, two URLs, or sample[:ROWS]")
    parser.add_argument("--rows", type=int, default=60_000, help="rows of the batch")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all rivals")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embup-batch-") as made:
        folder = Path(made)
        registry, rows = registry_and_rows(options.registry, options.source, folder)
        counts = {"in": options.rows, "warm": WARM_ROWS, "loop": min(options.rows, LOOP_ROWS)}
        for name, count in counts.items():
            write_input(folder / f"{name}.txt", rows, count)
        np.save(folder / "in.npy", np.loadtxt(folder / "in.txt", np.float32, delimiter=","))
        upsampler = Registry(registry).load()
        some = jittered(rows, min(options.rows, 10_000), seed=0)
        with serving_process(registry, folder / "service") as (_, port):
            found, ways = measure(
                Service(port, folder), upsampler, folder, some, options.rows, options.rounds
            )
        on_one_core = stages(upsampler, some)
    rows_per_s = {
        name: statistics.median(count / seconds for count, seconds in timed) for name, timed in found.items()
    }
    print(
        f"{options.rows:,} rows, {options.rounds} rounds, {os.cpu_count()} cores; "
        "rows/s: median, slowest and fastest"
    )
    for rival, speed in sorted(rows_per_s.items(), key=lambda item: -item[1]):
        count, seconds = zip(*found[rival], strict=True)
        spread = f"{min(count) / max(seconds):,.0f} to {max(count) / min(seconds):,.0f}"
        print(f"  {rival:16} {speed:10,.0f}   {spread}   {ways.get(rival, '')}".rstrip())
    print("one core, rows/s: " + ", ".join(f"{stage} {speed:,.0f}" for stage, speed in on_one_core.items()))
    ours = rows_per_s["embup"]
    ratios = [
        f"{ours / rows_per_s[name]:.2f} x {name}"
        for name in ("usual loop", "Polars", "Polars, shortest", "pandas", "orjson")
    ]
    ratios.extend(f"{other} output {rows_per_s[f'embup, {other}'] / ours:.2f} x" for other in OTHER_OUTPUTS)
    ratios.append(f"{rows_per_s['plain write'] / ours:.2f} x the time of a plain write")
    print(f"batch: {ours:,.0f} rows/s, {', '.join(ratios)}")


if __name__ == "__main__":
    main()
