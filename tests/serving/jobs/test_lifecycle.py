"""What must hold when the service starts, stops, dies, and gets another decoder, with the real process."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import shutil
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import duckdb
import httpx
import msgspec
import numpy as np
import psutil
import pytest
from threadpoolctl import threadpool_limits

from embup_core.artifacts.registry import Registry
from embup_core.batch import BatchRun, BatchSpec, run_to_completion
from serving.jobs.model import Phase, Progress
from serving.jobs.storage.store import JobStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.upsampler import Upsampler

ROWS = 6_000
MANY_ROWS = 5 * ROWS
"""Enough that a batch is not through before a test that saw it move has done its next step."""
HALF_A_REQUEST = (
    b"POST /v1/upsample HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def uninterrupted(source: Path, target: Path, upsampler: Upsampler) -> str:
    """Run a batch in this process from start to end; give the output's digest."""
    run_to_completion(BatchRun(BatchSpec(source, target), upsampler))
    return digest(target)


def test_a_killed_batch_goes_on_and_writes_the_same_bytes(
    serve: Callable[..., Any], upsampler: Upsampler, tmp_path: Path
) -> None:
    service = serve(checkpoint_interval_s=0.1)
    source = service.write_input("in.txt", MANY_ROWS)
    target = service.data / "out.txt"
    job = service.submit(source, target)
    waiting = service.submit(source, service.data / "second.txt")
    rows = [0]
    for _ in range(2):
        service.until(lambda: service.status(job)["num_records_processed"] > rows[-1])
        service.end(signal.SIGKILL)
        assert not target.exists()
        service.start()
        before, rows_now = rows[-1], service.status(job)["num_records_processed"]
        assert rows_now >= before, "never goes down, not even over a crash"
        rows.append(rows_now)
    final = service.final(job)
    assert (final["status"], final["num_records_processed"], final["attempts"]) == ("COMPLETED", MANY_ROWS, 3)
    assert digest(target) == uninterrupted(source, tmp_path / "whole.txt", upsampler)
    assert service.final(waiting)["status"] == "COMPLETED"
    assert not list(service.data.glob("*.part"))


def test_a_stop_waits_for_requests_and_for_a_checkpoint_and_the_next_start_goes_on(
    serve: Callable[..., Any], upsampler: Upsampler, tmp_path: Path
) -> None:
    service = serve(checkpoint_interval_s=60)
    source = service.write_input("in.txt", 4 * ROWS)
    job = service.submit(source, service.data / "out.txt")
    part = service.data / "out.txt.part"
    service.until(lambda: part.exists() and part.stat().st_size > 0)
    rows = np.ones((256, 32)).tolist()
    answers: list[int] = []
    seen_in_flight = threading.Event()

    def ask() -> None:
        while not seen_in_flight.is_set():
            answers.append(service.http.post("/v1/upsample", json={"embeddings": rows}).status_code)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    events = threading.Thread(target=lambda: service.http.get(f"/v1/batches/{job}/events"))
    events.start()
    for thread in asking:
        thread.start()
    service.until(lambda: len(answers) >= 3)
    service.until(lambda: b"embup_gate_realtime_holders 0.0" not in service.http.get("/metrics").content)
    seen_in_flight.set()
    started = time.monotonic()
    assert service.end(signal.SIGTERM) == 0
    assert time.monotonic() - started < 10
    for thread in (*asking, events):
        thread.join()
    assert len(answers) >= 3
    assert set(answers) == {200}
    *_, last = service.log.read_text().splitlines()
    assert "stopped" in last, "a log that ends otherwise tells of a crash"
    assert "job" not in last
    service.start()
    status = service.status(job)
    assert status["num_records_processed"] > 0, "the stop made what was done durable"
    final = service.final(job)
    assert (final["status"], final["attempts"]) == ("COMPLETED", 2)
    assert digest(service.data / "out.txt") == uninterrupted(source, tmp_path / "whole.txt", upsampler)
    kinds = [
        kind
        for (kind,) in duckdb.connect(str(service.data / "history" / "history.duckdb"), read_only=True)
        .execute("SELECT kind FROM batch_events ORDER BY event_id")
        .fetchall()
    ]
    assert kinds[:4] == ["submitted", "started", "stopped", "resumed"]


