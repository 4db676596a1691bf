"""One data set, open for reading: all its tables in one DuckDB connection that can do nothing else.

Databases are attached read-only, and no process writes into one that has its name. So any number of readers
work while an import, a run or a review is under way; what they see is as of the moment they opened it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import duckdb

from debugger.reviews import Review, decisions, read_reviews
from debugger.store.database import CONFIG
from debugger.store.names import DatasetFolder, find_dataset
from debugger.store.schema import (
    DECISIONS,
    OF_ANALYSIS,
    OF_DATASET,
    OF_PREDICTIONS,
    REVIEWS,
    SCHEMA_VERSION,
    Table,
    definition,
    quoted,
)
from embup_core.errors import EmbupError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

_LOCKED: Final = (
    "SET temp_directory = ''",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


class BrokenDatasetError(EmbupError):
    """A file of a data set cannot be opened or read."""


@dataclass(frozen=True)
class OpenDataset:
    """A data set that is open for reading.

    Attributes
    ----------
    folder
        Its files.
    connection
        DuckDB with the tables of `debugger.store.schema`; those of an analysis are empty before the first
        run. One thread at a time.
    version
        The analysis; None before the first run.
    described
        The row of the table ``dataset``, JSON parsed.
    reviews
        All reviews.
    decisions
        The reviews that hold, by row.
    remembered
        What `once` keeps.
    """

    folder: DatasetFolder
    connection: duckdb.DuckDBPyConnection
    version: int | None
    described: dict[str, Any]
    reviews: Sequence[Review]
    decisions: dict[int, Review]
    remembered: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Hashable, ask: Callable[[], T]) -> T:
        """What `ask` answers, asked once: what is open does not change. Callers share it."""
        if key not in self.remembered:
            self.remembered[key] = ask()
        answer: T = self.remembered[key]
        return answer

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.folder.name

    def query(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[dict[str, Any]]:
        """Rows of a statement of our own, as values by column.

        Raises
        ------
        BrokenDatasetError
            The files are damaged, or the answer needs more memory than a reader may take.
        """
        with self.reading() as connection:
            found = connection.execute(statement, parameters or None)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give the connection; an error of the database in the block becomes a `BrokenDatasetError`."""
        try:
            yield self.connection
        except duckdb.Error as error:
            raise _unread(self.folder.path, error) from error

    def asked_sources(self) -> list[str]:
        """Names of the classifiers that were asked."""
        found = self.query("SELECT DISTINCT source FROM asked_predictions ORDER BY source")
        return [row["source"] for row in found]

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.query(f'SELECT count(*) AS n FROM "{table}"')[0]["n"])  # noqa: S608 - our own names


@contextmanager
def open_dataset(data: Path, name: str, *, version: int | None = None) -> Iterator[OpenDataset]:
    """Open a data set for reading.

    Parameters
    ----------
    data
        The data folder.
    name
        Of the data set.
    version
        Which analysis; None takes the newest.

    Raises
    ------
    InputError
        There is no such data set, or no such version of its analysis.
    BrokenDatasetError
        A file is damaged, or written by another version of embup.
    """
    folder = find_dataset(data, name)
    chosen = chosen_version(folder, version)
    connection = duckdb.connect(":memory:", config={**CONFIG})
    try:
        _attach(connection, folder.dataset, OF_DATASET, "imported")
        asked = folder.predictions if folder.predictions.exists() else None
        _attach(connection, asked, OF_PREDICTIONS, "asked", predictions="asked_predictions")
        analysed = None if chosen is None else folder.analysis(chosen)
        _attach(connection, analysed, OF_ANALYSIS, "analysed", predictions="own_predictions")
        connection.execute(
            "CREATE VIEW predictions AS FROM asked_predictions UNION ALL BY NAME FROM own_predictions"
        )
        reviews = list(read_reviews(folder))
        held = decisions(reviews)
        _fill(connection, REVIEWS, reviews)
        _fill(connection, DECISIONS, held.values())
        for statement in _LOCKED:
            connection.execute(statement)
        opened = OpenDataset(folder, connection, chosen, {}, reviews, held)
        described = opened.query("SELECT * FROM dataset")[0]
        if described["schema_version"] != SCHEMA_VERSION:
            raise BrokenDatasetError(
                f"{folder.dataset} has schema version {described['schema_version']}, "
                f"expected {SCHEMA_VERSION}.",
                remedy="Open it with the version of embup that imported it, or import it again.",
            )
        parsed = {**described, **{key: json.loads(described[key]) for key in ("fields", "vectors")}}
        yield OpenDataset(folder, connection, chosen, parsed, reviews, held)
    finally:
        connection.close()


def chosen_version(folder: DatasetFolder, version: int | None) -> int | None:
    """The version that is meant: the newest by default, None where there is none.

    Raises
    ------
    InputError
        There is no such version.
    """
    there = folder.versions()
    if version is None:
        return there[-1] if there else None
    if version not in there:
        listed = ", ".join(map(str, there)) or "none yet"
        raise InputError(
            f"There is no analysis {version} of {folder.name}.",
            remedy=f"There are: {listed}. `embup debug run {folder.name}` makes one.",
        )
    return version


def _attach(
    connection: duckdb.DuckDBPyConnection,
    path: Path | None,
    tables: Iterable[Table],
    alias: str,
    *,
    predictions: str = "",
) -> None:
    """Make views of a file's tables, or empty tables; that of predictions has the name `predictions`."""
    try:
        if path is not None:
            connection.execute(f"ATTACH {quoted(path)} AS {alias} (READ_ONLY)")
        for table in tables:
            name = predictions if table.name == "predictions" else table.name
            if path is None:
                connection.execute(definition(table._replace(name=name)))
            else:
                connection.execute(f'CREATE VIEW "{name}" AS FROM {alias}."{table.name}"')
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise BrokenDatasetError(
            f"{path} cannot be opened: {reason}.",
            remedy="Restore it from a copy; an analysis can be made again with `embup debug run`.",
        ) from error


def _unread(path: Path, error: duckdb.Error) -> BrokenDatasetError:
    reason = str(error).partition("\n")[0].rstrip(".")
    return BrokenDatasetError(
        f"{path} cannot be read: {reason}.",
        remedy="Ask for fewer rows at once."
        if isinstance(error, duckdb.OutOfMemoryException)
        else "Restore it from a copy; an analysis can be made again with `embup debug run`.",
    )


def _fill(connection: duckdb.DuckDBPyConnection, table: Table, reviews: Iterable[Review]) -> None:
    connection.execute(definition(table))
    listed = list(reviews)
    if not listed:
        return
    import pyarrow as pa

    kinds = {"seq": pa.int64(), "row": pa.int64(), "version": pa.int32()}
    block = pa.table(
        {
            column.name: pa.array(
                [getattr(review, column.name) for review in listed], kinds.get(column.name, pa.string())
            )
            for column in table.columns
        }
    )
    connection.register("block", block)
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    connection.execute(f'INSERT INTO "{table.name}" SELECT {names} FROM block')  # noqa: S608 - our own names
    connection.unregister("block")
