"""What an export needs of a store, and what is kept in the store about the rows that it holds.

A store is given Arrow batches of the columns `id`, `vector`, `confidence` and the payload's. Beside them it
keeps one JSON object, the state: which basis the rows have, and how far an export has come. Rows are made
durable first, then the state that counts them; rows that a killed export wrote without counting them are
written again, under the same ids.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, get_args

from embup_core.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ID, VECTOR, CONFIDENCE = "id", "vector", "confidence"
OWN_COLUMNS: Final = (ID, VECTOR, CONFIDENCE)
STATE_FORMAT: Final = 1

Dtype = Literal["float32", "float16"]
IndexKind = Literal["exact", "hnsw"]
"""How a store searches: each vector compared, or a graph of neighbours (Malkov & Yashunin, 2018)."""

RECREATE: Final = "Export to another collection or folder, or replace this one with --recreate."


def made_elsewhere(what: str) -> OutputError:
    """The error for a collection that no export made."""
    return OutputError(
        f"{what} is there, and no export made it: it is left alone.",
        remedy="Export to another collection or folder.",
    )


@dataclass(frozen=True, slots=True)
class Space:
    """What vectors must share to be compared.

    Attributes
    ----------
    basis
        "decoded" or "original".
    basis_id
        The basis of the decoder; of one that has none, its version.
    part
        "all" dimensions, the "leading" ones, or the "mean": the regression without the complement.
    dims
        Numbers of a vector.
    output_dims
        Of a whole decoded row.
    dtype
        Of the stored numbers.
    """

    basis: str
    basis_id: str
    part: str
    dims: int
    output_dims: int
    dtype: Dtype


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export has come.

    Attributes
    ----------
    source
        What is exported: fingerprints of the input and of the payload's file, columns, version. JSON values.
    rows
        Input rows that are durable in the store, those left out included.
    offset
        Where the next row starts in the input, in its reader's own measure.
    left_out
        Input rows that could not be decoded, and are not in the store.
    complete
        Whether nothing is left to do.
    """

    source: dict[str, Any]
    rows: int = 0
    offset: int = 0
    left_out: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What a collection says of itself.

    Attributes
    ----------
    space
        Of all its vectors.
    model_versions
        Of the decoders that made them, the latest last.
    index
        How it is searched.
    columns
        Arrow's type of each column, by its name.
    progress
        Of the latest export.
    """

    space: Space
    model_versions: tuple[str, ...]
    index: IndexKind
    columns: dict[str, str]
    progress: Progress

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"format": STATE_FORMAT, **asdict(self), "model_versions": list(self.model_versions)}

    @classmethod
    def from_json(cls, values: Any, *, where: str) -> Self:
        """What `to_json` described.

        Parameters
        ----------
        values
            As they were stored.
        where
            The collection, for messages.

        Raises
        ------
        OutputError
            They are nothing that this version wrote.
        """
        try:
            if values["format"] != STATE_FORMAT or values["index"] not in get_args(IndexKind):
                raise ValueError(f"format {values['format']}, index {values['index']}")
            return cls(
                Space(**values["space"]),
                tuple(values["model_versions"]),
                values["index"],
                dict(values["columns"]),
                Progress(**values["progress"]),
            )
        except (LookupError, TypeError, ValueError) as error:
            raise OutputError(
                f"{where}: expected what an export keeps about a collection, in format {STATE_FORMAT}, found "
                f"something else ({type(error).__name__}: {str(error)[:200]}).",
                remedy=RECREATE,
            ) from error

    def continued(self, wanted: State, *, where: str) -> State:
        """The state with which an export goes on, given what is there (self) and what is asked for.

        Raises
        ------
        OutputError
            The rows that are there cannot be compared with those that are to come.
        """
        there, asked = (
            asdict(one.space) | {"index": one.index, "columns": one.columns} for one in (self, wanted)
        )
        if there != asked:
            differing = [name for name in there if there[name] != asked[name]]
            raise OutputError(
                f"{where} holds vectors of another kind: expected "
                f"{', '.join(f'{name} {asked[name]}' for name in differing)}; found "
                f"{', '.join(f'{name} {there[name]}' for name in differing)}. They cannot be mixed.",
                remedy=RECREATE,
                code="basis_conflict",
            )
        if self.progress.source == wanted.progress.source:
            return self
        version = wanted.model_versions[-1]
        others = tuple(name for name in self.model_versions if name != version)
        return replace(wanted, model_versions=(*others, version))


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes
    ----------
    ids
        Of each query's nearest rows, the nearest first.
    products
        Their scalar products with the query, which are cosines where both are unit vectors.
    """

    ids: list[list[Any]]
    products: list[list[float]]


class VectorStore(Protocol):
    """One collection of one store.

    Attributes
    ----------
    errors
        What the store's own package raises where it cannot do what it is asked for.
    """

    errors: tuple[type[Exception], ...]

    def read_state(self) -> dict[str, Any] | None:
        """Return what `write_state` kept; None where there is no such collection.

        Raises
        ------
        OutputError
            There is one that no export made.
        """

    def drop(self) -> None:
        """Remove the collection and its state. Callers ask `read_state` first, which refuses all others."""

    def open(self, schema: Any, state: dict[str, Any]) -> None:
        """Open the collection to write batches of this Arrow schema; make it where it is missing.

        The state is there before the collection is: what a kill leaves is known as an export's.
        """

    def upsert(self, batch: Any) -> None:
        """Write a batch of rows; one with an id that is there replaces it."""

    def write_state(self, state: dict[str, Any]) -> None:
        """Make all rows durable, then the state."""

    def finish(self) -> None:
        """Build what the store searches with, after the last row. Idempotent."""

    def count(self) -> int:
        """Return how many rows there are."""

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Find the rows of largest scalar products with each query, as the store searches by default.

        Parameters
        ----------
        queries
            float32, shape (q, dims).
        k
            How many.
        """

    def close(self) -> None:
        """Release it. Idempotent."""