def test_a_second_signal_waits_for_no_request_and_loses_no_row(serve: Callable[..., Any]) -> None:
    service = serve(realtime_deadline_s=30, checkpoint_interval_s=60)
    job = service.submit(service.write_input("in.txt", 30_000), service.data / "out.txt")
    part = service.data / "out.txt.part"
    service.until(lambda: part.exists() and part.stat().st_size > 0)
    with socket.create_connection(("127.0.0.1", service.port)) as begun:
        begun.sendall(HALF_A_REQUEST)
        service.until(lambda: service.status(job)["phase"] == "PAUSED")
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert service.process.poll() is None, "one signal waits for the request"
        assert service.end(signal.SIGTERM) == 0
    assert "Traceback" not in service.log.read_text()
    service.start()
    assert service.status(job)["num_records_processed"] > 0
    service.http.post(f"/v1/batches/{job}/cancel")


@pytest.mark.parametrize("renamed", [True, False])
def test_a_publish_cut_off_around_its_rename_ends_completed(
    serve: Callable[..., Any], upsampler: Upsampler, tmp_path: Path, *, renamed: bool
) -> None:
    """The state a crash leaves: FINALIZING stored; the rename done, and even the input gone, or not done."""
    service = serve()
    source = service.write_input("in.txt", 100)
    target = service.data / "out.txt"
    job = service.submit(source, target)
    service.final(job)
    service.end()
    target.unlink()
    expected = uninterrupted(source, tmp_path / "whole.txt", upsampler)

    with threadpool_limits(1):
        run = BatchRun(BatchSpec(source, target), upsampler)
        while run.step():
            pass
    checkpoint = run.sync()
    if renamed:
        run.publish()
        source.unlink()
    run.close()

    async def put_back() -> None:
        store = JobStore(service.data / "jobs")
        await store.open()
        text = msgspec.json.encode(checkpoint).decode()
        await store.progress(job, Progress(text, 100, 0, checkpoint.input_offset, 0.0, 0, 1.0))
        await store.call(
            lambda tables: tables.connection.execute(
                "UPDATE batch_jobs SET phase = ?, finished_at = NULL", [str(Phase.FINALIZING)]
            )
        )
        await store.close()

    asyncio.run(put_back())
    service.start()
    final = service.final(job)
    assert (final["status"], final["num_records_processed"]) == ("COMPLETED", 100)
    assert digest(target) == expected
    assert not list(service.data.glob("*.part"))


def test_an_input_changed_between_two_attempts_fails_the_batch(serve: Callable[..., Any]) -> None:
    service = serve(checkpoint_interval_s=0.05)
    source = service.write_input("in.txt", MANY_ROWS)
    job = service.submit(source, service.data / "out.txt")
    service.until(lambda: service.status(job)["num_records_processed"])
    service.end(signal.SIGKILL)
    service.write_input("in.txt", MANY_ROWS, seed=9)
    service.start()
    final = service.final(job)
    assert final["status"] == "FAILED"
    assert "input changed" in final["error"]["detail"]
    assert not (service.data / "out.txt").exists()
    assert not list(service.data.glob("*.part"))


def test_realtime_requests_pause_the_batch_and_are_not_starved(
    serve: Callable[..., Any], rows: Callable[..., Any], upsampler: Upsampler
) -> None:
    service = serve(checkpoint_interval_s=0.2)
    job = service.submit(service.write_input("in.txt", 30_000), service.data / "out.txt")
    service.until(lambda: service.status(job)["num_records_processed"])
    z = rows(40)
    expected, _ = upsampler.upsample(z.astype(np.float32))
    for i in range(40):
        found = service.http.post("/v1/upsample", json={"embedding": z[i].tolist()}).json()
        assert np.abs(np.array(found["embedding"]) - expected[i]).max() < 1e-6
    status = service.status(job)
    assert status["phase"] in {"RUNNING", "PAUSED"}, "the batch was there all along"
    assert status["pause_count"] >= 10
    assert status["paused_s"] > 0
    metrics = service.http.get("/metrics").text
    granted = [
        line for line in metrics.splitlines() if line.startswith("embup_gate_realtime_acquisitions_total")
    ]
    assert granted == ["embup_gate_realtime_acquisitions_total 40.0"]
    assert service.http.get("/health/ready").json()["batches"]["RUNNING"] == 1
    service.http.post(f"/v1/batches/{job}/cancel")


