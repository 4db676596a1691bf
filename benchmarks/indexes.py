"""Nearest neighbours among decoded rows: what each kind of index finds, weighs and costs.

    python -m benchmarks.indexes --originals FILE.npy [--fit 6000] [--queries 1000] [--rounds 5]
                                 [--documents 100000] [--decoder mixture_kriging]

The originals, in random order, are rows to fit a decoder on, queries, and documents. Queries and documents
are decoded, so no index knows an original. Recall@10 is told twice: against the 10 nearest documents by
decoded vectors, which is what the index costs, and by the originals, which is what a user sees.

--documents adds a larger collection: documents' z with a little noise, decoded. It has no originals, so only
the first recall is known there.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import faiss
import numpy as np

from benchmarks.figures import run_on_one_core, say, table
from benchmarks.service.server import jittered
from embup_core.decoders import DECODERS
from embup_core.evaluation import predict_in_blocks
from embup_core.evaluation.ranking import largest_columns
from embup_core.sources.synthetic import project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder

NEIGHBOURS = 10
SHORT_LIST = 100
"""Candidates that a coarse index hands on to be compared by whole vectors."""
CELLS, PROBED = 64, 8
COLUMNS = ("index", "bytes a vector", "build s", "queries/s", "recall, decoded", "recall, originals")


class Index(Protocol):
    """Finds documents near queries."""

    @property
    def bytes(self) -> int:
        """Of all that is stored."""

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Numbers of the nearest documents: (q, D) -> (q, 10)."""


@dataclass(frozen=True)
class Faiss:
    """An index of faiss over the leading dimensions, its candidates compared by more of them if wanted.

    Attributes
    ----------
    index
        Over the leading ``dims`` dimensions.
    dims
        How many.
    whole
        Stored vectors that candidates are compared by; None: the index's own order counts.
    centre
        Of a binary index: what is taken off before signs are. float32, shape (D,).
    """

    index: Any
    dims: int
    whole: Any = None
    centre: NDArray[np.float32] | None = None

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """See `Index.search`."""
        asked = np.ascontiguousarray(queries[:, : self.dims])
        count = NEIGHBOURS if self.whole is None else SHORT_LIST
        found = self.index.search(asked if self.centre is None else signs(asked - self.centre), count)[1]
        return found if self.whole is None else rescored(queries, found, self.whole)

    @property
    def bytes(self) -> int:
        """Of the index and of what candidates are compared by, as they are stored."""
        serialize = faiss.serialize_index if self.centre is None else faiss.serialize_index_binary
        return len(serialize(self.index)) + (
            0 if self.whole is None else len(faiss.serialize_index(self.whole))
        )


@dataclass(frozen=True)
class Short:
    """Nothing but z is stored; candidates by z are decoded when a query comes, if there is a decoder.

    Attributes
    ----------
    index
        Over z.
    z
        Of the documents: float32, shape (n, 32).
    queries_z
        Of the queries.
    decoder
        None: the order by z counts.
    """

    index: Any
    z: NDArray[np.float32]
    queries_z: NDArray[np.float32]
    decoder: Decoder | None = None

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """See `Index.search`."""
        if self.decoder is None:
            return self.index.search(self.queries_z[: len(queries)], NEIGHBOURS)[1]  # type: ignore[no-any-return]
        found = self.index.search(self.queries_z[: len(queries)], SHORT_LIST)[1]
        return np.stack(
            [
                candidates[np.argsort(-(self.decoder.predict(self.z[candidates]) @ query))[:NEIGHBOURS]]
                for query, candidates in zip(queries, found, strict=True)
            ]
        )

    @property
    def bytes(self) -> int:
        """Of z."""
        return len(faiss.serialize_index(self.index))


