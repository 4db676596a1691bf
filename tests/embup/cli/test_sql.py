"""`embup sql`: one statement that reads, on a snapshot that the service published."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import pty
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from serving.jobs.history.published import EVENTS, JOBS
from serving.jobs.history.publisher import HistoryPublisher
from serving.jobs.model import JobRequest, Phase, Progress
from serving.jobs.storage.store import JobStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a snapshot of three jobs: one ended well, one failed, one waits."""
    folder = tmp_path_factory.mktemp("published")

    async def make() -> None:
        store = JobStore(folder / "jobs")
        await store.open()
        ids = []
        for name in ("a", "b", "c"):
            request = JobRequest(f"/data/{name}.txt", f"/data/{name}\x1b[2J.out.txt")
            job = await store.submit(request, bytes_total=600, idempotency_key=None, digest=name)
            ids.append(job.batch_request_id)
        await store.begin(ids[0], model_version="v1")
        await store.progress(ids[0], Progress("{}", 1200, 3, 600, paused_s=0.5, pause_count=2, running_s=2.0))
        await store.finish(ids[0], Phase.COMPLETED)
        await store.finish(
            ids[1], Phase.FAILED, error="line 7: expected 32 numbers", line=7, remedy="Correct it."
        )
        await HistoryPublisher(store, folder / "history").publish()
        await store.close()

    asyncio.run(make())
    return folder


def test_a_table_is_aligned_whole_and_counted(embup: Callable[..., Any], published: Path) -> None:
    query = (
        "select batch_request_id, phase, num_records_processed as rows, error_line"
        " from batch_jobs order by phase"
    )
    result = embup("sql", query, "--data", published)
    assert result.returncode == 0, result.stderr
    header, *rows, count = result.stdout.splitlines()
    assert header.split() == ["batch_request_id", "phase", "rows", "error_line"]
    assert [row.split()[1:] for row in rows] == [
        ["COMPLETED", "1200", "NULL"],
        ["FAILED", "0", "7"],
        ["QUEUED", "0", "NULL"],
    ]
    assert all(len(row.split()[0]) == 36 for row in rows)
    assert {len(line) for line in (header, *rows)} == {len(header)}, "numbers stand to the right"
    assert count == "(3 rows)"


def test_the_age_of_the_snapshot_is_told_apart_from_the_answer(
    embup: Callable[..., Any], published: Path
) -> None:
    file = published / "history" / "history.duckdb"
    made = file.stat()
    os.utime(file, (made.st_atime, made.st_mtime - 3 * 3600))
    result = embup("sql", "select 1 as one", "--data", published)
    os.utime(file, (made.st_atime, made.st_mtime))
    assert result.stdout == "one\n  1\n(1 row)\n"
    assert re.fullmatch(r"snapshot of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, 3 h old\n", result.stderr)


def test_without_a_statement_all_columns_are_listed_with_what_they_mean(
    embup: Callable[..., Any], published: Path
) -> None:
    result = embup("sql", "--data", published)
    assert result.returncode == 0, result.stderr
    for table in (JOBS, EVENTS):
        assert f"{table.name}: {table.meaning}\n" in result.stdout
        for column in table.columns:
            assert re.search(
                rf"^  {column.name} +[A-Z]+ +{re.escape(column.meaning)}$", result.stdout, re.MULTILINE
            )
    as_json = json.loads(embup("sql", "--data", published, "--json").stdout)
    assert [row["column"] for row in as_json] == [
        column.name for table in (JOBS, EVENTS) for column in table.columns
    ]


def test_json_is_one_array_of_objects(embup: Callable[..., Any], published: Path) -> None:
    query = (
        "select phase, error_line, rows_per_second, overwrite, sum(failed_rows) as bad, [1, 2] as list,"
        " {'a': 1} as struct, 'nan'::double as nan, interval 90 seconds as span,"
        " timestamp '2026-01-02 03:04:05' as t from batch_jobs where phase = 'COMPLETED' group by all"
    )
    assert json.loads(embup("sql", query, "--data", published, "--json").stdout) == [
        {
            "phase": "COMPLETED",
            "error_line": None,
            "rows_per_second": 600.0,
            "overwrite": False,
            "bad": 3,
            "list": [1, 2],
            "struct": {"a": 1},
            "nan": None,
            "span": 90.0,
            "t": "2026-01-02T03:04:05",
        }
    ]
    none = embup("sql", "select * from batch_jobs where false", "--data", published, "--json")
    assert json.loads(none.stdout) == []


def test_csv_has_a_header_quotes_and_empty_fields_for_null(
    embup: Callable[..., Any], published: Path
) -> None:
    query = "select phase, error_line, 'a,\"b' as text from batch_jobs order by phase"
    result = embup("sql", query, "--data", published, "--csv")
    assert list(csv.reader(result.stdout.splitlines())) == [
        ["phase", "error_line", "text"],
        ["COMPLETED", "", 'a,"b'],
        ["FAILED", "7", 'a,"b'],
        ["QUEUED", "", 'a,"b'],
    ]


