"""Answers one statement on a copy of the snapshot, in a process that can do nothing else, and ends.

    python -m serving.sql.process PARENT

The question comes on standard input, as JSON up to its end. The answer goes to standard output: a line of
JSON, `Found` or `Refused`, and after `Found` the body of the HTTP answer, so that the service need not read
it. `serving.sql.runner` kills the process at the deadline, whatever DuckDB is doing.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import duckdb
import msgspec
import pytz  # noqa: F401 - DuckDB imports it for a TIMESTAMP WITH TIME ZONE, too late for this process

from embup_core.errors import EmbupError, InputError
from embup_core.files.processes import end_with_parent, yield_to_others
from serving.jobs.storage.database import ONE_THREAD
from serving.sql.confinement import limit_resources, open_nothing_more
from serving.sql.reading import StatementMemoryError, check_reads, lock_down, plain, plain_errors

STANDARD_INPUT: Final = 0
STANDARD_OUTPUT: Final = 1
ROWS_AT_ONCE: Final = 500
MEBIBYTE: Final = 1 << 20
DUCKDB_SHARE: Final = 0.5  # of the memory; the rest is the interpreter's and what DuckDB does not count
# Needs what DuckDB imports only when it is first asked for such values.
WARM_UP: Final = (
    "SELECT now(), uuid(), 1.5, current_date, current_localtime(), INTERVAL 1 DAY, [1], 'x'::BLOB"
)
EXAMPLE: Final = '{"statement": "select * from batch_jobs"}'


class Question(msgspec.Struct, frozen=True):
    """What is asked.

    Attributes
    ----------
    statement
        In DuckDB's SQL.
    snapshot
        Path of the published database.
    memory_mb, deadline_s, max_rows, max_bytes
        What answering it may take, and how long the answer may be.
    """

    statement: str
    snapshot: str
    memory_mb: int
    deadline_s: float
    max_rows: int
    max_bytes: int


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The answer follows, of so many bytes."""

    body_bytes: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """There is no answer.

    Attributes
    ----------
    kind
        Of the problem.
    detail, remedy
        For the client.
    """

    kind: Literal["sql-statement", "sql-memory", "sql-snapshot"]
    detail: str
    remedy: str


class SnapshotError(EmbupError):
    """The snapshot cannot be had."""


def main() -> None:
    """Answer the question on standard input."""
    end_with_parent(int(sys.argv[1]))
    yield_to_others()
    asked = b""
    while part := os.read(STANDARD_INPUT, MEBIBYTE):
        asked += part
    question = msgspec.json.decode(asked, type=Question)
    body = b""
    reply: Found | Refused
    try:
        body = _answer(question)
        reply = Found(len(body))
    except (StatementMemoryError, MemoryError):
        reply = Refused(
            "sql-memory",
            f"The statement needs more than the {question.memory_mb} MB of memory that it may have.",
            "Ask for fewer rows or columns at a time.",
        )
    except SnapshotError as error:
        reply = Refused("sql-snapshot", error.message, error.remedy)
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        reply = Refused(
            "sql-statement",
            "A value of the answer cannot be written as JSON.",
            "Cast it to VARCHAR, or ask for a part of it.",
        )
    except InputError as error:
        reply = Refused("sql-statement", _without_paths(error.message, question.statement), error.remedy)
    _write(msgspec.json.encode(reply) + b"\n")
    _write(body)
    os._exit(0)  # what DuckDB would still tidy up is gone with the process


def _answer(question: Question) -> bytes:
    connection, published = _open(question)
    limit_resources(memory_bytes=question.memory_mb * MEBIBYTE, cpu_s=math.ceil(question.deadline_s) + 1)
    open_nothing_more()
    check_reads(connection, question.statement, pivots=False, example=EXAMPLE)
    memory_limit = f"{question.memory_mb}MB"
    with plain_errors(memory_limit):
        cursor = connection.execute(question.statement)
        columns = [{"name": name, "type": str(kind)} for name, kind, *_ in cursor.description or ()]
    rows: list[bytes] = []
    length, truncated = 0, False
    while not truncated:
        with plain_errors(memory_limit):
            block = cursor.fetchmany(ROWS_AT_ONCE)
        if not block:
            break
        for row in block:
            written = _json(plain(row))
            length += len(written) + 1
            if length > question.max_bytes or len(rows) == question.max_rows:
                truncated = True
                break
            rows.append(written)
    if truncated and not rows:
        raise InputError(
            f"The first row alone has more than the {question.max_bytes} bytes that an answer may have.",
            remedy="Ask for fewer columns, or for a part of each value.",
        )
    age_s = max((datetime.now(UTC) - published).total_seconds(), 0)
    return b'{"columns":%b,"rows":[%b],"truncated":%b,"published_at":%b,"snapshot_age_s":%b}' % (
        _json(columns),
        b",".join(rows),
        _json(truncated),
        _json(published.isoformat().replace("+00:00", "Z")),
        _json(round(age_s, 3)),
    )


def _open(question: Question) -> tuple[duckdb.DuckDBPyConnection, datetime]:
    """Open a private copy of the snapshot, which has no name any more, and lock the connection down.

    DuckDB shows the path of a database to any statement; the copy's reveals nothing of the service.
    """
    limit = f"{int(question.memory_mb * DUCKDB_SHARE)}MB"
    connection = duckdb.connect(":memory:", config={**ONE_THREAD, "memory_limit": limit})
    # DuckDB 2.0.1 follows links to the real path, so neither a memfd nor /proc/self/fd can be attached.
    with TemporaryDirectory(prefix="embup-sql-") as folder:
        copy = Path(folder) / "history.duckdb"
        published = _copy(question, copy)
        try:
            connection.execute(f"ATTACH '{copy}' AS history (READ_ONLY)")
        except duckdb.Error as error:
            raise SnapshotError(
                "The published history cannot be opened.",
                remedy="The service publishes it anew when it starts and when a batch changes.",
            ) from error
    os.chdir("/")
    connection.execute("USE history")
    lock_down(connection, memory_limit=limit)
    connection.execute(WARM_UP).fetchall()
    return connection, published


def _copy(question: Question, copy: Path) -> datetime:
    """Copy the snapshot; return when it was published."""
    try:
        source = os.open(question.snapshot, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise SnapshotError(
            "The history is not published yet.", remedy="The service publishes it as soon as it runs."
        ) from error
    with open(source, "rb") as opened:  # noqa: PTH123 - a descriptor
        found = os.fstat(source)
        if found.st_size > question.memory_mb * MEBIBYTE:
            raise SnapshotError(
                f"The history has {found.st_size} bytes, more than a statement's memory.",
                remedy="Raise EMBUP_SQL_MEMORY_MB, or ask with embup sql on the service's machine.",
            )
        try:
            with copy.open("xb") as target:
                shutil.copyfileobj(opened, target, MEBIBYTE)
        except OSError as error:
            raise SnapshotError(
                f"The history cannot be copied: {error.strerror}.",
                remedy="Free space in the temporary folder of the service's machine.",
            ) from error
    return datetime.fromtimestamp(found.st_mtime, UTC)


def _without_paths(message: str, statement: str) -> str:
    """Leave out the paths that DuckDB speaks of and the statement did not, and anything of Python's."""
    message = message.partition("Traceback")[0].rstrip()
    words = message.split('"')
    for i in range(1, len(words), 2):
        if "/" in words[i] and words[i] not in statement:
            words[i] = "…"
    return '"'.join(words)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _write(content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(STANDARD_OUTPUT, rest) :]


if __name__ == "__main__":
    main()
