"""Statements on the published history: which are let in, what they cannot reach, what their values become.

`embup sql` and the process behind `POST /v1/sql` share it. DuckDB is imported only once it is asked.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import duckdb

LOCKED: Final[Mapping[str, str]] = {
    "TimeZone": "UTC",  # now() and current_date agree with the columns
    "temp_directory": "",
    "python_enable_replacements": "false",  # a table's name never means one of our variables
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "enable_external_access": "false",
    "lock_configuration": "true",  # the last: nothing can be set after it
}


class StatementMemoryError(InputError):
    """A statement needs more memory than it may have."""


def lock_down(connection: duckdb.DuckDBPyConnection, *, memory_limit: str) -> None:
    """Take from a connection everything but what is open already; no statement can give it back.

    Parameters
    ----------
    connection
        With the snapshot open, read-only.
    memory_limit
        As DuckDB writes it, such as `1GB`.
    """
    for setting, value in {"memory_limit": memory_limit, **LOCKED}.items():
        connection.execute(f"SET {setting} = '{value}'")


def check_reads(connection: duckdb.DuckDBPyConnection, statement: str, *, pivots: bool, example: str) -> None:
    """Refuse what is not one statement that reads.

    Parameters
    ----------
    connection
        Parses it.
    statement
        In DuckDB's SQL.
    pivots
        Whether it may be a PIVOT that finds its columns itself, which DuckDB runs as several statements.
    example
        A statement to suggest when none was sent.

    Raises
    ------
    InputError
        It is none, several, no SQL, or of another kind.
    """
    from duckdb import StatementType

    reading = {StatementType.SELECT}  # so are FROM, VALUES, SHOW, DESCRIBE and SUMMARIZE
    if pivots:
        reading.add(StatementType.MULTI)
    with plain_errors():
        parts = connection.extract_statements(statement)
    if len(parts) != 1:
        raise InputError(
            f"Expected one statement, found {len(parts) or 'none'}.",
            remedy="Run them one by one." if parts else f"Such as: {example}",
        )
    try:
        kind = parts[0].type
    except ValueError:  # newer than the client's names
        raise InputError("Expected a statement that reads (SELECT, FROM, DESCRIBE).") from None
    if kind is StatementType.MULTI and not pivots:
        raise InputError(
            "Expected one SELECT, found a PIVOT that has to look for its columns first.",
            remedy="Name them: PIVOT … ON column IN (…).",
        )
    if kind not in reading:
        raise InputError(
            f"Expected a statement that reads (SELECT, FROM, DESCRIBE), found {kind.name}.",
            remedy="This is a copy of the service's history: it can be asked, not changed.",
        )


@contextmanager
def plain_errors(memory_limit: str = "") -> Iterator[None]:
    """Turn DuckDB's errors into ours, in its own words: they point at the place in the statement."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise StatementMemoryError(
            f"The statement needs more than {memory_limit} of memory.",
            remedy="Ask for fewer rows or columns, or query the Parquet files with a client of your own.",
        ) from error
    except duckdb.Error as error:
        raise InputError(said(error)) from error


def said(error: duckdb.Error) -> str:
    """Give DuckDB's own words."""
    return str(error).rstrip()


def text(value: object) -> str:
    """Write one value for people and for CSV."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list | tuple):
        import json

        return json.dumps(plain(value), ensure_ascii=False)
    return str(value)


def plain(value: object) -> object:
    """Give one value as JSON has it; what it cannot say becomes null or text."""
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time_of_day):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if value is None or isinstance(value, bool | int | str) else text(value)
