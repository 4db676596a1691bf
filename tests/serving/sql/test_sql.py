"""POST /v1/sql: off unless asked for; what it answers, and that a statement never outlives its use."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from serving.api.sql import SqlAnswer
from serving.description import examples
from serving.sql.runner import MAX_ANSWER_BYTES, MAX_ROWS
from tests.serving.asking import ENDLESS, ask, is_alive, published, statement_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from embup_core.artifacts.registry import Registry

MARKER = "sentinel-of-the-environment"


@pytest.fixture(scope="module")
def asked(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service that answers statements."""
    from tests.serving.conftest import Service

    service = Service(
        registry.root, tmp_path_factory.mktemp("asked"), sql_over_http="true", sql_deadline_s=60
    )
    yield published(service)
    assert service.end() == 0
    assert "Traceback" not in service.log.read_text()


def test_it_is_not_there_unless_it_is_asked_for(shared_service: Any, check: Callable[..., Any]) -> None:
    problem = check(shared_service.http.post("/v1/sql", json={"statement": "select 1"}), 404)
    assert problem["type"] == "/problems/not-found"
    assert "/v1/sql" not in shared_service.http.get("/docs/openapi.json").json()["paths"]


def test_it_is_described_where_it_is_there(asked: Any) -> None:
    described = asked.http.get("/docs/openapi.json").json()["paths"]["/v1/sql"]["post"]
    assert set(described["responses"]) >= {"200", "401", "400", "413", "415", "422", "429", "503"}
    example = next(iter(described["requestBody"]["content"]["application/json"]["examples"].values()))
    assert ask(asked, example["value"]["statement"]).status_code == 200
    (shown,) = examples.ANSWERS["sql"].values()
    assert msgspec.to_builtins(msgspec.convert(shown, SqlAnswer)) == shown


def test_it_tells_what_became_of_a_batch(asked: Any) -> None:
    asked.final(asked.submit(asked.write_input("in.txt", 10), asked.data / "out.txt"))
    statement = "select status, num_records_processed from batch_jobs"

    def told() -> list[Any]:
        rows: list[Any] = ask(asked, statement).json()["rows"]
        return [row for row in rows if row[0] == "COMPLETED"]

    assert asked.until(told) == [["COMPLETED", 10]]


def test_columns_have_types_and_values_are_json(asked: Any) -> None:
    statement = (
        "select 1 as n, 1.5::decimal(5, 2) as d, 'ü' as s, null as nothing, true as yes, 'nan'::float as nan,"
        " interval 90 seconds as span, timestamp '2026-01-02 03:04:05' as t, [1, 2] as list,"
        " {'a': 1} as struct, '\\xAA'::blob as b, 170141183460469231731687303715884105727 as huge,"
        " timestamptz '2026-01-02 03:04:05+00' as tz"
    )
    answer = ask(asked, statement)
    assert answer.headers["content-type"] == "application/json"
    found = msgspec.json.decode(answer.content, type=SqlAnswer)
    assert [(column.name, column.type) for column in found.columns][:2] == [
        ("n", "INTEGER"),
        ("d", "DECIMAL(5,2)"),
    ]
    assert found.rows == [
        [
            1, 1.5, "ü", None, True, None, 90.0, "2026-01-02T03:04:05", [1, 2], {"a": 1}, "aa",
            170141183460469231731687303715884105727, "2026-01-02T03:04:05+00:00",
        ]
    ]  # fmt: skip
    assert found.truncated is False


def test_the_age_is_that_of_the_snapshot(asked: Any) -> None:
    file = asked.data / "history" / "history.duckdb"
    made = file.stat()
    os.utime(file, (made.st_atime, made.st_mtime - 3 * 3600))
    age_s = ask(asked, "select 1").json()["snapshot_age_s"]
    os.utime(file, (made.st_atime, made.st_mtime))
    assert 3 * 3600 <= age_s < 3 * 3600 + 600


def test_a_long_answer_is_cut_and_says_so(asked: Any) -> None:
    many = ask(asked, "from range(1000000000)").json()
    assert (len(many["rows"]), many["truncated"]) == (MAX_ROWS, True)
    assert [row[0] for row in many["rows"]] == list(range(MAX_ROWS))
    exact = ask(asked, f"from range({MAX_ROWS})").json()
    assert (len(exact["rows"]), exact["truncated"]) == (MAX_ROWS, False)
    wide = ask(asked, "select repeat('x', 1000000) from range(100)")
    assert MAX_ANSWER_BYTES / 2 < len(wide.content) < MAX_ANSWER_BYTES + 1000
    assert (len(wide.json()["rows"]), wide.json()["truncated"]) == (4, True)


