"""Hostile statements on the real service: nothing read or written, no deadline or limit outlived.

Every second one of each kind; all of them where EMBUP_CRASH_SCALE is full (`make test-crash`).
"""

from __future__ import annotations

import os
import site
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import duckdb
import pytest

from tests.serving.asking import ask, is_alive, published, statement_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embup_core.artifacts.registry import Registry

SECRET = "7c1f-nobody-may-read-this"
MEMORY_MB = 1024
DEADLINE_S = 2.0
SLACK_S = 8.0  # a busy machine; the process is killed within milliseconds
LATEST_PING_S = 5.0

# {secret} is a file of one line, {database} a DuckDB file with it, {jobs} the service's own database,
# {folder} a folder, {new} a path at which nothing lies.
READS_FILES = [
    "select * from read_text('{secret}')",
    "select * from read_text('{new}')",
    "select * from read_blob('{secret}')",
    "select * from read_csv('{secret}', header = false)",
    "select * from read_csv_auto('{secret}')",
    "select * from read_json('{secret}')",
    "select * from read_json_auto('{secret}')",
    "select * from read_json_objects('{secret}')",
    "select * from read_ndjson_objects('{secret}')",
    "select * from read_parquet('{secret}')",
    "select * from parquet_metadata('{folder}/*.parquet')",
    "select * from parquet_schema('{secret}')",
    "select * from sniff_csv('{secret}')",
    "select * from glob('{folder}/*')",
    "select * from glob('/etc/*')",
    "select * from glob('*')",
    "from '{secret}'",
    "from '{folder}/*.csv'",
    "from '/etc/passwd'",
    "from 'etc/passwd'",
    "select * from read_text('/proc/self/environ')",
    "select * from read_blob('/proc/self/mem')",
    "select * from read_blob('/dev/zero')",
    "select * from read_text('file://{secret}')",
    "select * from read_duckdb('{database}')",
    "select * from read_duckdb('{jobs}')",
    "select * from '{database}'",
    "select * from read_blob('/proc/self/fd/4')",
    "with x as (select * from read_text('{secret}')) select * from x",
    "select (select content from read_text('{secret}'))",
    "select * from query('select * from read_text(''{secret}'')')",
    "select * from query_table('{secret}')",
    "select * from json_execute_serialized_sql(json_serialize_sql('from read_text(''{secret}'')'))",
    "select getenv('EMBUP_TEST_SECRET')",
    "select 1 where exists (from read_csv('{secret}'))",
    "select * from duckdb_secrets()",
    "select * from duckdb_extensions()",
]
REACHES_OUT = [
    "select * from read_csv('http://127.0.0.1:{port}/health/live')",
    "from 'http://127.0.0.1:{port}/health/live'",
    "select * from read_parquet('s3://bucket/key.parquet')",
    "select * from read_csv('https://example.invalid/x.csv')",
    "install httpfs",
    "load httpfs",
    "load '{secret}'",
    "force install httpfs from 'http://127.0.0.1:{port}'",
    "update extensions",
    "select * from sqlite_scan('{database}', 'secret')",
    "create secret (type s3, key_id 'x', secret 'y')",
    "attach 'http://127.0.0.1:{port}/x.duckdb'",
]
CHANGES_THINGS = [
    "attach '{database}' as other",
    "attach '{database}' as other (read_only)",
    "attach ':memory:' as other",
    "detach history",
    "use memory",
    "copy batch_jobs to '{new}'",
    "copy (select 1) to '{new}' (format parquet)",
    "copy batch_jobs from '{secret}'",
    "export database '{new}'",
    "import database '{folder}'",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "reset memory_limit",
    "set threads = 64",
    "set global temp_directory = '{folder}'",
    "pragma temp_directory = '{folder}'",
    "pragma database_list",
    "pragma enable_profiling = 'json'",
    "select * from enable_profiling()",
    "select * from enable_logging()",
    "set variable x = 1",
    "create table mine as select 1",
    "create temp table mine as select 1",
    "create table memory.main.mine as select 1",
    "create macro mine() as 1",
    "create view mine as select 1",
    "insert into batch_jobs select * from batch_jobs",
    "update batch_jobs set phase = 'FAILED'",
    "delete from batch_jobs",
    "truncate batch_jobs",
    "drop table batch_jobs",
    "alter table batch_jobs rename to other",
    "merge into batch_jobs using batch_jobs as b using (batch_request_id) when matched then delete",
    "with gone as (delete from batch_jobs returning *) from gone",
    "comment on table batch_jobs is 'mine'",
    "checkpoint",
    "vacuum",
    "analyze",
    "begin",
    "rollback",
    "prepare p as select 1",
    "execute p",
    "deallocate p",
    "call pragma_version()",
    "explain analyze copy batch_jobs to '{new}'",
    "select 1; copy batch_jobs to '{new}'",
    "select 1;\x00; copy batch_jobs to '{new}'",
    "/* select */ copy batch_jobs to '{new}'",
    "pivot batch_jobs on phase using count(*)",
]
NO_SQL = [
    "select '\ud83d'",
    "select \x00",
    "(" * 40_000,
    "select " + "(" * 5_000 + "1" + ")" * 5_000,
    "select " + "not " * 20_000 + "true",
    "select " + "-" * 2 + "\n" + "1" + " + 1" * 20_000,
    "select [" * 9_000,
    "select * from (" * 5_000,
    "with recursive " * 5_000,
    "select '" + "'" * 50_000,
]
TAKES_MEMORY = [
    "select length(repeat('x', 2000000000))",
    "select repeat('x', 2000000000)",
    "select repeat(repeat('x', 100000), 20000)",
    "select list(range) from range(1000000000)",
    "select string_agg(range::varchar, '') from range(1000000000)",
    "select array_agg(a.range order by a.range) from range(100000) a, range(100000) b",
    "select map_from_entries(list((range, range))) from range(1000000000)",
    "select list_resize([1], 2000000000)",
    "select count(distinct hash(range)) from range(1000000000)",
    "select range(1000000000)",
    "select length(printf('%2000000000d', 1))",
]
TAKES_TIME = [
    "select count(*) from range(1000000) a, range(1000000) b where a.range * b.range % 7 = 3",
    "with recursive t(n) as (select 1 union all select n + 1 from t) select max(n) from t where n < 0",
    "select max(md5(a.range::varchar)) from range(1000000) a, range(1000000) b",
    "select max(sha256(repeat('x', 100000) || a.range)) from range(100000000) a",
    "select levenshtein(repeat('a', 200000), repeat('b', 200000))",
]
REVEALS = [  # answered, since they are the client's own or the copy's; the checks are those of all
    "select name, value from duckdb_settings()",
    "select * from duckdb_databases()",
    "select * from pragma_database_size()",
    "show databases",
    "select * from pg_catalog.pg_settings",
    "select current_setting('allowed_paths')",
    "select * from duckdb_temporary_files()",
    "select * from duckdb_logs()",
    "select * from duckdb_functions()",
    "select write_log('mine')",
    "select * from statement",
    "select * from question",
    "select * from information_schema.tables",
]


