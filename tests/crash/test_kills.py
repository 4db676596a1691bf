"""kill -9 at random moments: of the service, its worker, the worker's helpers. No row is lost or doubled."""

from __future__ import annotations

import random
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.crash.conftest import BatchStatistics, Case, Scale, Watcher
    from tests.serving.conftest import Service

SEED = 20_261_121
LIVE_JOBS = 3
MOST_WORKER_DEATHS = 2  # the third one of a job ends it


@dataclass
class Job:
    """A batch under fire: what is known of it."""

    batch_request_id: str
    case: Case
    target: Path
    rows: int = 0
    worker_deaths: int = 0
    completed: bool = False

    def look(self, service: Service) -> dict[str, Any]:
        """Ask where it stands, and check that against what was told before."""
        status = service.status(self.batch_request_id)
        assert status["status"] != "FAILED", status
        assert status["num_records_processed"] >= self.rows, "never goes down"
        self.rows = status["num_records_processed"]
        if status["phase"] == "COMPLETED":
            assert self.rows == self.case.rows
            assert status["failed_rows"] == self.case.failed_rows
            if not self.completed:
                self.case.check(self.target)
            self.completed = True
        else:
            assert not self.completed, "a completed batch stays completed"
        return status


def test_batches_come_out_whole_however_often_the_service_and_its_processes_are_killed(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    kill: Callable[[Service, BatchStatistics], None],
    family: Callable[[Service], list[psutil.Process]],
    hold_the_gate: Callable[[Service], Any],
    watcher: Watcher,
    statistics: BatchStatistics,
    scale: Scale,
) -> None:
    chance = random.Random(SEED)
    cases = [case(200), case(1500, bad=7), case(4000), case(2500, bad=40, seed=1)]
    service = serve()
    jobs: list[Job] = []
    ended = 0
    seen_family = False
    statistics.require("kill -9 of the service", scale.kills)
    while statistics["kill -9 of the service"] < scale.kills or (
        seen_family and statistics["kill -9 of a worker or helper"] < scale.worker_kills
    ):
        live = [job for job in jobs if not job.completed]
        for _ in range(LIVE_JOBS - len(live)):
            chosen = cases[len(jobs) % len(cases)]
            target = service.data / "out" / f"{len(jobs)}.txt"
            watcher.watch(target, chosen.size_bytes)
            answer = service.http.post("/v1/batches", json=chosen.wanted(target))
            assert answer.status_code == 202, answer.text
            jobs.append(Job(answer.json()["batch_request_id"], chosen, target))
        held = chance.random() < 0.3
        time.sleep(chance.uniform(0, 0.4))  # the random moment
        with hold_the_gate(service) if held else nullcontext():
            live = [job for job in jobs if not job.completed]
            for job in live:
                job.look(service)
            victims = family(service)
            seen_family = seen_family or bool(victims)
            may_die = all(job.worker_deaths < MOST_WORKER_DEATHS for job in live)
            wanted = statistics["kill -9 of a worker or helper"] < scale.worker_kills
            if victims and may_die and wanted and chance.random() < 0.5:
                # It dies under the job at work; which one that is may change at any moment.
                for job in live:
                    job.worker_deaths += 1
                with suppress(psutil.NoSuchProcess):  # one of an attempt that just ended
                    chance.choice(victims).kill()
                    statistics.add("kill -9 of a worker or helper")
            elif statistics["kill -9 of the service"] < scale.kills or not victims:
                kill(service, statistics)
                statistics.add("of them while a realtime request held the gate", int(held))
                service.start()
        for job in [job for job in jobs[ended:] if not job.completed]:
            job.look(service)
        while ended < len(jobs) and jobs[ended].completed:  # space for the next ones
            done = jobs[ended]
            watcher.forget(done.target)
            for path in done.target.parent.glob(f"{done.target.name}*"):
                path.unlink()
            ended += 1
    if seen_family:
        statistics.require("kill -9 of a worker or helper", scale.worker_kills)
    for job in jobs[ended:]:
        service.final(job.batch_request_id)
        job.look(service)
    assert all(job.completed for job in jobs)
    listed = service.http.get("/v1/batches", params={"limit": 1000}).json()["batches"]
    assert [entry["batch_request_id"] for entry in listed] == [job.batch_request_id for job in jobs[::-1]]
    assert not list(service.data.rglob("*.part*"))
    assert "Traceback" not in service.log.read_text()
    statistics.add("jobs completed", len(jobs))
    statistics.add("attempts", sum(entry["attempts"] for entry in listed))


def test_a_third_death_of_its_worker_fails_one_job_and_the_next_one_completes(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    family: Callable[[Service], list[psutil.Process]],
    await_progress: Callable[[Service, str], None],
    check_code: Callable[..., None],
    watcher: Watcher,
    statistics: BatchStatistics,
    sources: Path,
) -> None:
    long = sources / "long.txt"
    long.write_bytes(case(4000).source.read_bytes() * 15)
    after = case(200)
    service = serve()
    target = service.data / "out" / "long.txt"
    watcher.watch(target)  # nothing, ever
    doomed = service.submit(long, target)
    following = service.data / "out" / "after.txt"
    watcher.watch(following, after.size_bytes)
    next_job = service.submit(after.source, following)
    for _ in range(3):
        await_progress(service, doomed)
        victims = family(service)
        if not victims:
            pytest.skip("this service does its batches without a process of their own")
        for victim in victims:
            with suppress(psutil.NoSuchProcess):  # a worker's death ends its helpers
                victim.kill()
        statistics.add("kill -9 of all workers and helpers")
    status = service.final(doomed)
    assert status["phase"] == "FAILED", status
    check_code(status, "worker_killed")
    assert service.final(next_job)["phase"] == "COMPLETED"
    after.check(following)
    assert not target.exists()
    assert not list(service.data.rglob("*.part*"))
    assert service.process.poll() is None
    statistics.require("kill -9 of all workers and helpers", 3)
