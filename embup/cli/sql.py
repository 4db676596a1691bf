"""`embup sql`: one read-only statement on the published history of batches."""

import shutil
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from embup.cli import options
from embup.cli.output import say
from embup_core.errors import InputError, InputFileError
from embup_core.extras import extra_required
from serving.sql.reading import check_reads, lock_down, plain, plain_errors, said, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

MEMORY_LIMIT = "1GB"
MAX_ROWS = 1_000_000  # held at once, to align a table or to close an array
ROWS_AT_ONCE = 10_000
LISTING = """
SELECT columns.table_name AS "table", tables.comment AS contents, column_name AS "column", data_type AS type,
       columns.comment AS meaning
FROM duckdb_columns() AS columns JOIN duckdb_tables() AS tables USING (table_oid)
WHERE NOT tables.internal
ORDER BY columns.table_name DESC, column_index
"""


@extra_required("serve")
def sql(
    statement: Annotated[
        str | None,
        typer.Argument(metavar="SELECT", help="One statement that reads; - takes it from standard input."),
    ] = None,
    *,
    data: options.Data = options.DATA,
    json: Annotated[bool, typer.Option("--json", help="Print one array of objects.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
) -> None:
    """Ask the history of batches in SQL.

    The tables are batch_jobs and batch_events. Without a statement, their columns are listed with what they
    mean. Times are UTC. What is asked is the snapshot that the service publishes; the last line says how old
    it is. A table that is wider than the terminal is printed as one block a row.
    """
    if json and csv:
        raise typer.BadParameter("--json and --csv exclude each other.")
    with _snapshot(data / "history" / "history.duckdb") as snapshot:
        if statement is None:
            found = snapshot.execute(LISTING)
        else:
            found = snapshot.ask(sys.stdin.read() if statement == "-" else statement)
        if csv:
            _print_csv(found)
        elif json:
            _print_json(found)
        elif statement is None:
            _print_listing(found)
        else:
            _print_table(found)
        sys.stdout.flush()
        say(snapshot.age())


class _Answer(NamedTuple):
    """What a statement found; the rows come as they are asked for."""

    columns: "Sequence[str]"
    blocks: "Iterator[list[tuple[Any, ...]]]"

    def rows(self) -> "list[tuple[Any, ...]]":
        """All rows."""
        found: list[tuple[Any, ...]] = []
        for block in self.blocks:
            found += block
            if len(found) > MAX_ROWS:
                raise InputError(
                    f"The answer has more than {MAX_ROWS:,} rows.",
                    remedy="Add a limit, or print it with --csv, which has none.",
                )
        return found


class _Snapshot:
    """The opened file, which no statement can write to or leave."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", published: datetime) -> None:
        self._connection = connection
        self._published = published

    def age(self) -> str:
        seconds = max((datetime.now(UTC) - self._published).total_seconds(), 0)
        return f"snapshot of {self._published:%Y-%m-%d %H:%M:%S} UTC, {_duration(seconds)} old"

    def ask(self, statement: str) -> _Answer:
        """Run one statement that reads.

        Raises
        ------
        InputError
            It is none, it would change something, or DuckDB refuses it.
        """
        check_reads(self._connection, statement, pivots=True, example='embup sql "select * from batch_jobs"')
        return self.execute(statement)

    def execute(self, statement: str) -> _Answer:
        """Run a statement."""
        from concurrent.futures import ThreadPoolExecutor

        # In a thread, because DuckDB hears no Ctrl-C; we do, and tell it.
        with ThreadPoolExecutor(1) as thread, plain_errors(MEMORY_LIMIT):
            running = thread.submit(self._connection.execute, statement)
            try:
                cursor = running.result()
            except KeyboardInterrupt:
                self._connection.interrupt()
                raise
        return _Answer([column[0] for column in cursor.description or ()], self._blocks(cursor))

    @staticmethod
    def _blocks(cursor: "duckdb.DuckDBPyConnection") -> "Iterator[list[tuple[Any, ...]]]":
        while True:
            with plain_errors(MEMORY_LIMIT):
                block = cursor.fetchmany(ROWS_AT_ONCE)
            if not block:
                return
            yield block


@contextmanager
def _snapshot(path: Path) -> "Iterator[_Snapshot]":
    import duckdb

    try:
        published = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError as error:
        raise InputFileError(
            f"Expected the published history {path}, found none.",
            remedy="A service publishes it as soon as it runs; name that service's data folder with --data.",
        ) from error
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise InputFileError(
            f"{path} cannot be opened: {said(error)}",
            remedy="The service publishes it anew when it starts and when a batch changes.",
        ) from error
    with connection:
        lock_down(connection, memory_limit=MEMORY_LIMIT)
        yield _Snapshot(connection, published)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _print_listing(found: _Answer) -> None:
    rows = found.rows()
    name_width = max(len(row[2]) for row in rows)
    type_width = max(len(row[3]) for row in rows)
    table = None
    for row in rows:
        if row[0] != table:
            print(("" if table is None else "\n") + f"{row[0]}: {row[1] or ''}".rstrip(": "))
            table = row[0]
        print(f"  {row[2]:{name_width}}  {row[3]:{type_width}}  {row[4] or ''}".rstrip())


def _print_csv(found: _Answer) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(found.columns)
    for block in found.blocks:
        writer.writerows([["" if value is None else text(value) for value in row] for row in block])


def _print_json(found: _Answer) -> None:
    import json

    twice = {name for name in found.columns if list(found.columns).count(name) > 1}
    if twice:
        raise InputError(
            f"Two columns are called {min(twice)!r}, and an object has only one of a name.",
            remedy="Give one of them another name with AS.",
        )
    rows = [dict(zip(found.columns, map(plain, row), strict=True)) for row in found.rows()]
    print(json.dumps(rows, indent=2, ensure_ascii=False))


def _print_table(found: _Answer) -> None:
    from rich.cells import cell_len

    rows = found.rows()
    cells = [[_visible(text(value)) for value in row] for row in rows]
    names = [_visible(name) for name in found.columns]
    widths = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    right = [_is_numeric(column) for column in zip(*rows, strict=True)] or [False] * len(names)
    if sys.stdout.isatty() and sum(widths) + 2 * len(widths) - 2 > shutil.get_terminal_size().columns:
        _print_blocks(names, cells)
    else:
        for row in (names, *cells):
            padded = [
                " " * (width - cell_len(cell)) + cell if to_right else cell + " " * (width - cell_len(cell))
                for cell, width, to_right in zip(row, widths, right, strict=True)
            ]
            print("  ".join(padded).rstrip())
    print(f"({len(rows):,} {'row' if len(rows) == 1 else 'rows'})")


def _print_blocks(names: "Sequence[str]", cells: "Sequence[Sequence[str]]") -> None:
    width = max(map(len, names))
    for number, row in enumerate(cells, 1):
        print(f"-- row {number} --")
        for name, cell in zip(names, row, strict=True):
            print(f"{name:<{width}}  {cell}")


def _is_numeric(values: "Sequence[object]") -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in present
    )


def _visible(text: str) -> str:
    """On one line, and without characters that steer a terminal: paths and messages come from anybody."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