def test_a_held_gate_shows_as_paused_and_health_does_not_wait_for_it(serve: Callable[..., Any]) -> None:
    service = serve(realtime_deadline_s=30)
    job = service.submit(service.write_input("in.txt", 30_000), service.data / "out.txt")
    service.until(lambda: service.status(job)["phase"] == "RUNNING")
    body = b'{"embedding": [' + b"1," * 31 + b"1]}"

    def in_parts() -> Any:
        yield body[:10]
        held = service.until(lambda: service.status(job)["phase"] == "PAUSED" and service.status(job))
        assert held["status"] == "IN PROGRESS"
        time.sleep(0.2)
        assert service.status(job)["paused_s"] >= held["paused_s"] + 0.2, "a pause counts while it lasts"
        for path in ("/health/live", "/health/ready", "/metrics", "/v1/batches", "/v1/models", "/"):
            assert service.http.get(path, timeout=5).status_code == 200
        yield body[10:]

    # Its own connection: the one of `service.http` is needed while this request is half sent.
    answer = httpx.post(
        f"http://127.0.0.1:{service.port}/v1/upsample",
        content=in_parts(),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 200
    assert service.until(lambda: service.status(job)["phase"] == "RUNNING")


def test_a_service_without_a_decoder_says_so_and_a_reload_mends_it(
    serve: Callable[..., Any], check: Callable[..., Any], tmp_path: Path, publish_another: Any
) -> None:
    decoders = Registry(tmp_path / "empty registry")
    service = serve(decoders=decoders.root)
    source = service.write_input("in.txt", 3)
    batch = {"input_filepath": str(source), "output_filepath": str(service.data / "out.txt")}
    assert service.http.get("/health/live").status_code == 200
    for answer in (
        service.http.get("/health/ready"),
        service.http.post("/v1/upsample", json={"embedding": [1] * 32}),
        service.http.post("/v1/batches", json=batch),
        service.http.post("/v1/models/reload"),
    ):
        problem = check(answer, 503)
        assert "No decoder is published yet" in problem["detail"]
        assert "embup train" in problem["remedy"]
    assert "No decoder is published yet" in service.http.get("/").text
    assert service.http.get("/v1/models").json()["models"] == []
    version = publish_another(decoders, 0)
    assert service.http.post("/v1/models/reload").json() == {
        "model_version": version,
        "previous_version": None,
        "changed": True,
    }
    assert service.http.get("/health/ready").json()["model_version"] == version
    assert service.http.post("/v1/upsample", json={"embedding": [1] * 32}).status_code == 200
    job = service.submit(source, service.data / "out.txt")
    assert service.final(job)["model_version"] == version


def test_a_batch_keeps_its_decoder_over_a_reload_and_a_crash(
    serve: Callable[..., Any], registry: Registry, tmp_path: Path, publish_another: Any, upsampler: Upsampler
) -> None:
    decoders = Registry(tmp_path / "registry")
    shutil.copytree(registry.root, decoders.root)
    old = upsampler.version
    service = serve(decoders=decoders.root, checkpoint_interval_s=0.1)
    source = service.write_input("in.txt", MANY_ROWS)
    job = service.submit(source, service.data / "out.txt")
    service.until(lambda: service.status(job)["num_records_processed"])
    with socket.create_connection(("127.0.0.1", service.port)) as begun:
        begun.sendall(HALF_A_REQUEST)
        service.until(lambda: service.status(job)["phase"] == "PAUSED")
        new = publish_another(decoders, 7)
        assert service.http.post("/v1/models/reload").json()["model_version"] == new
        answer = service.http.post("/v1/upsample", json={"embedding": [1] * 32}).json()
        assert answer["model_version"] == new
        assert service.status(job)["model_version"] == old
        service.end(signal.SIGKILL)
    service.start()
    assert service.http.get("/health/ready").json()["model_version"] == new
    final = service.final(job)
    assert (final["status"], final["model_version"], final["attempts"]) == ("COMPLETED", old, 2)
    assert digest(service.data / "out.txt") == uninterrupted(source, tmp_path / "whole.txt", upsampler)
    listed = service.http.get("/v1/models").json()
    assert [(entry["version"], entry["in_service"]) for entry in listed["models"]] == [
        (new, True),
        (old, False),
    ]


def test_a_bad_artifact_leaves_the_old_decoder_in_service(
    serve: Callable[..., Any],
    check: Callable[..., Any],
    registry: Registry,
    tmp_path: Path,
    publish_another: Any,
) -> None:
    decoders = Registry(tmp_path / "registry")
    shutil.copytree(registry.root, decoders.root)
    service = serve(decoders=decoders.root)
    old = service.http.get("/health/ready").json()["model_version"]
    new = publish_another(decoders, 7)
    file = decoders.path(new) / "decoder.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    problem = check(service.http.post("/v1/models/reload"), 503)
    assert "SHA-256" in problem["detail"]
    answer = service.http.post("/v1/upsample", json={"embedding": [1] * 32})
    assert answer.json()["model_version"] == old
    ready = service.http.get("/health/ready").json()
    assert ready["model_version"] == old
    assert "SHA-256" in ready["last_reload_failure"]["detail"]
    assert "embup_model_reload_failures_total 1.0" in service.http.get("/metrics").text


def test_a_pointer_to_a_decoder_that_is_gone_shows_and_leaves_the_old_one_in_service(
    serve: Callable[..., Any], check: Callable[..., Any], registry: Registry, tmp_path: Path
) -> None:
    decoders = Registry(tmp_path / "registry")
    shutil.copytree(registry.root, decoders.root)
    service = serve(decoders=decoders.root)
    old = decoders.current_version()
    (decoders.root / "CURRENT").write_text("20200101-000000-00000000\n")
    problem = check(service.http.post("/v1/models/reload"), 503)
    assert problem["type"] == "/problems/invalid-decoder"
    assert "20200101-000000-00000000" in problem["detail"]
    ready = service.http.get("/health/ready").json()
    assert ready["model_version"] == old
    assert "20200101-000000-00000000" in ready["last_reload_failure"]["detail"]
    assert "embup_model_reload_failures_total 1.0" in service.http.get("/metrics").text


@pytest.mark.parametrize("pointer", ["20200101-000000-00000000\n", "nonsense\n", ""])
def test_a_bad_pointer_at_the_start_stops_no_service(
    serve: Callable[..., Any], check: Callable[..., Any], tmp_path: Path, pointer: str, publish_another: Any
) -> None:
    decoders = Registry(tmp_path / "registry")
    decoders.root.mkdir()
    (decoders.root / "CURRENT").write_text(pointer)
    service = serve(decoders=decoders.root)
    assert service.http.get("/health/live").status_code == 200
    problem = check(service.http.get("/health/ready"), 503)
    assert problem["type"] == "/problems/invalid-decoder"
    assert problem["detail"].startswith("CURRENT")
    assert str(decoders.root) not in problem["detail"]
    assert "embup_model_reload_failures_total 1.0" in service.http.get("/metrics").text
    version = publish_another(decoders, 0)
    assert service.http.post("/v1/models/reload").status_code == 200
    ready = service.http.get("/health/ready").json()
    assert (ready["model_version"], ready["last_reload_failure"]) == (version, None)


def test_a_second_service_on_the_same_data_is_refused(serve: Callable[..., Any]) -> None:
    service = serve()
    with pytest.raises(AssertionError, match="is held by another process"):
        type(service)(service.registry, service.data, **service.settings)
    assert service.http.get("/health/live").status_code == 200
    assert service.process.poll() is None


def test_the_job_database_stays_locked_when_the_service_closes_its_file(serve: Callable[..., Any]) -> None:
    """The kernel drops DuckDB's lock when its holder closes any other descriptor of the file."""
    service = serve()
    linked = service.data / "linked.txt"
    linked.hardlink_to(service.data / "jobs" / "jobs.duckdb")
    for source in ("jobs/jobs.duckdb", "linked.txt"):
        answer = service.http.post(
            "/v1/batches", json={"input_filepath": source, "output_filepath": "out.txt"}
        )
        assert answer.status_code == 422
    with pytest.raises(AssertionError, match="is held by another process"):
        type(service)(service.registry, service.data, **service.settings)
    service.restart(signal.SIGKILL)
    assert service.http.get("/health/live").status_code == 200, "a kill leaves no lock behind"


def test_service_and_command_write_the_same_bytes(
    serve: Callable[..., Any], upsampler: Upsampler, tmp_path: Path
) -> None:
    """Neither is told how many rows to decode at once."""
    service = serve()
    source = service.write_input("in.txt", 200)
    assert service.final(service.submit(source, "out.txt"))["phase"] == "COMPLETED"
    run_to_completion(BatchRun(BatchSpec(source, tmp_path / "own.txt"), upsampler))
    assert digest(service.data / "out.txt") == digest(tmp_path / "own.txt")


def test_a_full_disk_of_the_job_database_is_told_in_one_line(
    serve: Callable[..., Any], check: Callable[..., Any]
) -> None:
    """The limit on file sizes stands for the full disk: both refuse the write to the database's log."""
    service = serve()
    source = service.write_input("in.txt", 3)
    unlimited = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    wal = service.data / "jobs" / "jobs.duckdb.wal"
    assert service.final(service.submit(source, "first.txt"))["phase"] == "COMPLETED"
    before = service.log.read_text()
    limit = (max(wal.stat().st_size, len(before) + 2000), unlimited[1])
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, limit)
    wanted = {"input_filepath": str(source), "output_filepath": "refused.txt"}
    problem = check(service.http.post("/v1/batches", json=wanted), 503)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert problem["type"] == "/problems/job-database"
    assert "The job database cannot be written: " in problem["detail"]
    assert "Free space" in problem["remedy"]
    said = service.log.read_text()[len(before) :]
    assert "Traceback" not in said
    assert said.count("the job database cannot be written") == 1, said
    assert service.final(service.submit(source, "second.txt"))["phase"] == "COMPLETED"
    service.restart(signal.SIGKILL)
    outputs = [entry["output_filepath"] for entry in service.http.get("/v1/batches").json()["batches"]]
    assert outputs == [str(service.data / "second.txt"), str(service.data / "first.txt")]


