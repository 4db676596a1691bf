"""DuckDB files that appear whole or not at all: written under another name, closed, flushed, renamed."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import duckdb

from debugger.store.schema import definition, quoted
from embup_core.errors import OutputError
from embup_core.files.atomic import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from debugger.store.schema import Table

NEW: Final = ".new"
CONFIG: Final[Mapping[str, Any]] = {
    "threads": 1,  # the second core belongs to requests
    "memory_limit": "512MB",
    "preserve_insertion_order": "true",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


@contextmanager
def new_database(path: Path, tables: Sequence[Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Make a database; it gets its name when the block ends without an error.

    Parameters
    ----------
    path
        The file. One that is there is replaced in one step; who has it open keeps reading the old one.
    tables
        What is in it.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    new = path.with_name(f".{path.name}{NEW}")
    _remove(new)
    try:
        connection = duckdb.connect(str(new), config={**CONFIG})
        try:
            for table in tables:
                connection.execute(definition(table))
                connection.execute(f'COMMENT ON TABLE "{table.name}" IS {quoted(table.meaning)}')
                for column in table.columns:
                    meaning = quoted(column.meaning)
                    connection.execute(f'COMMENT ON COLUMN "{table.name}"."{column.name}" IS {meaning}')
            yield connection
            connection.execute("CHECKPOINT")
        finally:
            connection.close()
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
        sync_folder(path.parent)
    except (duckdb.IOException, duckdb.FatalException, duckdb.OutOfMemoryException, OSError) as error:
        _remove(new)
        reason = str(error).partition("\n")[0].rstrip(".")
        raise OutputError(
            f"{path} cannot be written: {reason}.", remedy="Check that its disk has space and can be written."
        ) from error
    except BaseException:
        _remove(new)
        raise


def _remove(new: Path) -> None:
    for leftover in (new, new.with_name(new.name + ".wal")):
        with suppress(OSError):
            leftover.unlink(missing_ok=True)
    shutil.rmtree(new.with_name(new.name + ".tmp"), ignore_errors=True)


def insert(connection: duckdb.DuckDBPyConnection, table: Table, columns: Mapping[str, Any]) -> None:
    """Add rows, given as columns by name: Arrow or NumPy arrays, or lists, of one length."""
    import pyarrow as pa

    connection.register("block", pa.table(dict(columns)))
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    connection.execute(f'INSERT INTO "{table.name}" SELECT {names} FROM block')  # noqa: S608 - our own names
    connection.unregister("block")