def test_a_row_longer_than_an_answer_is_a_problem(asked: Any, check: Callable[..., Any]) -> None:
    problem = check(ask(asked, "select repeat('x', 5000000)"), 422)
    assert "first row" in problem["detail"]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("select foo from batch_jobs", 'column "foo" not found'),
        ("select 1; select 2", "Expected one statement, found 2."),
        ("", "Expected one statement, found none."),
        ("explain select 1", "found EXPLAIN"),
        ("pivot batch_jobs on phase", "PIVOT … ON column IN"),
        ("delete from batch_jobs", "found DELETE"),
    ],
)
def test_what_cannot_be_answered_is_said_plainly(
    asked: Any, check: Callable[..., Any], statement: str, said: str
) -> None:
    problem = check(ask(asked, statement), 422)
    assert problem["type"] == "/problems/sql-statement"
    assert said in problem["detail"] + problem.get("remedy", "")


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b'{"statement": "select 1"}', "text/plain", 415),
        (b'{"statement": 1}', "application/json", 400),
        (b'{"query": "select 1"}', "application/json", 400),
        (b'{"statement": "select 1", "more": 1}', "application/json", 400),
        (b'{"statement": "' + b"x" * 100_001 + b'"}', "application/json", 400),
        (b'{"statement": "' + b"x" * 2_000_000 + b'"}', "application/json", 413),
    ],
)
def test_what_is_no_request_starts_no_process(
    asked: Any, check: Callable[..., Any], body: bytes, media_type: str, status: int
) -> None:
    check(asked.http.post("/v1/sql", content=body, headers={"Content-Type": media_type}), status)


def test_one_runs_at_a_time_at_idle_priority_and_without_the_services_environment(
    serve: Callable[..., Any], check: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBUP_TEST_SECRET", MARKER)
    service = published(serve(sql_over_http="true", sql_deadline_s=4))
    answers: list[httpx.Response] = []
    first = threading.Thread(target=lambda: answers.append(ask(service, ENDLESS)))
    first.start()
    (pid,) = service.until(lambda: statement_processes(service))
    service.until(lambda: os.sched_getscheduler(pid) == os.SCHED_IDLE)
    assert MARKER.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    second = ask(service, "select 1")
    assert check(second, 429)["type"] == "/problems/sql-busy"
    assert int(second.headers["retry-after"]) >= 1
    first.join()
    assert check(answers[0], 422)["type"] == "/problems/sql-deadline"
    assert not is_alive(pid)
    assert ask(service, "select 1").status_code == 200


def test_a_client_that_hangs_up_ends_its_statement(asked: Any) -> None:
    body = json.dumps({"statement": ENDLESS}).encode()
    with socket.create_connection(("127.0.0.1", asked.port)) as connection:
        connection.sendall(
            b"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        (pid,) = asked.until(lambda: statement_processes(asked))
        time.sleep(0.5)  # in the middle of the statement
        assert is_alive(pid)
    asked.until(lambda: not is_alive(pid))
    asked.until(lambda: ask(asked, "select 1").status_code == 200)  # it hears of the end a moment later


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_service_that_ends_takes_its_statement_along(
    serve: Callable[..., Any], how: signal.Signals
) -> None:
    service = published(serve(sql_over_http="true", sql_deadline_s=60, shutdown_s=1))

    def endless() -> None:
        try:
            ask(service, ENDLESS)
        except OSError:
            pass
        except Exception as error:  # noqa: BLE001 - httpx's own tree; the connection was cut
            assert type(error).__module__.startswith("httpx")  # noqa: PT017

    asking = threading.Thread(target=endless)
    asking.start()
    (pid,) = service.until(lambda: statement_processes(service))
    time.sleep(0.5)
    service.process.send_signal(how)
    code = service.process.wait(15)
    asking.join()
    assert code == (0 if how is signal.SIGTERM else -9)
    service.until(lambda: not is_alive(pid))


def test_without_a_snapshot_it_is_unavailable(asked: Any, check: Callable[..., Any]) -> None:
    file = asked.data / "history" / "history.duckdb"
    kept = file.read_bytes()
    for content in (None, b"", b"not a database" * 1000):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        answer = ask(asked, "select 1")
        if content is None:
            problem = check(answer, 503)
            assert problem["type"] == "/problems/sql-snapshot"
            assert "retry-after" in answer.headers
            file.touch()
        else:
            assert answer.status_code in {422, 503}
            check(answer, answer.status_code)
        assert str(asked.data) not in answer.text
    file.write_bytes(kept)
    assert ask(asked, "select 1").status_code == 200
