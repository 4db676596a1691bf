"""The stores that there are, by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from embup_core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embup_core.stores.store import IndexKind, VectorStore

_NAME: Final = re.compile(r"(?!embup_)(?!.*__embup$)[A-Za-z_][A-Za-z0-9_]{0,59}")
"""Of a collection. Tables `embup_...` and `...__embup` are the stores' own."""

StoreKind = Literal["lancedb", "qdrant", "pgvector", "milvus", "faiss", "parquet"]


def _lancedb(target: str, collection: str, index: IndexKind) -> VectorStore:
    from embup_core.stores.lance import LanceStore

    return LanceStore(target, collection, index)


def _qdrant(target: str, collection: str, index: IndexKind) -> VectorStore:
    from embup_core.stores.qdrant import QdrantStore

    return QdrantStore(target, collection, index)


def _pgvector(target: str, collection: str, index: IndexKind) -> VectorStore:
    from embup_core.stores.postgres import PostgresStore

    return PostgresStore(target, collection, index)


def _milvus(target: str, collection: str, index: IndexKind) -> VectorStore:
    from embup_core.stores.milvus import MilvusStore

    return MilvusStore(target, collection, index)


def _faiss(target: str, collection: str, index: IndexKind) -> VectorStore:
    from embup_core.stores.faiss_folder import FaissFolder

    return FaissFolder(target, collection, index)


def _parquet(target: str, collection: str, index: IndexKind) -> VectorStore:
    from embup_core.stores.parquet_parts import ParquetParts

    return ParquetParts(target, collection, index)


_OPENERS: Final[Mapping[StoreKind, Callable[[str, str, IndexKind], VectorStore]]] = {
    "lancedb": _lancedb,
    "qdrant": _qdrant,
    "pgvector": _pgvector,
    "milvus": _milvus,
    "faiss": _faiss,
    "parquet": _parquet,
}


def open_store(kind: StoreKind, target: str, *, collection: str, index: IndexKind) -> VectorStore:
    """Connect to a collection of a store; nothing is made yet.

    Parameters
    ----------
    kind
        Which store.
    target
        Folder, file or address, as the store takes it.
    collection
        Name of the collection or table; of `faiss` and `parquet` the folder below `target`.
    index
        How it is to be searched.

    Raises
    ------
    MissingExtraError
        The store's package is not installed.
    OutputError
        The store cannot be reached, or the name cannot be a collection's.
    """
    if not _NAME.fullmatch(collection):
        raise OutputError(
            f"Expected a collection's name of letters, digits and _, at most 60, none that "
            f"begins with embup_ or ends with __embup, found {collection!r}.",
            remedy="Choose another name.",
        )
    try:
        return _OPENERS[kind](target, collection, index)
    except (OSError, RuntimeError, ValueError) as error:
        # An address is not repeated: it may hold a password.
        where = kind if "://" in target else target
        raise OutputError(
            f"{where} cannot be opened: {' '.join(str(error).split())[:300]}.",
            remedy="Check folder or address, and whether another process has it open.",
        ) from error
