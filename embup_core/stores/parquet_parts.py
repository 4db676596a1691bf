"""A folder of Parquet parts, and a file `embup.json` that lists those that count.

A part takes its name once it is whole and on the disk; parts that are not listed are leftovers of a killed
export.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.batch.arrow import load_arrow
from embup_core.errors import OutputError
from embup_core.files.atomic import replace_durably, sync_folder
from embup_core.stores.store import ID, RECREATE, VECTOR, Found, made_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embup_core.stores.store import IndexKind

STATE_FILE: Final = "embup.json"
_PARTS: Final = "rows"


class ParquetParts:
    """One folder.

    Parameters
    ----------
    target
        The folder; what does not exist is made.
    collection
        Not used: a folder is a collection.
    index
        Only "exact": nothing is built.
    """

    errors: tuple[type[Exception], ...]

    def __init__(self, target: str, collection: str, index: IndexKind) -> None:  # noqa: ARG002
        self.arrow = load_arrow()
        self.errors = (self.arrow.ArrowException, OSError, RuntimeError)
        if index == "hnsw" and type(self) is ParquetParts:
            raise OutputError(
                "Expected --index exact for Parquet, found hnsw: files have no index.", remedy="Leave it out."
            )
        self.folder = Path(target)
        self._parts: list[str] = []

    def read_state(self) -> dict[str, Any] | None:
        """See `VectorStore.read_state`."""
        path = self.folder / STATE_FILE
        if path.exists():
            try:
                kept = json.loads(path.read_bytes())
                self._parts = list(kept["parts"])
                state: dict[str, Any] = kept["state"]
            except (LookupError, TypeError, ValueError) as error:
                raise made_elsewhere(str(path)) from error
            return state
        if self.folder.exists() and any(self.folder.iterdir()):
            raise made_elsewhere(f"Something in {self.folder}")
        return None

    def drop(self) -> None:
        """See `VectorStore.drop`."""
        for entry in self.folder.iterdir():
            if entry.name != STATE_FILE:  # last: without it the folder is nobody's
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        (self.folder / STATE_FILE).unlink()
        self._parts = []

    def open(self, schema: Any, state: dict[str, Any]) -> None:  # noqa: ARG002 - each part has its schema
        """See `VectorStore.open`."""
        there = self.read_state()
        if there is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.write_state(state)
        elif there["progress"]["rows"] and there["progress"]["source"] != state["progress"]["source"]:
            raise OutputError(
                f"{self.folder} holds the rows of another input or version, and files have no rows that "
                "could be replaced by their ids.",
                remedy=RECREATE,
            )
        (self.folder / _PARTS).mkdir(exist_ok=True)
        for leftover in (self.folder / _PARTS).iterdir():
            if leftover.name not in self._parts:
                leftover.unlink()

    def upsert(self, batch: Any) -> None:
        """Write a part. Ids that were written before are not looked for."""
        arrow = self.arrow
        name = f"part-{len(self._parts):06d}.parquet"
        path = self.folder / _PARTS / f".{name}.tmp"
        with path.open("wb") as file:
            # Digits of vectors are as good as random: neither dictionaries nor compression find anything.
            arrow.parquet.write_table(
                arrow.Table.from_batches([batch]), file, compression="none", use_dictionary=False
            )
            file.flush()
            os.fsync(file.fileno())
        path.replace(path.with_name(name))
        sync_folder(path.parent)
        self._parts.append(name)

    def write_state(self, state: dict[str, Any]) -> None:
        """See `VectorStore.write_state`."""
        kept = {"state": state, "parts": self._parts}
        replace_durably(self.folder / STATE_FILE, json.dumps(kept, indent=1).encode())

    def finish(self) -> None:
        """Do nothing."""

    def count(self) -> int:
        """See `VectorStore.count`."""
        return sum(self.arrow.parquet.read_metadata(path).num_rows for path in self.part_paths())

    def part_paths(self) -> list[Path]:
        """The parts that count, in the order of the input."""
        self.read_state()
        return [self.folder / _PARTS / name for name in self._parts]

    def read_parts(self, columns: list[str] | None = None) -> Iterator[Any]:
        """The parts' tables, one in memory at a time."""
        for path in self.part_paths():
            yield self.arrow.parquet.read_table(path, columns=columns)

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Compare every row."""
        ids: list[Any] = []
        products = np.empty((len(queries), 0), np.float32)
        places = np.empty((len(queries), 0), np.int64)
        for table in self.read_parts([ID, VECTOR]):
            found = queries @ vectors_of(table).T
            products = np.concatenate([products, found], axis=1)
            places = np.concatenate(
                [places, np.broadcast_to(np.arange(len(ids), len(ids) + len(table)), found.shape)], axis=1
            )
            ids.extend(table[ID].to_pylist())
            best = np.argsort(-products, axis=1, kind="stable")[:, :k]
            products = np.take_along_axis(products, best, axis=1)
            places = np.take_along_axis(places, best, axis=1)
        return Found([[ids[place] for place in row] for row in places.tolist()], products.tolist())

    def close(self) -> None:
        """Do nothing."""


def vectors_of(table: Any) -> NDArray[np.float32]:
    """The vectors of a table as float32, shape (rows, dims)."""
    dims = table.schema.field(VECTOR).type.list_size
    flat = table[VECTOR].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat.reshape(-1, dims), np.float32)
