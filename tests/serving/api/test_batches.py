"""Batch requests against the real service: submitted, refused, followed, listed, cancelled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from embup_core.errors import OutputError
from serving.jobs.checking import check_job
from serving.jobs.confinement import Confinement
from serving.jobs.model import JobRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.artifacts.registry import Registry
    from embup_core.upsampler import Upsampler

ROW_BYTES = 12 * 1536


def test_a_batch_answers_line_by_line_and_agrees_with_realtime(
    shared_service: Any, rows: Callable[..., Any], output_of: Callable[..., Any]
) -> None:
    source = shared_service.write_input("agree.txt", 300, seed=3)
    job = shared_service.submit(source, shared_service.data / "agree.out.txt")
    final = shared_service.final(job)
    assert (final["status"], final["phase"], final["num_records_processed"]) == (
        "COMPLETED",
        "COMPLETED",
        300,
    )
    assert (final["percent"], final["failed_rows"], final["attempts"]) == (100.0, 0, 1)
    assert final["error"] is None
    assert final["bytes_done"] == final["bytes_total"] == source.stat().st_size
    out = output_of(shared_service.data / "agree.out.txt")
    assert out.shape == (300, 1536)
    assert np.abs(np.linalg.norm(out, axis=1) - 1).max() < 1e-6
    z = rows(300, seed=3)
    realtime = shared_service.http.post("/v1/upsample", json={"embeddings": z[:200].tolist()}).json()
    assert np.abs(np.array(realtime["embeddings"]) - out[:200]).max() < 1e-6
    for i in (0, 299):
        one = shared_service.http.post("/v1/upsample", json={"embedding": z[i].tolist()}).json()
        assert np.abs(np.array(one["embedding"]) - out[i]).max() < 1e-6
    assert not list(shared_service.data.glob("agree.out.txt.*"))


def test_the_batch_of_the_api_page_can_be_sent_as_it_is(shared_service: Any) -> None:
    described = shared_service.http.get("/docs/openapi.json").json()
    shown = described["paths"]["/v1/batches"]["post"]["requestBody"]["content"]["application/json"]
    for _ in range(2):  # somebody tries it again
        for example in shown["examples"].values():
            answer = shared_service.http.post("/v1/batches", json=example["value"])
            assert answer.status_code == 202, answer.text
            final = shared_service.final(answer.json()["batch_request_id"])
            assert (final["phase"], final["failed_rows"]) == ("COMPLETED", 0)


def test_a_missing_output_folder_is_made_if_asked_for(shared_service: Any, check: Callable[..., Any]) -> None:
    source = shared_service.write_input("parents.txt", 3)
    target = shared_service.data / "new" / "and newer" / "out.txt"
    body = {"input_filepath": str(source), "output_filepath": str(target)}
    check(shared_service.http.post("/v1/batches", json=body), 422)
    assert not target.parent.parent.exists()
    assert (
        shared_service.final(shared_service.submit(source, target, make_parents=True))["phase"] == "COMPLETED"
    )
    assert target.stat().st_size == 3 * ROW_BYTES


def test_no_folder_is_made_below_a_file_or_outside_the_roots(
    shared_service: Any, check: Callable[..., Any], tmp_path: Path
) -> None:
    source = shared_service.write_input("file.txt", 3)
    (shared_service.data / "leads out").symlink_to(tmp_path)
    for target in (
        source / "a" / "out.txt",
        tmp_path / "a" / "out.txt",
        "leads out/a/out.txt",
        "jobs/a/out.txt",
    ):
        body = {"input_filepath": str(source), "output_filepath": str(target), "make_parents": True}
        problem = check(shared_service.http.post("/v1/batches", json=body), 422)
        assert problem["type"] == "/problems/bad-output"
        assert problem["remedy"]
    assert not list(tmp_path.iterdir())
    assert not (shared_service.data / "jobs" / "a").exists()


@pytest.mark.parametrize(
    ("field", "allowed"),
    [
        ({"overwritten": True}, ["input_filepath", "output_filepath", "overwrite", "make_parents"]),
        ({"on_bad_row": "skip"}, ["fail", "nan"]),
    ],
)
def test_a_wrong_field_or_choice_is_answered_with_those_there_are(
    shared_service: Any, check: Callable[..., Any], field: dict[str, Any], allowed: list[str]
) -> None:
    body = {"input_filepath": "in.txt", "output_filepath": "out.txt"} | field
    (error,) = check(shared_service.http.post("/v1/batches", json=body), 400)["errors"]
    assert next(iter(field)) in f"{error['where']} {error['message']}"
    assert all(name in error["message"] for name in allowed)


def test_relative_paths_start_at_the_first_root(shared_service: Any) -> None:
    shared_service.write_input("relative.txt", 3)
    job = shared_service.submit("relative.txt", "relative.out.txt")
    assert shared_service.final(job)["output_filepath"] == str(shared_service.data / "relative.out.txt")
    assert (shared_service.data / "relative.out.txt").stat().st_size == 3 * ROW_BYTES


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("no trailing newline", lambda text: text[:-1]),
        ("CRLF", lambda text: text.replace("\n", "\r\n")),
        ("blank last line", lambda text: text + "\n"),
    ],
)
def test_usual_line_endings_are_accepted(
    shared_service: Any, name: str, change: Callable[[str], str]
) -> None:
    source = shared_service.write_input(f"{name}.txt", 20)
    source.write_bytes(change(source.read_text()).encode())
    job = shared_service.submit(source, shared_service.data / f"{name}.out.txt")
    final = shared_service.final(job)
    assert (final["status"], final["num_records_processed"]) == ("COMPLETED", 20), final
    assert (shared_service.data / f"{name}.out.txt").stat().st_size == 20 * ROW_BYTES


ROW = ",".join(["0.1"] * 32)
BAD_FIRST_ROWS = [
    ("31 values", ",".join(["0.1"] * 31), "found 31"),
    ("33 values", ",".join(["0.1"] * 33), "found 33"),
    ("text", ROW.replace("0.1", "abc", 1), "abc"),
    ("nan", ROW.replace("0.1", "nan", 1), "nan"),
    ("zeros", ",".join(["0"] * 32), "zero"),
]


@pytest.mark.parametrize(
    ("row", "said"), [case[1:] for case in BAD_FIRST_ROWS], ids=[c[0] for c in BAD_FIRST_ROWS]
)
def test_a_wrong_first_row_is_refused_at_once(
    shared_service: Any, check: Callable[..., dict[str, Any]], row: str, said: str
) -> None:
    source = shared_service.data / "bad first.txt"
    source.write_text(f"{row}\n{ROW}\n")
    answer = shared_service.http.post(
        "/v1/batches",
        json={"input_filepath": str(source), "output_filepath": str(shared_service.data / "bad.out.txt")},
    )
    problem = check(answer, 422)
    assert problem["line"] == 1
    assert "line 1" in problem["detail"]
    assert said in problem["detail"]


def test_a_bad_row_in_the_middle_fails_the_batch_and_publishes_nothing(shared_service: Any) -> None:
    source = shared_service.write_input("late.txt", 500)
    lines = source.read_text().splitlines()
    lines[416] = ",".join(lines[416].split(",")[1:])
    source.write_text("\n".join(lines) + "\n")
    before = set(shared_service.data.iterdir())
    job = shared_service.submit(source, shared_service.data / "late.out.txt")
    final = shared_service.final(job)
    assert (final["status"], final["phase"]) == ("FAILED", "FAILED")
    assert final["error"]["line"] == 417
    assert final["error"]["detail"] == f"{source}, line 417: expected 32 numbers, found 31"
    assert "on_bad_row: nan" in final["error"]["remedy"]
    assert set(shared_service.data.iterdir()) == before


def test_bad_rows_become_nan_when_asked_for(shared_service: Any, output_of: Callable[..., Any]) -> None:
    source = shared_service.write_input("some.txt", 50)
    lines = source.read_text().splitlines()
    lines[7] = "not a row"
    source.write_text("\n".join(lines) + "\n")
    target = shared_service.data / "some.out.txt"
    final = shared_service.final(shared_service.submit(source, target, on_bad_row="nan"))
    assert (final["status"], final["num_records_processed"], final["failed_rows"]) == ("COMPLETED", 50, 1)
    out = output_of(target)
    assert np.isnan(out[7]).all()
    assert not np.isnan(np.delete(out, 7, axis=0)).any()
    errors = [json.loads(line) for line in Path(f"{target}.errors.jsonl").read_text().splitlines()]
    assert [(error["line"], error["raw"]) for error in errors] == [(8, "not a row")]


def refused(service: Any, **body: Any) -> Any:
    return service.http.post("/v1/batches", json=body)


def test_what_can_be_known_at_once_is_refused_at_once(
    shared_service: Any, check: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    data = shared_service.data
    good = str(shared_service.write_input("good.txt", 2))
    out = str(data / "refused.out.txt")
    (data / "empty.txt").write_text("")
    (data / "sub").mkdir()
    (data / "exists.txt").write_text("old")
    (data / "outside").symlink_to(tmp_path)
    (tmp_path / "in.txt").write_text(ROW)
    os.mkfifo(data / "pipe")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"input_filepath": str(data / "missing.txt"), "output_filepath": out}, "does not exist"),
        ({"input_filepath": str(data / "empty.txt"), "output_filepath": out}, "empty"),
        ({"input_filepath": str(data), "output_filepath": out}, "found that of a folder"),
        ({"input_filepath": str(data / "sub"), "output_filepath": out}, "not a regular file"),
        ({"input_filepath": str(data / "pipe"), "output_filepath": out}, "not a regular file"),
        ({"input_filepath": good, "output_filepath": str(data / "exists.txt")}, "exists"),
        ({"input_filepath": good, "output_filepath": good, "overwrite": True}, "input itself"),
        ({"input_filepath": good, "output_filepath": str(data / "nowhere" / "o.txt")}, "does not exist"),
        ({"input_filepath": good, "output_filepath": str(data) + "/"}, "found that of a folder"),
        ({"input_filepath": "/etc/passwd", "output_filepath": out}, "outside"),
        ({"input_filepath": "../../../../../etc/passwd", "output_filepath": out}, "outside"),
        ({"input_filepath": str(data / "outside" / "in.txt"), "output_filepath": out}, "outside"),
        ({"input_filepath": good, "output_filepath": str(data / "outside" / "o.txt")}, "outside"),
        ({"input_filepath": good, "output_filepath": "/etc/embup.txt"}, "outside"),
        ({"input_filepath": "a\0b", "output_filepath": out}, "NUL"),
        ({"input_filepath": "", "output_filepath": out}, "found nothing"),
        ({"input_filepath": "jobs/jobs.duckdb", "output_filepath": out}, "the service's own state"),
        ({"input_filepath": str(data / "history" / "x.txt"), "output_filepath": out}, "own state"),
        ({"input_filepath": good, "output_filepath": "o" * 300}, "too long"),
    ]
    for body, said in cases:
        problem = check(refused(shared_service, **body), 422)
        assert said in problem["detail"], (body, problem)
        assert problem["remedy"], problem
    assert (data / "exists.txt").read_text() == "old"
    assert not (data / "refused.out.txt").exists()


@pytest.mark.parametrize(
    "target",
    [
        "registry/CURRENT", "jobs/jobs.duckdb", "history/jobs.parquet", "staging/x", "sources/a/x.npy",
        ".dagster/history/runs.db", "history", "link/jobs.duckdb",
    ],
)  # fmt: skip
def test_no_batch_overwrites_the_service_s_own_state(
    shared_service: Any, check: Callable[..., dict[str, Any]], target: str
) -> None:
    """Even where a link leads into it, and with leave to overwrite."""
    good = str(shared_service.write_input("good.txt", 2))
    link = shared_service.data / "link"
    if not link.is_symlink():
        link.symlink_to(shared_service.data / "jobs")
    for output in (target, str(shared_service.data / target)):
        answer = refused(shared_service, input_filepath=good, output_filepath=output, overwrite=True)
        problem = check(answer, 422)
        said = "leads over a link" if target.startswith("link") else "holds the service's own state"
        assert said in problem["detail"]
        assert "Use another path under" in problem["remedy"]


def test_a_registry_outside_the_data_folder_is_the_service_s_own_too(
    serve: Callable[..., Any], check: Callable[..., dict[str, Any]], registry: Registry
) -> None:
    service = serve()
    service.restart_with(batch_roots=f"{service.data}:{registry.root.parent}")
    good = str(service.write_input("good.txt", 2))
    for target in ("CURRENT", f"{registry.current_version()}/manifest.json"):
        output = str(registry.root / target)
        answer = refused(service, input_filepath=good, output_filepath=output, overwrite=True)
        assert "holds the service's own state" in check(answer, 422)["detail"]


def test_the_space_that_is_asked_for_is_that_of_the_decoder_s_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upsampler: Upsampler
) -> None:
    (tmp_path / "in.txt").write_text(ROW)
    wanted = JobRequest(str(tmp_path / "in.txt"), str(tmp_path / "out.txt"))
    confinement = Confinement([])
    confinement.open([tmp_path])
    assert check_job(wanted, upsampler, confinement) == len(ROW)
    monkeypatch.setattr(type(upsampler), "output_dims", 10**14)
    with pytest.raises(OutputError, match=r"takes about 1\d+\.\d\d GB"):
        check_job(wanted, upsampler, confinement)
    confinement.close()


def test_malformed_batch_requests_are_refused(
    shared_service: Any, check: Callable[..., dict[str, Any]]
) -> None:
    problem = check(refused(shared_service, input_filepath="x"), 400)
    assert "output_filepath" in problem["detail"]
    problem = check(refused(shared_service, input_filepath="x", output_filepath="y", on_bad_row="skip"), 400)
    assert "expected one of fail, nan, found 'skip'" in problem["detail"]
    problem = check(refused(shared_service, input_filepath=1, output_filepath="y"), 400)
    assert "input_filepath" in problem["detail"]
    problem = check(shared_service.http.post("/v1/batches", content=b"{}"), 415)


def test_a_folder_that_takes_no_files_is_refused(
    serve: Callable[..., Any], check: Callable[..., Any]
) -> None:
    """Not even root may write to /proc: for others it is not writable, for root it has no space."""
    service = serve()
    service.restart_with(batch_roots=f"{service.data}:/proc")
    good = service.write_input("good.txt", 2)
    problem = check(refused(service, input_filepath=str(good), output_filepath="/proc/o.txt"), 422)
    assert "not writable" in problem["detail"] or "0.00 GB are free" in problem["detail"]


@pytest.mark.parametrize("name", ["own.txt.part", "own.txt.errors.jsonl.part"])
def test_a_client_s_own_file_under_a_name_the_batch_needs_is_kept(
    shared_service: Any, check: Callable[..., dict[str, Any]], name: str
) -> None:
    """Not even with leave to overwrite, which is about the output."""
    good = str(shared_service.write_input("good.txt", 2))
    own = shared_service.data / name
    own.write_text("precious")
    body = {"input_filepath": good, "output_filepath": "own.txt", "on_bad_row": "nan", "overwrite": True}
    problem = check(refused(shared_service, **body), 422)
    assert f"{name} exists: " in problem["detail"]
    assert own.read_text() == "precious"
    own.unlink()
    assert (
        shared_service.final(shared_service.submit(good, "own.txt", overwrite=True))["phase"] == "COMPLETED"
    )


def test_a_file_that_takes_a_part_s_name_before_its_batch_starts_is_kept(serve: Callable[..., Any]) -> None:
    service = serve()
    long = service.submit(service.write_input("long.txt", 20_000), service.data / "long.out.txt")
    job = service.submit(service.write_input("in.txt", 2), service.data / "out.txt")
    (service.data / "out.txt.part").write_text("precious")
    service.http.post(f"/v1/batches/{long}/cancel")
    final = service.final(job)
    assert (final["status"], final["num_records_processed"]) == ("FAILED", 0)
    assert "out.txt.part exists" in final["error"]["detail"]
    assert (service.data / "out.txt.part").read_text() == "precious"
    assert not (service.data / "out.txt").exists()


def test_overwrite_replaces_the_old_file_at_the_end(shared_service: Any) -> None:
    source = shared_service.write_input("replace.txt", 10)
    target = shared_service.data / "replaced.txt"
    target.write_text("old")
    job = shared_service.submit(source, target, overwrite=True)
    assert shared_service.final(job)["status"] == "COMPLETED"
    assert target.stat().st_size == 10 * ROW_BYTES


def test_the_same_key_and_request_are_the_same_batch(
    shared_service: Any, check: Callable[..., dict[str, Any]]
) -> None:
    source = shared_service.write_input("key.txt", 5)
    body = {"input_filepath": str(source), "output_filepath": str(shared_service.data / "key.out.txt")}
    key = {"Idempotency-Key": "march-1"}
    first = shared_service.http.post("/v1/batches", json=body, headers=key)
    assert first.headers["location"] == f"/v1/batches/{first.json()['batch_request_id']}"
    shared_service.final(first.json()["batch_request_id"])
    again = shared_service.http.post("/v1/batches", json=body, headers=key)  # its output exists by now
    assert again.status_code == 202
    assert again.json() == first.json()
    other = shared_service.http.post("/v1/batches", json=body | {"overwrite": True}, headers=key)
    assert "another request" in check(other, 409)["detail"]


def test_unknown_ids_are_not_found(shared_service: Any, check: Callable[..., dict[str, Any]]) -> None:
    for method, path in (("GET", "/nope"), ("GET", "/nope/events"), ("POST", "/nope/cancel")):
        problem = check(shared_service.http.request(method, f"/v1/batches{path}"), 404)
        assert "no batch request 'nope'" in problem["detail"]
        assert problem["remedy"]


def test_batches_are_listed_newest_first_and_filtered(shared_service: Any) -> None:
    source = shared_service.write_input("list.txt", 2)
    ids = [shared_service.submit(source, shared_service.data / f"list {i}.out.txt") for i in range(3)]
    for job in ids:
        shared_service.final(job)
    listed = shared_service.http.get("/v1/batches", params={"limit": 2}).json()["batches"]
    assert [entry["batch_request_id"] for entry in listed] == [ids[2], ids[1]]
    completed = shared_service.http.get("/v1/batches", params={"status": "COMPLETED"}).json()["batches"]
    assert {entry["status"] for entry in completed} == {"COMPLETED"}
    assert shared_service.http.get("/v1/batches", params={"phase": "CANCELLED"}).json()["batches"] == []
    assert shared_service.http.get("/v1/batches", params={"status": "IN PROGRESS"}).json()["batches"] == []


def test_bad_filters_are_refused(shared_service: Any, check: Callable[..., dict[str, Any]]) -> None:
    problem = check(shared_service.http.get("/v1/batches", params={"status": "DONE"}), 400)
    assert "status: expected one of COMPLETED, FAILED, IN PROGRESS, found 'DONE'" in problem["detail"]
    assert "limit" in check(shared_service.http.get("/v1/batches", params={"limit": 0}), 400)["detail"]


def test_a_stream_of_events_ends_with_the_final_status(shared_service: Any) -> None:
    source = shared_service.write_input("events.txt", 400)
    job = shared_service.submit(source, shared_service.data / "events.out.txt")
    seen = []
    with shared_service.http.stream("GET", f"/v1/batches/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line[6:]))
            else:
                assert line in {"", "event: status", ": still here"}
    assert seen[-1] == shared_service.status(job)
    assert seen[-1]["status"] == "COMPLETED"
    done = [status["num_records_processed"] for status in seen]
    assert done == sorted(done)


def test_a_running_batch_is_cancelled_and_leaves_nothing(
    serve: Callable[..., Any], check: Callable[..., Any]
) -> None:
    service = serve(checkpoint_interval_s=0.05)
    source = service.write_input("in.txt", 20_000)
    before = set(service.data.iterdir())
    job = service.submit(source, service.data / "out.txt")
    queued = service.submit(source, service.data / "out 2.txt")
    conflict = refused(service, input_filepath=str(source), output_filepath=str(service.data / "out.txt"))
    assert job in check(conflict, 409)["detail"]
    service.until(lambda: service.status(job)["num_records_processed"])
    answer = service.http.post(f"/v1/batches/{queued}/cancel")
    assert (answer.status_code, answer.json()["phase"]) == (202, "CANCELLED")
    answer = service.http.post(f"/v1/batches/{job}/cancel")
    assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
    final = service.final(job)
    assert (final["status"], final["phase"]) == ("FAILED", "CANCELLED")
    assert set(service.data.iterdir()) == before | {service.data / "history"}
    assert "already CANCELLED" in check(service.http.post(f"/v1/batches/{job}/cancel"), 409)["detail"]


def test_history_can_be_queried_by_another_process_while_the_service_runs(shared_service: Any) -> None:
    job = shared_service.submit(shared_service.write_input("h.txt", 30), shared_service.data / "h.out.txt")
    shared_service.final(job)
    history = shared_service.data / "history"

    def published() -> bool:
        with (history / "jobs.parquet").open("rb") as file:  # once: pyarrow opens a path twice
            jobs = {row["batch_request_id"]: row for row in pq.read_table(file).to_pylist()}
        return job in jobs and jobs[job]["status"] == "COMPLETED"

    shared_service.until(published)
    query = (
        "SELECT status, j.num_records_processed, list(kind ORDER BY event_id) FROM batch_jobs j "
        "JOIN batch_events USING (batch_request_id) WHERE batch_request_id = ? GROUP BY ALL"
    )
    code = (
        "import duckdb, sys\n"
        "print(duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2], [sys.argv[3]]).fetchall())\n"
    )
    shared_service.until(
        lambda: (
            "('COMPLETED', 30, ['submitted', 'started', 'finalizing', 'completed'])"
            in subprocess.run(
                [sys.executable, "-c", code, str(history / "history.duckdb"), query, job],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    )
