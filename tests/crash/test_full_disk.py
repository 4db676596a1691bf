"""No space left, really: a small disk, or a limit on file sizes, under the output and the job database."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx
    import psutil

    from tests.crash.conftest import BatchStatistics, Case, Watcher
    from tests.serving.conftest import Service

MEGABYTE = 1 << 20
MOST_SUBMISSIONS = 400
REFUSALS = 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path, int], bool]]:
    """Mount a disk of some bytes: ``small_disk(folder, size_bytes)`` tells whether that is allowed here."""
    mounted: list[Path] = []

    def mount(folder: Path, size_bytes: int) -> bool:
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            return False
        mounted.append(folder)
        return True

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def limit_file_sizes(service: Service, family: list[psutil.Process], size_bytes: int) -> None:
    """Refuse the service and its processes files longer than this."""
    for pid in [service.process.pid, *(child.pid for child in family)]:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


@pytest.mark.parametrize("limited_by", ["disk", "file size"])
def test_a_batch_without_space_fails_with_the_reason_and_a_later_one_completes(
    limited_by: str,
    serve: Callable[..., Service],
    case: Callable[..., Case],
    family: Callable[[Service], list[psutil.Process]],
    hold_the_gate: Callable[[Service], Any],
    check_code: Callable[..., None],
    small_disk: Callable[[Path, int], bool],
    watcher: Watcher,
    statistics: BatchStatistics,
) -> None:
    some, small = case(800), case(200)
    service = serve()
    folder = service.data / "out" / "small"
    if limited_by == "disk" and not small_disk(folder, some.size_bytes * 3 // 2):
        pytest.skip("mounting a disk is for root")
    folder.mkdir(exist_ok=True)
    first, second, third = (folder / f"{number}.txt" for number in range(3))
    with hold_the_gate(service):  # both are accepted while there is space for either
        watcher.watch(first, small.size_bytes if limited_by == "file size" else some.size_bytes)
        whole = small if limited_by == "file size" else some
        first_job = service.submit(whole.source, first)
        watcher.watch(second)  # nothing, ever
        second_job = service.submit(some.source, second)
        if limited_by == "file size":
            limit_file_sizes(service, family(service), some.size_bytes // 2)
    assert service.final(first_job)["phase"] == "COMPLETED"
    whole.check(first)
    status = service.final(second_job)
    assert status["phase"] == "FAILED", status
    check_code(status, *(["no_space"] if limited_by == "disk" else ["no_space", "output_unusable"]))
    assert ("No space left" if limited_by == "disk" else "File too large") in status["error"]["detail"]
    assert status["error"]["remedy"]
    assert not second.exists()
    assert not list(folder.glob("*.part*"))
    assert service.http.get("/health/ready").status_code == 200
    first.unlink()
    if limited_by == "file size":
        limit_file_sizes(service, family(service), resource.RLIM_INFINITY)
    watcher.watch(third, some.size_bytes)
    later = service.submit(some.source, third)
    assert service.final(later)["phase"] == "COMPLETED"
    some.check(third)
    assert service.process.poll() is None
    assert "Traceback" not in service.log.read_text()
    statistics.add("batches without space")


def test_a_full_disk_under_the_database_loses_nothing_and_space_heals_it(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    await_progress: Callable[[Service, str], None],
    small_disk: Callable[[Path, int], bool],
    watcher: Watcher,
    statistics: BatchStatistics,
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    if not small_disk(data / "jobs", 4 * MEGABYTE):
        pytest.skip("mounting a disk is for root; tests/serving has the same with a limit on file sizes")
    statistics.require("times the disk was full", 2)
    some, small = case(4000), case(2)
    service = serve(data=data)
    acknowledged: list[str] = []
    for round_number in range(2):
        target = data / "out" / f"long {round_number}.txt"
        watcher.watch(target, some.size_bytes)
        long = service.submit(some.source, target)
        acknowledged.append(long)
        await_progress(service, long)
        ballast = fill(data / "jobs")
        acknowledged += submit_until_refused(service, small, f"full {round_number}", statistics)
        statistics.add("times the disk was full")
        assert service.http.get("/health/live").status_code == 200
        if round_number == 1:  # and it dies in this state
            service.end(signal.SIGKILL)
            ballast.unlink()
            service.start()
        else:
            ballast.unlink()
        after = data / "out" / f"after {round_number}.txt"
        acknowledged.append(submit_once_there_is_space(service, small.wanted(after)))
        for job in acknowledged:
            assert service.final(job)["phase"] == "COMPLETED", service.status(job)
        some.check(target)
        small.check(after)
        assert service.http.get("/health/ready").status_code == 200
    service.restart(signal.SIGKILL)
    for job in acknowledged:
        assert service.status(job)["phase"] == "COMPLETED"
    statistics.add("acknowledged submissions", len(acknowledged))


def fill(folder: Path) -> Path:
    """Take all space of the folder's disk, to the last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size_bytes in (MEGABYTE, 4096, 1):
            try:
                while file.write(b"\0" * size_bytes) == size_bytes:
                    pass
            except OSError:
                continue
    return ballast


def submit_until_refused(service: Service, small: Case, name: str, statistics: BatchStatistics) -> list[str]:
    """Submit until the full disk has refused some; give what was acknowledged."""
    found: list[str] = []
    refused = 0
    for i in range(MOST_SUBMISSIONS):
        target = service.data / "out" / f"{name} {i}.txt"
        answer = service.http.post("/v1/batches", json=small.wanted(target))
        if accepted(answer):
            found.append(answer.json()["batch_request_id"])
            continue
        assert answer.json()["type"] == "/problems/job-database", answer.text
        assert "Free space" in answer.json()["remedy"]
        refused += 1
        if refused == REFUSALS:
            break
    assert refused == REFUSALS
    statistics.add("submissions refused for want of space", refused)
    statistics.add("submissions acknowledged while the disk was full", len(found))
    return found


def submit_once_there_is_space(service: Service, wanted: dict[str, Any]) -> str:
    """Submit until it is acknowledged; give its id."""
    answer: httpx.Response = service.until(lambda: accepted(service.http.post("/v1/batches", json=wanted)))
    return str(answer.json()["batch_request_id"])


def accepted(answer: httpx.Response) -> httpx.Response | None:
    """Give the answer when it accepts, nothing when it refuses with 503."""
    assert answer.status_code in {202, 503}, answer.text
    return answer if answer.status_code == 202 else None
