"""A folder of parts on Ray beside one file of the same rows, and on three nodes of which one is lost.

    python -m benchmarks.ray_parts [--registry DIR] [--rows 200000] [--parts 40] [--rounds 3]

A round has each once, in changing order, all by the command line: `embup upsample` of one file of Parquet, of
the folder on this machine, and of the folder on Ray with as many workers as the first has processes. Rows a
second are those that the commands print. Python's start, the driver's load of the decoder and Ray's start are
not in them; the start of Ray's workers and their loads are. Then the folder once more on a cluster of three
nodes with one core each, of which one is killed when a third of the parts is finished. Each output is
compared with that of the one file, and with the manifest. The last line is the figure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from benchmarks.figures import say
from benchmarks.service.server import jittered, registry_and_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

NODES = 3
NODE_STORE_BYTES = 80_000_000
TOLERANCE = 1e-5  # a part's last bits depend on where its blocks of rows begin


def write_parquet(path: Path, rows: NDArray[np.float32]) -> None:
    """One column of lists of a fixed length."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    pyarrow.parquet.write_table(pa.table({"embedding": lists}), path)


def upsample(source: Path, target: Path, registry: Path, *options: object) -> dict[str, Any]:
    """Run the command; give what it prints, with the seconds of the whole."""
    command = [
        sys.executable,
        "-m",
        "embup.cli",
        "upsample",
        source,
        target,
        "--registry",
        registry,
        "--json",
    ]
    started_s = time.monotonic()
    ran = subprocess.run([*map(str, command), *map(str, options)], stdout=subprocess.PIPE, check=False)
    if ran.returncode:
        raise SystemExit("error: the command failed; what it said stands above")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found | {"command_s": time.monotonic() - started_s}


def upsample_and_lose_a_node(source: Path, target: Path, registry: Path, parts: int) -> dict[str, Any]:
    """The same on three nodes; one is killed, without a farewell, after a third of the parts."""
    from ray.cluster_utils import Cluster

    shape: dict[str, Any] = {"num_cpus": 1, "object_store_memory": NODE_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=shape | {"include_dashboard": False})
    lost: list[float] = []
    ended = threading.Event()

    def lose() -> None:
        finished = target / "_embup/finished"
        while not ended.wait(0.02):
            if finished.is_dir() and len(list(finished.iterdir())) >= parts // 3:
                cluster.remove_node(nodes[-1], allow_graceful=False)
                lost.append(time.monotonic())
                return

    try:
        nodes = [cluster.add_node(**shape) for _ in range(NODES - 1)]
        watch = threading.Thread(target=lose)
        watch.start()
        try:
            done = upsample(source, target, registry, "--engine", "ray", "--address", cluster.address)
        finally:
            ended.set()
            watch.join()
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    if not lost:
        raise SystemExit("error: the run ended before a node could be killed")
    return done | {"lost_before_end_s": time.monotonic() - lost[0]}


def numbers(rows: pa.Table) -> NDArray[np.float32]:
    """The vectors of a table: shape (n, m)."""
    column = rows.column(0).combine_chunks()
    flat: NDArray[np.float32] = column.flatten().to_numpy()
    return flat.reshape(len(column), -1)


