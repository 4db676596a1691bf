"""A FAISS index of an export in a folder: `index.faiss`, `rows.parquet` with ids and payload, `embup.json`.

FAISS has no rows on a disk that could be added one by one. So rows grow as Parquet parts, the index is built
from them at the end, and the parts are removed once it is there.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import faiss
import numpy as np

from embup_core.batch.arrow import load_arrow
from embup_core.errors import InputError, OutputError
from embup_core.files.atomic import sync_folder
from embup_core.files.processes import usable_cores
from embup_core.stores.parquet_parts import ParquetParts, vectors_of
from embup_core.stores.store import ID, VECTOR, Found, State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

INDEX_FILE: Final = "index.faiss"
ROWS_FILE: Final = "rows.parquet"
_PARTS_TRAINED_ON: Final = 8
_LEAST_EF: Final = 64
"""Candidates that the graph keeps at least while it is searched."""


class FaissFolder(ParquetParts):
    """One folder.

    Parameters
    ----------
    target
        The folder.
    collection
        Not used: a folder is a collection.
    index
        "exact" compares every vector, as float32 or float16; "hnsw" is a graph of vectors, a byte a number.
    """

    def write_state(self, state: dict[str, Any]) -> None:
        """See `VectorStore.write_state`; with the last one, the parts go."""
        done = state["progress"]["complete"]
        if done:
            self._parts = []
        super().write_state(state)
        if done:
            shutil.rmtree(self.folder / "rows", ignore_errors=True)

    def finish(self) -> None:
        """Build the index, on all cores."""
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(usable_cores())
        try:
            self._build()
        finally:
            faiss.omp_set_num_threads(threads)

    def _build(self) -> None:
        state = State.from_json(self.read_state(), where=str(self.folder))
        kept = self._kept_rows()
        index = self._trained(state)
        tables = []
        first = 0
        for table in self.read_parts():
            there = kept[first : first + len(table)]
            first += len(table)
            table = table.filter(self.arrow.array(there))  # noqa: PLW2901 - less the rows that were replaced
            if len(table):
                index.add(vectors_of(table))
                tables.append(table.drop_columns([VECTOR]))
        written = self.folder / f".{INDEX_FILE}.tmp"
        faiss.write_index(index, str(written))
        rows = self.folder / f".{ROWS_FILE}.tmp"
        self.arrow.parquet.write_table(self.arrow.concat_tables(tables), rows)
        for path, name in ((written, INDEX_FILE), (rows, ROWS_FILE)):
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            path.replace(self.folder / name)
        sync_folder(self.folder)

    def _kept_rows(self) -> NDArray[np.bool_]:
        """Which rows are the last ones of their ids: shape (n,)."""
        ids = np.concatenate([table[ID].to_numpy() for table in self.read_parts([ID])])
        _, from_end = np.unique(ids[::-1], return_index=True)
        kept = np.zeros(len(ids), dtype=bool)
        kept[len(ids) - 1 - from_end] = True
        return kept

    def _trained(self, state: State) -> Any:
        """An empty index."""
        exact = "SQfp16" if state.space.dtype == "float16" else "Flat"
        index = faiss.index_factory(
            state.space.dims, exact if state.index == "exact" else "HNSW32_SQ8", faiss.METRIC_INNER_PRODUCT
        )
        if not index.is_trained:  # the range of each dimension
            paths = self.part_paths()
            picked = np.unique(np.linspace(0, len(paths) - 1, _PARTS_TRAINED_ON).astype(int))
            read = self.arrow.parquet.read_table
            index.train(np.concatenate([vectors_of(read(paths[one], columns=[VECTOR])) for one in picked]))
        return index

    def count(self) -> int:
        """See `VectorStore.count`."""
        return FaissIndex.load(self.folder).rows

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """See `VectorStore.search`."""
        index = FaissIndex.load(self.folder)
        places, products = index.search(queries, k)
        return Found([index.ids(row) for row in places], [row.tolist() for row in products])


@dataclass(frozen=True)
class FaissIndex:
    """A finished export in memory, to search in. Safe to search from several threads at once.

    Attributes
    ----------
    state
        What it holds.
    table
        Arrow table of ids, confidences and payload.
    """

    state: State
    table: Any
    _index: Any

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a folder.

        Raises
        ------
        OutputError
            It holds no finished export to `faiss`.
        """
        folder = Path(folder)
        arrow = load_arrow()
        where = str(folder)
        try:
            found = ParquetParts(where, "", "exact").read_state()
            if found is None:
                raise ValueError("an empty folder, or none")
            state = State.from_json(found, where=where)
            if not state.progress.complete:
                raise ValueError(f"{state.progress.rows:,} rows of an export that has not ended")
            index = faiss.read_index(str(folder / INDEX_FILE))
            table = arrow.parquet.read_table(folder / ROWS_FILE)
            if index.ntotal != len(table) or index.d != state.space.dims:
                raise ValueError(f"{index.ntotal:,} vectors of {index.d} dimensions for {len(table):,} rows")
        except (OSError, RuntimeError, ValueError, arrow.ArrowException) as error:
            raise OutputError(
                f"{folder}: expected a finished export to faiss, found {str(error)[:300]}.",
                remedy="Run `embup export … --to faiss` to its end.",
            ) from error
        return cls(state, table, index)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.table)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        exact: bool = False,
        where: Mapping[str, str | float | bool | None] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the rows of largest scalar products with each query.

        Parameters
        ----------
        queries
            float32, shape (q, dims).
        k
            How many.
        exact
            Compare every stored vector, also where there is a graph.
        where
            Only rows whose columns have these values.

        Returns
        -------
        places, products
            int64 and float32, shape (q, k'), the best first; fewer than k where fewer rows fit, and place -1
            where a graph found fewer.

        Raises
        ------
        InputError
            There is no such column, or a value is none of its type.
        """
        chosen = None if not where else self._rows_where(where)
        most = self.rows if chosen is None else int(chosen.sum())
        if (k := min(k, most)) == 0:
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        graph = self.state.index == "hnsw" and not exact
        index = (
            self._index if graph or self.state.index == "exact" else faiss.downcast_index(self._index.storage)
        )
        more: dict[str, Any] = {}
        parameters: Any = None
        if chosen is not None:
            more["sel"] = faiss.IDSelectorBatch(np.flatnonzero(chosen))
        if graph:
            more["efSearch"] = max(_LEAST_EF, 2 * k)
            parameters = faiss.SearchParametersHNSW(**more)  # type: ignore[attr-defined]  # not in its stubs
        elif more:
            parameters = faiss.SearchParameters(**more)
        products, places = index.search(np.ascontiguousarray(queries, np.float32), k, params=parameters)
        return places, products

    def ids(self, places: NDArray[np.int64]) -> list[Any]:
        """Ids of rows: shape (n,) of places."""
        found: list[Any] = self.table[ID].take(places[places >= 0]).to_pylist()
        return found

    def payload(self, places: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Confidences and payload of rows."""
        found: list[dict[str, Any]] = self.table.drop_columns([ID]).take(places[places >= 0]).to_pylist()
        return found

    def _rows_where(self, where: Mapping[str, str | float | bool | None]) -> NDArray[np.bool_]:
        arrow = load_arrow()
        from pyarrow import compute

        chosen = np.ones(self.rows, dtype=bool)
        for name, value in where.items():
            if name not in self.table.column_names:
                raise InputError(
                    f"filter: expected columns of the index, found {name!r}.",
                    remedy=f"There are {', '.join(self.table.column_names)}.",
                )
            column = self.table[name]
            try:
                same = (
                    compute.is_null(column)
                    if value is None
                    else compute.equal(column, arrow.scalar(_whole(value, column.type), column.type))
                )
            except (arrow.ArrowException, OverflowError, TypeError, ValueError) as error:
                raise InputError(
                    f"filter: expected a value of {column.type} for {name!r}, found {value!r}.",
                    remedy="Give a value as the column has them.",
                ) from error
            chosen &= same.fill_null(False).to_numpy()
        return chosen


def _whole(value: str | float | bool, kind: Any) -> str | float | bool:
    """A value to compare with a column of a type; Arrow would cut 2002.9 to the integer 2002."""
    if isinstance(value, float) and str(kind).startswith("int") and not value.is_integer():
        raise ValueError("no integer")
    return value