def signs(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One bit a number: (n, d) -> (n, d / 8)."""
    return np.packbits(vectors > 0, axis=1)


def rescored(queries: NDArray[np.float32], found: NDArray[np.int64], whole: Any) -> NDArray[np.int64]:
    """The best 10 of each query's candidates by stored vectors: (q, D), (q, c) -> (q, 10)."""
    best = np.full((len(queries), NEIGHBOURS), -1, np.int64)
    for i, (query, candidates) in enumerate(zip(queries, found, strict=True)):
        there = candidates[candidates >= 0]  # cells of an inverted file may hold fewer rows than asked for
        vectors = whole.reconstruct_batch(there)  # (c, D)
        nearest = there[np.argsort(-(vectors @ query))[:NEIGHBOURS]]
        best[i, : len(nearest)] = nearest
    return best


def filled(index: Any, vectors: NDArray[np.float32]) -> Any:
    """The index, trained on the vectors and holding them."""
    vectors = np.ascontiguousarray(vectors)
    index.train(vectors)
    index.add(vectors)
    return index


def builders(
    documents: NDArray[np.float32], z: NDArray[np.float32], queries_z: NDArray[np.float32], decoder: Decoder
) -> dict[str, Callable[[], Any]]:
    """What is compared, by name."""
    dims, product = documents.shape[1], faiss.METRIC_INNER_PRODUCT

    def of(description: str, leading: int = dims, *, rescore: str | None = None) -> Callable[[], Faiss]:
        def build() -> Faiss:
            index: Any = faiss.index_factory(leading, description, product)
            if "PQ" in description:
                index.nprobe = PROBED
                index.pq.cp.min_points_per_centroid = 1  # small collections are compared, too
            filled(index, documents[:, :leading])
            return Faiss(index, leading, rescore and filled(faiss.index_factory(dims, rescore), documents))

        return build

    def binary() -> Faiss:
        centre, index = documents.mean(axis=0), faiss.IndexBinaryFlat(dims)
        index.add(signs(documents - centre))
        return Faiss(index, dims, filled(faiss.index_factory(dims, "SQ8"), documents), centre)

    return {
        "exact, float32": of("Flat"),
        "exact, float16": of("SQfp16"),
        "exact, int8": of("SQ8"),
        "HNSW, float32": of("HNSW32"),
        "HNSW, int8": of("HNSW32_SQ8"),
        f"384 dimensions, IVF{CELLS}, PQ of 48 bytes": of(f"IVF{CELLS},PQ96x4fs", 384),
        f"the same, {SHORT_LIST} rescored in int8": of(f"IVF{CELLS},PQ96x4fs", 384, rescore="SQ8"),
        f"one bit, {SHORT_LIST} rescored in int8": binary,
        "384 dimensions, float32": of("Flat", 384),
        "384 dimensions, int8": of("SQ8", 384),
        "128 dimensions, float32": of("Flat", 128),
        f"128 in int8, {SHORT_LIST} rescored in int8": of("SQ8", 128, rescore="SQ8"),
        "z alone": lambda: Short(filled(faiss.IndexFlatIP(z.shape[1]), z), z, queries_z),
        f"z, {SHORT_LIST} decoded for a query": lambda: Short(
            filled(faiss.IndexFlatIP(z.shape[1]), z), z, queries_z, decoder
        ),
    }


@dataclass(frozen=True)
class Collection:
    """Queries and documents, all decoded.

    Attributes
    ----------
    queries, documents
        Decoded: float32, shapes (q, D) and (n, D).
    queries_z, z
        Theirs: float32, shapes (q, 32) and (n, 32).
    nearest
        The 10 nearest documents of each query by the originals: shape (q, 10); None where there are none.
    """

    queries: NDArray[np.float32]
    documents: NDArray[np.float32]
    queries_z: NDArray[np.float32]
    z: NDArray[np.float32]
    nearest: NDArray[np.int64] | None


def collection(
    originals: NDArray[np.float32], fit: int, queries: int, decoder: str
) -> tuple[Collection, Decoder]:
    """Fit on some rows, decode the others."""
    order = np.random.default_rng(0).permutation(len(originals))
    fitted, asked, stored = np.split(order, [fit, fit + queries])
    projected = project(originals, seed=7)
    # In the principal axes of the fitted rows, as coordinates recovered from their cosines are.
    axes = np.linalg.eigh(originals[fitted].T.astype(np.float64) @ originals[fitted])[1][:, ::-1]
    principal = (originals[fitted] @ axes).astype(np.float32)
    model = DECODERS[decoder]().fit(projected[fitted], principal, output_dims=originals.shape[1])
    return Collection(
        predict_in_blocks(model, projected[asked]),
        predict_in_blocks(model, projected[stored]),
        projected[asked],
        projected[stored],
        largest_columns(originals[asked] @ originals[stored].T, NEIGHBOURS),
    ), model


def recall(found: NDArray[np.int64], nearest: NDArray[np.int64]) -> float:
    """Share of the nearest that were found: (q, 10) both."""
    return float((found[:, :, None] == nearest[:, None, :]).any(axis=1).mean())


def measure(rows: Collection, decoder: Decoder, *, rounds: int) -> list[list[str]]:
    """A line for each index; queries are timed in turns."""
    nearest = largest_columns(rows.queries @ rows.documents.T, NEIGHBOURS)
    built: dict[str, tuple[Index, float]] = {}
    for name, build in builders(rows.documents, rows.z, rows.queries_z, decoder).items():
        say(f"  {name}")
        started_s = time.perf_counter()
        built[name] = build(), time.perf_counter() - started_s
    seconds: dict[str, list[float]] = {name: [] for name in built}
    found = {}
    for _ in range(rounds):
        for name, (index, _) in built.items():
            started_s = time.perf_counter()
            found[name] = index.search(rows.queries)
            seconds[name].append(time.perf_counter() - started_s)
    return [
        [
            name,
            f"{index.bytes / len(rows.documents):,.0f}",
            f"{build_s:.1f}",
            f"{len(rows.queries) / float(np.median(seconds[name])):,.0f}",
            f"{recall(found[name], nearest):.3f}",
            "-" if rows.nearest is None else f"{recall(found[name], rows.nearest):.3f}",
        ]
        for name, (index, build_s) in built.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Indexes over decoded rows.")
    parser.add_argument("--originals", type=Path, required=True, help="(N, D) unit rows, .npy")
    parser.add_argument("--decoder", default="mixture_kriging", choices=sorted(DECODERS))
    parser.add_argument("--fit", type=int, default=6000, help="rows to fit on")
    parser.add_argument("--queries", type=int, default=1000, help="rows to search with")
    parser.add_argument("--documents", type=int, default=100_000, help="of the larger collection; 0: none")
    parser.add_argument("--rounds", type=int, default=5, help="of timed searches")
    given = parser.parse_args(arguments)
    run_on_one_core()
    originals = np.load(given.originals).astype(np.float32)
    originals /= np.linalg.norm(originals, axis=1, keepdims=True)
    rows, decoder = collection(originals, given.fit, given.queries, given.decoder)
    say(f"{len(rows.documents):,} documents")
    print(table(COLUMNS, measure(rows, decoder, rounds=given.rounds)))
    if given.documents:
        z = jittered(rows.z, given.documents, seed=0)
        large = Collection(rows.queries, predict_in_blocks(decoder, z), rows.queries_z, z, None)
        say(f"{given.documents:,} documents")
        print()
        print(table(COLUMNS, measure(large, decoder, rounds=given.rounds)))


if __name__ == "__main__":
    main()