def verify(folder: Path, one_file: Path, parts: int) -> None:
    """Compare the parts, by the manifest, with the output of the one file."""
    manifest = json.loads((folder / "_MANIFEST.json").read_text())
    expected = numbers(pyarrow.parquet.read_table(one_file))
    names = {path.name for path in folder.iterdir()} - {"_MANIFEST.json"}
    listed = [one["output"] for one in manifest["parts"]]
    if names != set(listed) or len(listed) != parts:
        raise SystemExit(f"error: the manifest lists {len(listed)} parts, the folder holds {len(names)}")
    found = 0
    for one in manifest["parts"]:
        content = (folder / one["output"]).read_bytes()
        rows = pyarrow.parquet.read_table(pa.BufferReader(content))
        right = (rows.num_rows, len(content), hashlib.sha256(content).hexdigest())
        if right != (one["rows"], one["size_bytes"], one["sha256"]):
            raise SystemExit(f"error: {one['output']} is not what the manifest says")
        mine, theirs = numbers(rows), expected[found : found + rows.num_rows]
        if mine.shape != theirs.shape or np.abs(mine - theirs).max() > TOLERANCE:
            raise SystemExit(f"error: rows of {one['output']} are not those of the one file")
        found += rows.num_rows
    if found != manifest["rows"] or found != len(expected):
        raise SystemExit(f"error: found {found} rows, and the manifest says {manifest['rows']}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="A folder of parts on Ray beside one file.")
    parser.add_argument("--registry", type=Path, help="folder of published decoders; default: one is fitted")
    parser.add_argument("--rows", type=int, default=200_000, help="in all")
    parser.add_argument("--parts", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    # Ray's own niceness, 15, yields to whatever else runs on this machine.
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"})
    a_part = options.rows // options.parts
    with tempfile.TemporaryDirectory(prefix="embup-ray-parts-") as made:
        folder = Path(made)
        registry, some = registry_and_rows(options.registry, None, folder)
        rows = jittered(some, a_part * options.parts, seed=0)
        one, many = folder / "one.parquet", folder / "parts"
        write_parquet(one, rows)
        many.mkdir()
        for part in range(options.parts):
            write_parquet(many / f"part-{part:05}.parquet", rows[part * a_part : (part + 1) * a_part])
        rivals: dict[str, tuple[Path, Path, list[object]]] = {
            "one file": (one, folder / "one.out.parquet", []),
            "folder": (many, folder / "folder.out", []),
            "folder on Ray": (many, folder / "ray.out", ["--engine", "ray", "--workers", cores]),
        }
        speeds: dict[str, list[float]] = {name: [] for name in rivals}
        seconds: dict[str, list[float]] = {name: [] for name in rivals}
        names, shuffler = list(rivals), random.Random(0)
        for number in range(1, options.rounds + 1):
            shuffler.shuffle(names)
            for name in names:
                source, target, more = rivals[name]
                shutil.rmtree(target, ignore_errors=True)
                target.unlink(missing_ok=True)
                done = upsample(source, target, registry, *more)
                say(f"round {number}: {name} {done['rows_per_s']:,.0f} rows/s, {done['command_s']:.1f} s")
                speeds[name].append(done["rows_per_s"])
                seconds[name].append(done["command_s"])
            verify(folder / "ray.out", folder / "one.out.parquet", options.parts)
            verify(folder / "folder.out", folder / "one.out.parquet", options.parts)
        shutil.rmtree(folder / "ray.out")
        shutil.rmtree(folder / "folder.out")
        lost = upsample_and_lose_a_node(many, folder / "lost.out", registry, options.parts)
        verify(folder / "lost.out", folder / "one.out.parquet", options.parts)
    print(f"{len(rows):,} rows in {options.parts} parts, {options.rounds} rounds, {cores} cores")
    for name, found in speeds.items():
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        print(
            f"  {name:14} {statistics.median(found):8,.0f} rows/s   {spread}   "
            f"command {statistics.median(seconds[name]):.1f} s"
        )
    print(
        f"  three nodes, one killed: every row once, manifest right; {lost['rows_per_s']:,.0f} rows/s, "
        f"{lost['command_s']:.1f} s, of which {lost['lost_before_end_s']:.1f} s without the node"
    )
    ratios = [
        statistics.median(
            mine / theirs for mine, theirs in zip(speeds[name], speeds["one file"], strict=True)
        )
        for name in ("folder on Ray", "folder")
    ]
    print(f"ray parts: {ratios[0]:.2f} x one file, the folder without Ray {ratios[1]:.2f} x")


if __name__ == "__main__":
    main()
