"""Milvus: a collection whose properties hold the state."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from embup_core.errors import OutputError
from embup_core.extras import extra_required
from embup_core.stores.store import ID, VECTOR, Found, made_elsewhere

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.stores.store import IndexKind

TOKEN_VARIABLE: Final = "MILVUS_TOKEN"  # noqa: S105 - the name of a variable
_STATE: Final = "embup"
_ROWS_A_REQUEST: Final = 2048
_LONGEST_TEXT_BYTES: Final = 65_535


class MilvusStore:
    """One collection.

    Parameters
    ----------
    target
        Address of a server, with its token in MILVUS_TOKEN; or a file `NAME.db`, which Milvus Lite keeps.
    collection
        Its name.
    index
        FLAT or HNSW.
    """

    errors: tuple[type[Exception], ...]

    def __init__(self, target: str, collection: str, index: IndexKind) -> None:
        with extra_required():
            from pymilvus import DataType, MilvusClient, MilvusException
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises, with tracebacks

        if "://" not in target and not target.endswith(".db"):
            raise OutputError(
                f"Expected an address or a file that ends in .db, found {target}.",
                remedy="Name it so: Milvus Lite knows its files by this ending.",
            )
        self.errors = (MilvusException, ValueError, RuntimeError, OSError)
        self._types = DataType
        self._file = None if "://" in target else str(Path(target).resolve())
        try:
            self._client = MilvusClient(uri=self._file or target, token=os.environ.get(TOKEN_VARIABLE, ""))
        except MilvusException as error:
            raise ValueError(error.message.replace(target, "the address")) from None
        self._name = collection
        self._index = index
        self._half = False

    def read_state(self) -> dict[str, Any] | None:
        """See `VectorStore.read_state`."""
        if not self._client.has_collection(self._name):
            return None
        properties = self._client.describe_collection(self._name).get("properties") or {}
        if _STATE not in properties:
            raise made_elsewhere(f"The collection {self._name}")
        state: dict[str, Any] = json.loads(properties[_STATE])
        return state

    def drop(self) -> None:
        """See `VectorStore.drop`."""
        self._client.drop_collection(self._name)

    def open(self, schema: Any, state: dict[str, Any]) -> None:
        """See `VectorStore.open`."""
        self._half = str(schema.field(VECTOR).type.value_type) == "halffloat"
        if self._half and self._file is not None:
            raise OutputError(
                "Expected float32 for Milvus Lite, which has no float16.",
                remedy="Leave --dtype out, or name a server.",
            )
        if self._client.has_collection(self._name):
            return
        described = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        for field in schema:
            if field.name == VECTOR:
                kind = self._types.FLOAT16_VECTOR if self._half else self._types.FLOAT_VECTOR
                described.add_field(VECTOR, kind, dim=field.type.list_size)
                continue
            more: dict[str, Any] = {"is_primary": True} if field.name == ID else {"nullable": True}
            kind = getattr(self._types, _TYPES.get(str(field.type), "VARCHAR"))
            if kind == self._types.VARCHAR:
                more["max_length"] = _LONGEST_TEXT_BYTES
            described.add_field(field.name, kind, **more)
        indexes = self._client.prepare_index_params()
        graph = {"params": {"M": 32, "efConstruction": 100}} if self._index == "hnsw" else {}
        indexes.add_index(
            VECTOR, index_type="HNSW" if self._index == "hnsw" else "FLAT", metric_type="IP", **graph
        )
        self._client.create_collection(
            self._name, schema=described, index_params=indexes, properties={_STATE: json.dumps(state)}
        )

    def upsert(self, batch: Any) -> None:
        """See `VectorStore.upsert`."""
        import numpy as np

        dims = batch.schema.field(VECTOR).type.list_size
        for first in range(0, batch.num_rows, _ROWS_A_REQUEST):
            part = batch.slice(first, _ROWS_A_REQUEST)
            vectors = part[VECTOR].flatten().to_numpy().reshape(-1, dims)  # (rows, dims)
            rows = part.drop_columns([VECTOR]).to_pylist()
            for row, vector in zip(rows, np.ascontiguousarray(vectors), strict=True):
                row[VECTOR] = vector
            self._client.upsert(self._name, rows)

    def write_state(self, state: dict[str, Any]) -> None:
        """See `VectorStore.write_state`."""
        self._client.flush(self._name)
        self._client.alter_collection_properties(self._name, properties={_STATE: json.dumps(state)})

    def finish(self) -> None:
        """See `VectorStore.finish`."""
        self._client.load_collection(self._name)

    def count(self) -> int:
        """See `VectorStore.count`."""
        self._client.load_collection(self._name)
        counted = self._client.query(self._name, filter="", output_fields=["count(*)"])
        return int(counted[0]["count(*)"])

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """See `VectorStore.search`."""
        self._client.load_collection(self._name)
        asked = list(queries.astype("float16") if self._half else queries)
        more = {"search_params": {"params": {"ef": max(64, 2 * k)}}} if self._index == "hnsw" else {}
        found = self._client.search(self._name, data=asked, limit=k, **more)
        return Found(
            [[hit["id"] for hit in hits] for hits in found],
            [[hit["distance"] for hit in hits] for hits in found],
        )

    def close(self) -> None:
        """See `VectorStore.close`."""
        self._client.close()
        if self._file is not None:
            # Its server is a thread of this process, and keeps the file locked.
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(self._file)


_TYPES: Final = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float": "FLOAT",
    "double": "DOUBLE",
}
"""Milvus's types of Arrow's; all other columns are text."""