def some(statements: list[str]) -> list[str]:
    """All of them, or every second one."""
    return statements[:: 1 if os.environ.get("EMBUP_CRASH_SCALE") == "full" else 2]


HOSTILE = [*some(READS_FILES), *some(REACHES_OUT), *some(CHANGES_THINGS), *some(NO_SQL)]


class Place(NamedTuple):
    """A service with secrets around it."""

    service: Any
    words: dict[str, str]

    def files(self) -> dict[str, tuple[int, int]]:
        """Everything below the service's folder and the secrets', with size and time."""
        found = {}
        for top in (self.service.data, Path(self.words["folder"])):
            for path in top.rglob("*"):
                if path.name != "service.log":
                    status = path.lstat()
                    found[str(path)] = (status.st_size, status.st_mtime_ns)
        return found


@pytest.fixture(scope="module")
def place(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A service that answers statements, patient but for those that take time."""
    from tests.serving.conftest import Service

    folder = tmp_path_factory.mktemp("secrets")
    (folder / "secret.csv").write_text(SECRET + "\n")
    duckdb.execute(f"attach '{folder}/secret.duckdb' as s; create table s.secret as select '{SECRET}'")
    duckdb.execute("detach s")
    os.environ["EMBUP_TEST_SECRET"] = SECRET
    try:
        service = Service(
            registry.root,
            tmp_path_factory.mktemp("hostile"),
            sql_over_http="true",
            sql_deadline_s=60,
            sql_memory_mb=MEMORY_MB,
        )
    finally:
        del os.environ["EMBUP_TEST_SECRET"]
    words = {
        "secret": str(folder / "secret.csv"),
        "database": str(folder / "secret.duckdb"),
        "jobs": str(service.data / "jobs" / "jobs.duckdb"),
        "folder": str(folder),
        "new": str(folder / "new"),
        "port": str(service.port),
    }
    yield Place(published(service), words)
    assert service.end() == 0
    assert "Traceback" not in service.log.read_text()


@pytest.fixture(scope="module")
def hurried(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service with a short deadline."""
    from tests.serving.conftest import Service

    service = Service(
        registry.root,
        tmp_path_factory.mktemp("hurried"),
        sql_over_http="true",
        sql_deadline_s=DEADLINE_S,
        sql_memory_mb=MEMORY_MB,
    )
    yield published(service)
    assert service.end() == 0


class Watch:
    """Looks at the processes of statements, and at the service beside them, from a thread."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._ended = threading.Event()
        self.pids: set[int] = set()
        self.peak_kb = 0
        self.slowest_ping_s = 0.0

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._look), threading.Thread(target=self._ping)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            for pid in statement_processes(self._service):
                self.pids.add(pid)
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                for line in status.splitlines():
                    if line.startswith("VmPeak:"):
                        self.peak_kb = max(self.peak_kb, int(line.split()[1]))

    def _ping(self) -> None:
        import httpx

        with httpx.Client(base_url=f"http://127.0.0.1:{self._service.port}", timeout=60) as http:
            while not self._ended.wait(0.05):
                started = time.monotonic()
                assert http.get("/health/live").status_code == 200
                self.slowest_ping_s = max(self.slowest_ping_s, time.monotonic() - started)


def filled(statement: str, words: dict[str, str]) -> str:
    for name, word in words.items():
        statement = statement.replace(f"{{{name}}}", word)
    return statement


def named(statement: str) -> str:
    return ascii(statement if len(statement) < 60 else f"{statement[:40]}... {len(statement)}")[1:-1]


def test_there_are_enough_of_them() -> None:
    every = [*HOSTILE, *some(TAKES_MEMORY), *some(TAKES_TIME)]
    assert len(set(every)) == len(every) >= 60


@pytest.mark.parametrize("statement", HOSTILE, ids=named)
def test_a_hostile_statement_is_refused_and_leaves_nothing(
    place: Place, check: Callable[..., Any], statement: str
) -> None:
    before = place.files()
    sent = filled(statement, place.words)
    answer = (
        place.service.http.post(
            "/v1/sql",
            content=b'{"statement": "select \'\\ud83d\'"}',
            headers={"Content-Type": "application/json"},
        )
        if "\ud83d" in sent
        else ask(place.service, sent)
    )
    assert answer.status_code in {400, 422}, answer.text
    problem = check(answer, answer.status_code)
    allowed = {"/problems/sql-statement"}
    if statement in NO_SQL:  # what the parser makes of them is its own affair
        allowed |= {"/problems/sql-died", "/problems/sql-memory", "/problems/malformed-request"}
    assert problem["type"] in allowed, problem
    assert_nothing_told(answer.text, sent, place)
    assert place.files() == before
    assert statement_processes(place.service) == []


@pytest.mark.parametrize("statement", some(REVEALS), ids=named)
def test_what_is_answered_tells_nothing_of_the_machine(place: Place, statement: str) -> None:
    before = place.files()
    answer = ask(place.service, statement)
    assert answer.status_code in {200, 422}, answer.text
    assert_nothing_told(answer.text, statement, place)
    assert place.files() == before


def test_a_file_that_is_there_and_one_that_is_not_are_refused_alike(place: Place) -> None:
    said = {
        ask(place.service, f"from read_text('{path}')").json()["detail"].replace(path, "…").splitlines()[0]
        for path in (place.words["secret"], place.words["new"], "/etc/passwd", "/root/.ssh/none")
    }
    assert len(said) == 1


@pytest.mark.parametrize("statement", some(TAKES_MEMORY), ids=named)
def test_a_statement_that_takes_memory_is_refused_within_its_limit(
    place: Place, check: Callable[..., Any], statement: str
) -> None:
    with Watch(place.service) as watch:
        problem = check(ask(place.service, statement), 422)
    assert problem["type"] in {"/problems/sql-memory", "/problems/sql-died", "/problems/sql-statement"}
    assert 0 < watch.peak_kb <= MEMORY_MB * 1024
    assert watch.slowest_ping_s < LATEST_PING_S
    assert not any(map(is_alive, watch.pids))


@pytest.mark.parametrize("statement", some(TAKES_TIME), ids=named)
def test_a_statement_that_takes_time_ends_at_its_deadline(
    hurried: Any, check: Callable[..., Any], statement: str
) -> None:
    started = time.monotonic()
    with Watch(hurried) as watch:
        problem = check(ask(hurried, statement), 422)
        took_s = time.monotonic() - started
        assert statement_processes(hurried) == []
    assert problem["type"] == "/problems/sql-deadline"
    assert took_s < DEADLINE_S + SLACK_S
    assert 0 < watch.peak_kb <= MEMORY_MB * 1024
    assert watch.slowest_ping_s < LATEST_PING_S
    assert not any(map(is_alive, watch.pids))


def assert_nothing_told(answered: str, sent: str, place: Place) -> None:
    """No secret, and no path of this machine that the statement did not name."""
    assert SECRET not in answered
    for path in (
        str(place.service.data), str(place.service.registry), str(Path.home()), sys.prefix, sys.base_prefix,
        site.getsitepackages()[0], str(Path.cwd()), place.words["folder"],
    ):  # fmt: skip
        assert path in sent or path not in answered
