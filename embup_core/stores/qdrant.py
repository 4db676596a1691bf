"""Qdrant: a collection whose own metadata hold the state.

Ids are unsigned integers or UUIDs there: other ids become UUIDs made of them, and each point's payload has
its `id` as it was.
"""

from __future__ import annotations

import os
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Final

from embup_core.errors import OutputError
from embup_core.extras import extra_required
from embup_core.stores.store import ID, VECTOR, Found, made_elsewhere

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.stores.store import IndexKind

KEY_VARIABLE: Final = "QDRANT_API_KEY"
_STATE: Final = "embup"
_POINTS_A_REQUEST: Final = 512
_NAMES: Final = uuid.UUID("6f1d4f4e-60a4-5c1b-8f0e-2f5a5c0c9d7b")


class QdrantStore:
    """One collection.

    Parameters
    ----------
    target
        Address of a server, `http://...`, with its key in QDRANT_API_KEY; or a folder, in which the package
        keeps points itself, for some ten thousand of them.
    collection
        Its name.
    index
        A server builds its graph in any case; in a folder each vector is compared in any case.
    """

    errors: tuple[type[Exception], ...]

    def __init__(self, target: str, collection: str, index: IndexKind) -> None:
        with extra_required():
            from qdrant_client import QdrantClient, models
            from qdrant_client.http.exceptions import ApiException

        self.errors = (ApiException, ValueError, RuntimeError, OSError)
        if index == "hnsw" and "://" not in target:
            raise OutputError(
                "Expected --index exact for Qdrant in a folder, found hnsw: only its server has a graph.",
                remedy="Leave --index out, or name a server.",
            )
        self._models = models
        self._local = "://" not in target
        self._client = (
            QdrantClient(path=target)
            if self._local
            else QdrantClient(url=target, api_key=os.environ.get(KEY_VARIABLE))
        )
        self._name = collection
        self._index = index

    def read_state(self) -> dict[str, Any] | None:
        """See `VectorStore.read_state`."""
        if not self._client.collection_exists(self._name):
            return None
        metadata = self._client.get_collection(self._name).config.metadata or {}
        if _STATE not in metadata:
            raise made_elsewhere(f"The collection {self._name}")
        state: dict[str, Any] = metadata[_STATE]
        return state

    def drop(self) -> None:
        """See `VectorStore.drop`."""
        self._client.delete_collection(self._name)

    def open(self, schema: Any, state: dict[str, Any]) -> None:
        """See `VectorStore.open`."""
        if self._client.collection_exists(self._name):
            return
        models, kind = self._models, schema.field(VECTOR).type
        self._client.create_collection(
            self._name,
            vectors_config=models.VectorParams(
                size=kind.list_size,
                distance=models.Distance.DOT,
                datatype=models.Datatype.FLOAT16 if str(kind.value_type) == "halffloat" else None,
            ),
            metadata={_STATE: state},
        )

    def upsert(self, batch: Any) -> None:
        """See `VectorStore.upsert`."""
        with warnings.catch_warnings():
            # Of more than 20,000 points in a folder; the documentation says so.
            warnings.filterwarnings("ignore", message=r"Local mode is not recommended", category=UserWarning)
            for first in range(0, batch.num_rows, _POINTS_A_REQUEST):
                part = batch.slice(first, _POINTS_A_REQUEST)
                ids = part[ID].to_pylist()
                points = self._models.Batch(
                    ids=[_point_id(one) for one in ids],
                    vectors=part[VECTOR].to_pylist(),
                    payloads=part.drop_columns([VECTOR]).to_pylist(),
                )
                self._client.upsert(self._name, points, wait=True)

    def write_state(self, state: dict[str, Any]) -> None:
        """See `VectorStore.write_state`."""
        self._client.update_collection(self._name, metadata={_STATE: state})

    def finish(self) -> None:
        """Do nothing: a server builds its graph by itself."""

    def count(self) -> int:
        """See `VectorStore.count`."""
        return self._client.count(self._name, exact=True).count

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """See `VectorStore.search`."""
        exact = None if self._local else self._models.SearchParams(exact=self._index == "exact")
        ids, products = [], []
        for query in queries:
            points = self._client.query_points(
                self._name, query=query.tolist(), limit=k, with_payload=[ID], search_params=exact
            ).points
            ids.append([(point.payload or {})[ID] for point in points])
            products.append([point.score for point in points])
        return Found(ids, products)

    def close(self) -> None:
        """See `VectorStore.close`."""
        self._client.close()


def _point_id(value: int | str) -> int | str:
    return value if isinstance(value, int) and value >= 0 else str(uuid.uuid5(_NAMES, repr(value)))
