"""LanceDB: a table, and one beside it that holds the state."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from embup_core.extras import extra_required
from embup_core.stores.store import ID, VECTOR, Found, made_elsewhere

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.stores.store import IndexKind

_STATE: Final = "__embup"
_KEPT: Final = timedelta(days=1)
"""How long the files of older versions stay: other processes may be reading them."""
_PROBED: Final = 20
_CANDIDATES: Final = 10
"""Candidates, as a multiple of what is asked for, that are compared again by whole vectors: the graph has
their numbers as one byte each."""


class LanceStore:
    """One table.

    Parameters
    ----------
    target
        Folder of the database, or an address that LanceDB takes, such as `s3://bucket/prefix`.
    collection
        Name of the table.
    index
        "hnsw" builds IVF_HNSW_SQ at the end.
    """

    errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, OSError)

    def __init__(self, target: str, collection: str, index: IndexKind) -> None:
        # It logs that tables do not exist yet.
        os.environ.setdefault("LANCEDB_LOG", "error")
        with extra_required():
            import lancedb

        self._database = lancedb.connect(target)
        self._name = collection
        self._index = index
        self._table: Any = None

    def _exists(self, name: str) -> bool:
        token = None
        while True:
            listed = self._database.list_tables(page_token=token)
            if name in listed.tables:
                return True
            if (token := listed.page_token) is None:
                return False

    def read_state(self) -> dict[str, Any] | None:
        """See `VectorStore.read_state`."""
        if not self._exists(self._name):  # a state alone is left of a table that somebody dropped
            return None
        if self._exists(self._name + _STATE):
            rows = self._database.open_table(self._name + _STATE).to_arrow().to_pylist()
            state: dict[str, Any] = json.loads(rows[0]["state"])
            return state
        raise made_elsewhere(f"The table {self._name}")

    def drop(self) -> None:
        """See `VectorStore.drop`."""
        for name in (self._name, self._name + _STATE):
            if self._exists(name):
                self._database.drop_table(name)

    def open(self, schema: Any, state: dict[str, Any]) -> None:
        """See `VectorStore.open`."""
        if self._exists(self._name):
            self._table = self._database.open_table(self._name)
            return
        self.write_state(state)
        self._table = self._database.create_table(self._name, schema=schema)

    def upsert(self, batch: Any) -> None:
        """See `VectorStore.upsert`."""
        self._table.merge_insert(ID).when_matched_update_all().when_not_matched_insert_all().execute(batch)

    def write_state(self, state: dict[str, Any]) -> None:
        """See `VectorStore.write_state`."""
        rows = [{"state": json.dumps(state)}]
        self._database.create_table(self._name + _STATE, data=rows, mode="overwrite")

    def finish(self) -> None:
        """See `VectorStore.finish`."""
        self._table.optimize(cleanup_older_than=_KEPT)
        if self._index == "hnsw":
            from lancedb.index import HnswSq

            self._table.create_index(VECTOR, config=HnswSq(distance_type="dot"))

    def count(self) -> int:
        """See `VectorStore.count`."""
        rows: int = self._opened().count_rows()
        return rows

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """See `VectorStore.search`."""
        ids, products = [], []
        for query in queries:
            asked = self._opened().search(query).distance_type("dot").limit(k).select([ID, "_distance"])
            if self._index == "hnsw":
                asked = asked.nprobes(_PROBED).refine_factor(_CANDIDATES)
            found = asked.to_arrow()
            ids.append(found[ID].to_pylist())
            products.append([1 - distance for distance in found["_distance"].to_pylist()])
        return Found(ids, products)

    def _opened(self) -> Any:
        if self._table is None:
            self._table = self._database.open_table(self._name)
        return self._table

    def close(self) -> None:
        """See `VectorStore.close`."""
        self._table = None
