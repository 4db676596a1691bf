"""How far one driver carries: parts that take the time of real ones and no processor, on 4, 16 and 64 cores.

    python -m benchmarks.ray_scaling [--part-s 0.6] [--workers 4,16,64] [--parts-each 20] [--nodes 4]

A worker sleeps for as long as a part takes, and then hands over a small file as it would an output. So all
that a run needs besides decoding is done: scheduling, names, renames, records on the disk, the manifest.
Workers are spread over logical nodes, each with a raylet of its own. They start before the clock does: real
nodes start theirs side by side, and this machine one after the other. Efficiency is the time that workers
slept, over workers times seconds. The first table has one length of a part, the second the most workers and
other lengths.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figures import say, table
from embup_core.batch.parts.place import open_place
from embup_core.batch.parts.plan import PartRecord, Plan, find_parts, output_name
from embup_core.batch.parts.run import PartsRun
from embup_core.batch.parts.work import Attempt
from embup_core.batch.ray_engine import cluster, spread
from embup_core.errors import EmbupError

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE_STORE_BYTES = 80_000_000
LENGTHS = (0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class SleepingWork:
    """As `PartWork`, with a sleep where that decodes."""

    input: str
    output: str
    seconds: float

    def __call__(self, part: str) -> Attempt | EmbupError:
        """Do what a worker does, but decode."""
        source, output = open_place(self.input), open_place(self.output)
        stamp = source.stamp(part)
        name = output_name(part, "npy")
        with source.local_copy(part), output.attempt() as folder:
            time.sleep(self.seconds)
            (folder / name).write_bytes(b"rows")
            record = PartRecord(
                part=part, output=name, rows=1, failed_rows=0, size_bytes=4, sha256="0" * 64,
                input_stamp=stamp or "",
            )  # fmt: skip
            return Attempt(record, {name: output.hand_over(folder / name, name)})


@dataclass(frozen=True)
class Outcome:
    """Of one run: its seconds, and those of the driver alone to take a part."""

    workers: int
    parts: int
    part_s: float
    elapsed_s: float
    take_s: float

    def row(self) -> list[str]:
        """Cells of the table."""
        ideal_s = self.parts * self.part_s / self.workers
        return [
            f"{self.workers}", f"{self.part_s:g} s", f"{self.parts:,}", f"{self.elapsed_s:.1f} s",
            f"{ideal_s / self.elapsed_s:.3f}", f"{self.parts / self.elapsed_s:.0f}",
            f"{1e3 * self.take_s / self.parts:.1f} ms",
        ]  # fmt: skip


def settled(workers: int) -> None:
    """Wait until as many processes have started as there will be workers, and have imported all."""

    def who(_: str) -> int:
        import embup_core.batch.parts  # noqa: F401 - seconds, where 64 do so on two cores

        time.sleep(1.0)
        return os.getpid()

    seen: set[int] = set()
    while len(seen) < workers:
        seen |= set(spread(who, [str(number) for number in range(2 * workers)]))
        say(f"{len(seen)} of {workers} workers")


def measured(workers: int, parts: int, part_s: float, folder: Path) -> Outcome:
    """Run over so many parts, from the first one's scheduling to the manifest."""
    source, target = (Path(tempfile.mkdtemp(prefix=name, dir=folder)) for name in ("in-", "out-"))
    for number in range(parts):
        np.save(source / f"part-{number:06}.npy", np.zeros(1, np.float32))
    came, goes = open_place(str(source)), open_place(str(target))
    plan = Plan(
        run_id="benchmark", embup_version="", input=came.name,
        parts=find_parts(list(came.stamps()), came.name), output_format="npy",
        model_version="none", content_hash="", basis="decoded", basis_id=None, output_dims=1,
        on_bad_row="fail", max_bad_rows=None,
    )  # fmt: skip
    run, take_s, started_s = PartsRun(plan, came, goes), 0.0, time.monotonic()
    coming: Iterator[Any] = spread(SleepingWork(came.name, goes.name, part_s), run.pending)
    for attempt in coming:
        if isinstance(attempt, EmbupError):
            raise attempt
        before_s = time.monotonic()
        run.take(attempt)
        take_s += time.monotonic() - before_s
    run.finish()
    return Outcome(workers, parts, part_s, time.monotonic() - started_s, take_s)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="One driver and many workers that sleep.")
    parser.add_argument("--part-s", type=float, default=0.6, help="seconds that a part takes")
    parser.add_argument("--workers", default="4,16,64", help="cores, one worker each")
    parser.add_argument("--parts-each", type=int, default=20, help="parts a worker")
    parser.add_argument("--nodes", type=int, default=4, help="logical nodes that the cores are spread over")
    parser.add_argument(
        "--lengths", default=",".join(map(str, LENGTHS)), help="seconds, for the second table"
    )
    options = parser.parse_args()
    # Ray's own niceness, 15, yields to whatever else runs on this machine.
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"})
    from ray.cluster_utils import Cluster

    counts = sorted(int(text) for text in options.workers.split(","))
    columns = ("cores", "a part", "parts", "seconds", "efficiency", "parts/s", "driver, a part")
    first: list[Outcome] = []
    second: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="embup-ray-scaling-") as made:
        for workers in counts:
            nodes = min(options.nodes, workers)
            shape = {"num_cpus": workers // nodes, "object_store_memory": NODE_STORE_BYTES}
            machine = Cluster(initialize_head=True, head_node_args=shape | {"include_dashboard": False})
            try:
                for _ in range(nodes - 1):
                    machine.add_node(**shape)
                with cluster(machine.address):
                    settled(workers)
                    say(f"{workers} workers on {nodes} nodes")
                    first.append(measured(workers, workers * options.parts_each, options.part_s, Path(made)))
                    if workers == counts[-1]:
                        second = [
                            measured(workers, workers * options.parts_each, float(length), Path(made))
                            for length in options.lengths.split(",")
                            if length
                        ]
            finally:
                machine.shutdown()  # type: ignore[no-untyped-call]
    print(table(columns, [one.row() for one in first]))
    if second:
        print()
        print(table(columns, [one.row() for one in second]))
    worst = min(one.parts * one.part_s / one.workers / one.elapsed_s for one in first)
    print(f"ray scaling: efficiency at least {worst:.3f} with parts of {options.part_s:g} s")


if __name__ == "__main__":
    main()