def test_a_statement_may_come_from_standard_input(script: Path, published: Path) -> None:
    result = subprocess.run(
        [script, "sql", "-", "--data", published],
        input="-- how many\nfrom batch_jobs\nselect count(*) as n;\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "n\n3\n(1 row)\n"


def test_characters_that_steer_a_terminal_are_shown_not_sent(
    embup: Callable[..., Any], published: Path
) -> None:
    result = embup("sql", "select output_filepath from batch_jobs limit 1", "--data", published)
    assert "\x1b" not in result.stdout
    assert r"/data/a\x1b[2J.out.txt" in result.stdout


def test_a_table_wider_than_the_terminal_is_one_block_a_row(script: Path, published: Path) -> None:
    reading, writing = pty.openpty()
    with subprocess.Popen(
        [script, "sql", "from batch_jobs where phase = 'FAILED'", "--data", published],
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"COLUMNS": "80"},
    ) as child:
        os.close(writing)
        printed = b""
        try:
            while part := os.read(reading, 65536):
                printed += part
        except OSError:  # how a terminal says that nobody writes any more
            pass
        child.wait(20)
    os.close(reading)
    lines = printed.decode().splitlines()
    assert lines[0] == "-- row 1 --"
    assert "error_line             7" in lines
    assert "model_version          NULL" in lines
    assert len(lines) == len(JOBS.columns) + 2


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("select foo from batch_jobs", 'column "foo" not found'),
        ("selec 1", 'syntax error at or near "selec"'),
        ("select 1; select 2", "Expected one statement, found 2."),
        ("", "Expected one statement, found none."),
        ("/* nothing */", "Expected one statement, found none."),
        ("delete from batch_jobs", "found DELETE"),
        ("create temp table mine as select 1", "found CREATE"),
        ("copy batch_jobs to 'x.csv'", "found COPY"),
        ("attach 'x.duckdb'", "found ATTACH"),
        ("set memory_limit = '1TB'", "found SET"),
        ("install httpfs", "found LOAD"),
        ("with gone as (delete from batch_jobs returning *) from gone", "read-only"),
        ("select * from read_text('/etc/hostname')", "Cannot access"),
        ("select * from glob('/*')", "Cannot access"),
        ("select list(range) from range(1000000000)", "more than 1GB of memory"),
        ("from range(2000000)", "more than 1,000,000 rows"),
    ],
)
def test_what_cannot_be_answered_is_said_plainly(
    embup: Callable[..., Any], published: Path, tmp_path: Path, statement: str, said: str
) -> None:
    before = (published / "history" / "history.duckdb").read_bytes()
    result = embup("sql", statement, "--data", published, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert (published / "history" / "history.duckdb").read_bytes() == before


def test_an_error_points_at_its_place_in_the_statement(embup: Callable[..., Any], published: Path) -> None:
    lines = embup("sql", "select phase, foo from batch_jobs", "--data", published).stderr.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("LINE 1: "))
    assert lines[place].index("foo") == lines[place + 1].index("^")


def test_two_columns_of_one_name_are_no_json(embup: Callable[..., Any], published: Path) -> None:
    result = embup("sql", "select 1 as a, 2 as a", "--data", published, "--json")
    assert result.returncode == 2
    assert "AS" in result.stderr
    assert embup("sql", "select 1 as a, 2 as a", "--data", published).stdout == "a  a\n1  2\n(1 row)\n"


def test_json_and_csv_exclude_each_other(embup: Callable[..., Any], published: Path) -> None:
    result = embup("sql", "select 1", "--data", published, "--json", "--csv")
    assert result.returncode == 2
    assert "exclude each other" in result.stderr


def test_without_a_snapshot_it_says_what_to_do(embup: Callable[..., Any], tmp_path: Path) -> None:
    result = embup("sql", "select 1", "--data", tmp_path)
    assert result.returncode == 2
    assert str(tmp_path / "history" / "history.duckdb") in result.stderr
    assert "--data" in result.stderr


def test_a_foreign_file_in_its_place_is_an_error_that_names_it(
    embup: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "history" / "history.duckdb"
    file.parent.mkdir()
    file.write_bytes(b"not a database" * 1000)
    result = embup("sql", "select 1", "--data", tmp_path)
    assert result.returncode == 2
    assert f"{file} cannot be opened" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_ends_a_statement_that_would_take_forever(script: Path, published: Path) -> None:
    endless = "select count(*) from range(1000000) a, range(1000000) b where a.range * b.range % 7 = 3"
    with subprocess.Popen(
        [script, "sql", endless, "--data", published],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(3)  # it has begun by then
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert (child.returncode, said) == (130, "interrupted\n")


def test_a_time_with_its_zone_is_a_value_like_others(embup: Callable[..., Any], published: Path) -> None:
    result = embup("sql", "select timestamptz '2026-01-02 03:04:05+01' as t", "--data", published, "--json")
    assert json.loads(result.stdout) == [{"t": "2026-01-02T02:04:05+00:00"}]
