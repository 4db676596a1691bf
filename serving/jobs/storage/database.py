"""The job database as a file: its tables, how it is made and opened. No job is read or written here.

The file is made under another name and renamed when it is whole: a kill during the first writes of a new
database leaves a file that never opens again.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

import duckdb

from embup_core.errors import JobError
from embup_core.files.atomic import sync_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The statements are tiny, and the second core belongs to requests. Threads that DuckDB starts for reading
# files keep what they freed, each its own.
ONE_THREAD: Final[Mapping[str, int]] = {"threads": 1, "async_threads": 0}
CHECKPOINT_THRESHOLD = "512KB"  # of log; until then DuckDB holds what is in the log in memory too
SCHEMA_VERSION = 3
SCHEMA = """
CREATE TABLE batch_jobs (
    batch_request_id VARCHAR PRIMARY KEY,
    sequence BIGINT NOT NULL,
    phase VARCHAR NOT NULL,
    input_filepath VARCHAR NOT NULL,
    output_filepath VARCHAR NOT NULL,
    on_bad_row VARCHAR NOT NULL,
    overwrite BOOLEAN NOT NULL,
    max_bad_rows DOUBLE,
    basis VARCHAR NOT NULL,
    num_records_processed BIGINT NOT NULL,
    failed_rows BIGINT NOT NULL,
    bytes_done BIGINT NOT NULL,
    bytes_total BIGINT NOT NULL,
    paused_s DOUBLE NOT NULL,
    pause_count BIGINT NOT NULL,
    running_s DOUBLE NOT NULL,
    attempts BIGINT NOT NULL,
    worker_deaths BIGINT NOT NULL,
    cancel_requested BOOLEAN NOT NULL,
    model_version VARCHAR,
    submitted_at TIMESTAMP NOT NULL,
    started_at TIMESTAMP,
    updated_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    error VARCHAR,
    error_code VARCHAR,
    error_line BIGINT,
    error_remedy VARCHAR,
    idempotency_key VARCHAR,
    request_digest VARCHAR NOT NULL,
    checkpoint VARCHAR
);
CREATE TABLE batch_events (
    event_id BIGINT NOT NULL,
    batch_request_id VARCHAR NOT NULL,
    occurred_at TIMESTAMP NOT NULL,
    kind VARCHAR NOT NULL,
    phase VARCHAR NOT NULL,
    num_records_processed BIGINT NOT NULL,
    message VARCHAR NOT NULL
);
CREATE TABLE schema_version (version INTEGER NOT NULL);
"""

# From the version that is the key to the one after. What a checkpoint of version 1 says is not known to this
# one: an unfinished batch begins anew.
MIGRATIONS = {
    1: """
ALTER TABLE batch_jobs ADD COLUMN max_bad_rows DOUBLE;
ALTER TABLE batch_jobs ADD COLUMN worker_deaths BIGINT DEFAULT 0;
ALTER TABLE batch_jobs ADD COLUMN error_code VARCHAR;
UPDATE batch_jobs SET checkpoint = NULL, num_records_processed = 0, failed_rows = 0, bytes_done = 0
    WHERE finished_at IS NULL;
UPDATE batch_jobs SET error_code = CASE WHEN phase = 'CANCELLED' THEN 'cancelled'
    WHEN error_line IS NOT NULL THEN 'bad_row' ELSE 'internal' END
    WHERE phase IN ('FAILED', 'CANCELLED');
UPDATE schema_version SET version = 2;
""",
    2: """
ALTER TABLE batch_jobs ADD COLUMN basis VARCHAR DEFAULT 'decoded';
UPDATE schema_version SET version = 3;
""",
}


def lock_database(path: Path) -> int:
    """Keep other services from the database at a path, until the descriptor that this returns is closed.

    DuckDB's own lock is not enough: the kernel drops it as soon as this process closes any other descriptor
    of the file. This one is of a file beside it and goes with its own descriptor only.

    Raises
    ------
    JobError
        Another process holds the lock, or the folder cannot be written.
    """
    lock = path.with_name("lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise JobError(
            f"The job database {path} cannot be opened: {error}.",
            remedy="Check that the folder exists and that this user may write to it.",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JobError(
            f"The job database {path} is held by another process: {lock} is locked.",
            remedy="Stop the other service, or give this one a data folder of its own.",
        ) from error
    return descriptor


def open_database(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the database at a path, making it and its folder where there is none.

    Raises
    ------
    JobError
        Another process holds the file, or it is no job database of this version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _create(path)
    connection = _connect(path)
    try:
        _check_version(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    try:
        found = connection.execute("SELECT version FROM schema_version").fetchall()
    except duckdb.Error as error:
        raise JobError(
            f"{path} is not a job database of embup: {error}.",
            remedy="Move the file away; the service then starts with an empty one.",
        ) from error
    while len(found) == 1 and found[0][0] in MIGRATIONS:
        _migrate(path, connection, found[0][0])
        found = [(found[0][0] + 1,)]
    if found != [(SCHEMA_VERSION,)]:
        raise JobError(
            f"{path} has the schema version {found[0][0] if found else 'none'}, expected {SCHEMA_VERSION}.",
            remedy="Start the version of embup that wrote it, or move the file away.",
        )


def _migrate(path: Path, connection: duckdb.DuckDBPyConnection, version: int) -> None:
    try:
        connection.execute(f"BEGIN; {MIGRATIONS[version]} COMMIT")
    except duckdb.Error as error:
        raise JobError(
            f"{path} of schema version {version} cannot be brought to version {version + 1}: {error}.",
            remedy="Free space on its disk and start again, or move the file away.",
        ) from error


def _create(path: Path) -> None:
    new = path.with_name(path.name + ".new")
    for leftover in (new, new.with_name(new.name + ".wal")):
        leftover.unlink(missing_ok=True)
    connection = _connect(new)
    try:
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO schema_version VALUES (?)", [SCHEMA_VERSION])
        connection.execute("CHECKPOINT")
    finally:
        connection.close()
    new.rename(path)
    sync_folder(path.parent)


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(path), config={**ONE_THREAD, "checkpoint_threshold": CHECKPOINT_THRESHOLD})
    except duckdb.IOException as error:
        if "lock" not in str(error).lower():
            raise JobError(
                f"The job database {path} cannot be opened: {error}.",
                remedy="Check that the folder exists and that this user may write to it.",
            ) from error
        raise JobError(
            f"The job database {path} is held by another process: {error}.",
            remedy="Stop the other service, or give this one a data folder of its own.",
        ) from error
    except duckdb.Error as error:
        raise JobError(
            f"The job database {path} cannot be opened: {error}.",
            remedy="Move the file away; the service then starts with an empty one.",
        ) from error