def test_a_port_in_use_is_refused(serve: Callable[..., Any]) -> None:
    service = serve()
    with pytest.raises(AssertionError, match=r"Port \d+ of 127\.0\.0\.1 cannot be listened on"):
        serve(port=service.port)


def test_memory_does_not_grow_with_the_file(serve: Callable[..., Any]) -> None:
    service = serve()

    def peak_mb() -> float:
        with open(f"/proc/{service.process.pid}/status") as status:  # noqa: PTH123
            return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024

    for rows in (500, 500):
        job = service.submit(service.write_input("in.txt", rows), service.data / f"{os.urandom(4).hex()}.txt")
        assert service.final(job)["status"] == "COMPLETED"
    before = peak_mb()
    job = service.submit(service.write_input("long.txt", 20_000), service.data / "long.out.txt")
    final = service.final(job)
    assert (final["status"], final["num_records_processed"]) == ("COMPLETED", 20_000)
    assert peak_mb() - before < 24  # the output has 369 MB


@pytest.mark.parametrize("frozen", [False, True], ids=["working", "frozen"])
def test_no_worker_outlives_its_service(serve: Callable[..., Any], *, frozen: bool) -> None:
    """Killed without a word, in the middle of the work or while a realtime request holds the gate."""
    service = serve(realtime_deadline_s=30, batch_processes=2)
    job = service.submit(service.write_input("in.txt", 30_000), service.data / "out.txt")
    part = service.data / "out.txt.part"
    service.until(lambda: part.exists() and part.stat().st_size > 0)
    family = psutil.Process(service.process.pid).children(recursive=True)
    assert len(family) == 2
    with socket.create_connection(("127.0.0.1", service.port)) as begun:
        if frozen:
            begun.sendall(HALF_A_REQUEST)
            service.until(lambda: service.status(job)["phase"] == "PAUSED")
            service.until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in family))
        service.end(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_a_stop_that_reaches_the_worker_too_is_no_death_of_it(serve: Callable[..., Any]) -> None:
    """A service manager or a shutdown sends the signal to every process at once."""
    service = serve(batch_processes=2)
    job = service.submit(service.write_input("in.txt", 30_000), service.data / "out.txt")
    part = service.data / "out.txt.part"
    for attempt in range(1, 5):
        size = part.stat().st_size if part.exists() else 0
        service.until(lambda size=size: part.exists() and part.stat().st_size > size)
        family = psutil.Process(service.process.pid).children(recursive=True)
        for process in family:
            process.send_signal(signal.SIGTERM)
        assert service.end(signal.SIGTERM) == 0
        service.start()
        status = service.status(job)
        assert (status["status"], status["worker_deaths"]) == ("IN PROGRESS", 0), attempt
    service.http.post(f"/v1/batches/{job}/cancel")


def test_a_worker_that_dies_while_idle_is_no_fault_of_the_next_batch(serve: Callable[..., Any]) -> None:
    service = serve()
    source = service.write_input("in.txt", 300)
    for number in range(4):
        final = service.final(service.submit(source, service.data / f"out {number}.txt"))
        assert (final["phase"], final["worker_deaths"], final["attempts"]) == ("COMPLETED", 0, 1)
        for worker in psutil.Process(service.process.pid).children():
            worker.kill()
            service.until(lambda worker=worker: worker.status() == psutil.STATUS_ZOMBIE)


def test_a_pause_is_seen_by_who_asks_the_history(serve: Callable[..., Any]) -> None:
    service = serve(realtime_deadline_s=30, checkpoint_interval_s=0.1)
    job = service.submit(service.write_input("in.txt", 30_000), service.data / "out.txt")
    service.until(lambda: service.status(job)["num_records_processed"])
    with socket.create_connection(("127.0.0.1", service.port)) as begun:
        begun.sendall(HALF_A_REQUEST)

        def seconds_paused() -> float:
            with duckdb.connect(service.data / "history" / "history.duckdb", read_only=True) as connection:
                found = connection.execute("SELECT paused_s FROM batch_jobs").fetchall()
            return float(found[0][0])

        service.until(lambda: seconds_paused() > 2)
        assert service.status(job)["phase"] == "PAUSED"
    service.http.post(f"/v1/batches/{job}/cancel")
    assert service.final(job)["phase"] == "CANCELLED"


@pytest.mark.parametrize("stuck", [pytest.param("worker", marks=pytest.mark.slow), "helper"])
def test_a_process_that_hangs_holds_up_neither_a_cancellation_nor_a_stop(
    serve: Callable[..., Any], stuck: str
) -> None:
    service = serve(batch_processes=2)
    source = service.write_input("in.txt", 30_000)

    def hang(job: str, target: Path) -> None:
        part = target.with_name(target.name + ".part")
        service.until(lambda: part.exists() and part.stat().st_size > 0)
        (worker,) = psutil.Process(service.process.pid).children()
        (worker if stuck == "worker" else worker.children()[0]).suspend()

    job = service.submit(source, service.data / "cancelled.txt")
    hang(job, service.data / "cancelled.txt")
    service.http.post(f"/v1/batches/{job}/cancel")
    assert service.final(job)["phase"] == "CANCELLED"
    assert not list(service.data.glob("cancelled.txt*"))
    job = service.submit(source, service.data / "stopped.txt")
    hang(job, service.data / "stopped.txt")
    started = time.monotonic()
    assert service.end(signal.SIGTERM) == 0
    assert time.monotonic() - started < 10
    service.start()
    assert service.final(job)["phase"] == "COMPLETED"
