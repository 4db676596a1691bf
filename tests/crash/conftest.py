"""What the crash tests share: how much to do, what was done, the service, the bytes that must come out.

Here belongs what two or more of these tests need. Each test drives the real service over HTTP, with a real
database and real files; `EMBUP_CRASH_SCALE` is `small` (the default, a minute in all) or `full`.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import psutil
import pytest

from embup_core.batch import BatchRun, BatchSpec, run_to_completion
from tests.serving.conftest import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embup_core.artifacts.registry import Registry
    from embup_core.upsampler import Upsampler

ROW_BYTES = 1536 * 12
ENDED_WITHIN_S = 10.0


@dataclass(frozen=True)
class Scale:
    """How much each test does at least."""

    kills: int
    worker_kills: int
    submission_kills: int
    publishes: int
    stops: int
    steps: int
    hang_ups: int
    polls: int
    soak_s: float
    publisher_kills: int
    outage_s: float
    every_fault: bool


SCALES = {
    "small": Scale(
        kills=4,
        worker_kills=2,
        submission_kills=8,
        publishes=3,
        stops=2,
        steps=40,
        hang_ups=100,
        polls=300,
        soak_s=8,
        publisher_kills=4,
        outage_s=3,
        every_fault=False,
    ),
    "full": Scale(
        kills=200,
        worker_kills=40,
        submission_kills=500,
        publishes=20,
        stops=100,
        steps=2000,
        hang_ups=1000,
        polls=10_000,
        soak_s=1800,
        publisher_kills=100,
        outage_s=60,
        every_fault=True,
    ),
}


@pytest.fixture(scope="session")
def scale() -> Scale:
    """How much to do: `EMBUP_CRASH_SCALE`, small or full."""
    return SCALES[os.environ.get("EMBUP_CRASH_SCALE", "small")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder, so that `-m "not crash"` leaves it out."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("crash")


# What was done.

_DONE = "done"


@dataclass
class BatchStatistics:
    """Counts what a test really did, and fails it when that was less than promised."""

    counts: Counter[str] = field(default_factory=Counter)
    promised: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, what: str) -> int:
        return self.counts[what]

    def add(self, what: str, count: int = 1) -> None:
        """Count something that was done."""
        self.counts[what] += count

    def require(self, what: str, at_least: int) -> None:
        """Promise how often something is done."""
        self.promised[what] = at_least


@pytest.fixture
def statistics(request: pytest.FixtureRequest) -> Iterator[BatchStatistics]:
    """What this test did; checked against what it promised, and printed at the end of all tests."""
    made = BatchStatistics()
    yield made
    request.node.user_properties.append(
        (_DONE, dict(made.counts))
    )  # goes with the report to the main process
    short = {what: (made[what], least) for what, least in made.promised.items() if made[what] < least}
    assert not short, f"done less than promised (done, promised): {short}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what each crash test really did."""
    reports = [*terminalreporter.getreports(""), *terminalreporter.getreports("error")]
    done = {
        report.nodeid.rpartition("::")[2]: counts
        for report in reports
        if report.when == "teardown"
        for name, counts in report.user_properties
        if name == _DONE
    }
    if done:
        terminalreporter.section("what the crash tests did")
    for name, counts in done.items():
        told = ", ".join(f"{count} {what}" for what, count in counts.items())
        terminalreporter.write_line(f"{name}: {told}")


# The service.


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all inputs."""
    return tmp_path_factory.mktemp("sources")


@pytest.fixture
def serve(registry: Registry, sources: Path, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a service of its own with outputs in its folder `out`; it and its processes end with the test."""
    started: list[Service] = []

    def start(*, decoders: Path | str | None = None, data: Path | None = None, **settings: Any) -> Service:
        data = data or tmp_path / f"data{len(started)}"
        (data / "out").mkdir(parents=True)
        settings = {"batch_roots": f"{data}{os.pathsep}{sources}", "checkpoint_interval_s": 0.05} | settings
        service = Service(decoders or registry.root, data, **settings)
        started.append(service)
        return service

    yield start
    for service in started:
        family = family_of(service)
        service.end(signal.SIGKILL)
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def family_of(service: Service) -> list[psutil.Process]:
    """The processes below the service: workers and their helpers; none where the service has none."""
    found: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(service.process.pid).children(recursive=True)
    return [child for child in found if is_alive(child)]


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs, or stands still, under its own identity."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_service(service: Service, statistics: BatchStatistics) -> None:
    """Kill the service alone, at once; what it had below it must end by itself."""
    family = family_of(service)
    service.end(signal.SIGKILL)
    statistics.add("kill -9 of the service")
    deadline = time.monotonic() + ENDED_WITHIN_S
    while left := [child for child in family if is_alive(child)]:
        assert time.monotonic() < deadline, f"still alive after the service's death: {left}"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def kill() -> Callable[[Service, BatchStatistics], None]:
    """Kill the service and see that nothing of it stays."""
    return kill_service


@pytest.fixture(scope="session")
def family() -> Callable[[Service], list[psutil.Process]]:
    """List the processes below the service."""
    return family_of


def wait_for_rows(service: Service, job: str) -> None:
    """Wait until a batch has more durable rows than now."""
    rows = service.status(job)["num_records_processed"]
    service.until(lambda: service.status(job)["num_records_processed"] > rows)


@pytest.fixture(scope="session")
def await_progress() -> Callable[[Service, str], None]:
    """Wait for a batch to get on."""
    return wait_for_rows


class HalfSent:
    """A realtime request that is begun and holds the gate; `finish` sends the rest of it."""

    BODY = b'{"embedding": [' + b"1," * 31 + b"1]}"

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        head = (
            "POST /v1/upsample HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self.BODY)}\r\n\r\n"
        )
        connection.sendall(head.encode() + self.BODY[:20])

    def finish(self) -> bytes:
        """Send the rest; give the whole answer."""
        self._connection.sendall(self.BODY[20:])
        received = b""
        while some := self._connection.recv(1 << 20):
            received += some
        return received


@contextmanager
def half_a_request(service: Service) -> Iterator[HalfSent]:
    """Hold the gate by a realtime request whose body is begun and not finished."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        begun = HalfSent(connection)
        holding = "embup_gate_realtime_holders 0.0"
        service.until(lambda: holding not in service.http.get("/metrics").text)
        yield begun


@pytest.fixture(scope="session")
def hold_the_gate() -> Callable[[Service], Any]:
    """Begin a realtime request and do not finish it."""
    return half_a_request


# What must come out.


@dataclass(frozen=True)
class Case:
    """An input, and what an uninterrupted run makes of it."""

    source: Path
    on_bad_row: str
    rows: int
    failed_rows: int
    digest: str
    size_bytes: int
    report: bytes | None

    def wanted(self, target: Path, **more: Any) -> dict[str, Any]:
        """The body of the request for it."""
        body = {"input_filepath": str(self.source), "output_filepath": str(target)}
        return body | {"on_bad_row": self.on_bad_row} | more

    def check(self, target: Path) -> None:
        """Check that the output is there, to the byte, with its report and without a part."""
        assert digest_of(target) == self.digest, f"{target} has other bytes than an uninterrupted run"
        report = target.with_name(target.name + ".errors.jsonl")
        assert (report.read_bytes() if report.exists() else None) == self.report
        assert not parts_of(target)


def parts_of(target: Path) -> list[Path]:
    """The part files of an output."""
    return [path for path in target.parent.glob(f"{target.name}*.part*") if path.name.startswith(target.name)]


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="session")
def case(sources: Path, upsampler: Upsampler) -> Callable[..., Case]:
    """Make an input and run it in this process: ``case(rows, bad=0, seed=0)``; the same one is made once.

    With `bad` rows every so often a row is refused and answered by nans.
    """
    made: dict[tuple[int, int, int], Case] = {}

    def make(rows: int, *, bad: int = 0, seed: int = 0, model: Upsampler | None = None) -> Case:
        key = (rows, bad, seed)
        if model is None and key in made:
            return made[key]
        source = sources / f"{rows}-{bad}-{seed}.txt"
        z = np.random.default_rng(seed).normal(size=(rows, 32))
        lines = [",".join(f"{value:.8f}" for value in row) + "\n" for row in z]
        for i in range(bad):
            lines[(i + 1) * rows // (bad + 1)] = f"bad row {i}\n"
        text = "".join(lines)
        if not source.exists():
            source.write_text(text)
        policy = "nan" if bad else "fail"
        whole = sources / f"whole-{os.getpid()}.txt"
        spec = BatchSpec(source, whole, on_bad_row="nan" if bad else "fail")
        run_to_completion(BatchRun(spec, model or upsampler))
        report = spec.errors_path.read_bytes() if bad else None
        found = Case(source, policy, rows, bad, digest_of(whole), whole.stat().st_size, report)
        assert found.size_bytes == rows * ROW_BYTES
        for path in (whole, spec.errors_path):
            path.unlink(missing_ok=True)
        if model is None:
            made[key] = found
        return found

    return make


class Watcher:
    """Looks at output paths all the time: each holds nothing or a whole file, at every look."""

    def __init__(self) -> None:
        self.looks = 0
        self.wrong: list[str] = []
        self._sizes: dict[Path, set[int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher")

    def watch(self, path: Path, *sizes: int) -> None:
        """Look at a path from now on; these are the sizes of whole files."""
        self._sizes = self._sizes | {path: set(sizes)}

    def forget(self, path: Path) -> None:
        """Look no more."""
        self._sizes = {other: sizes for other, sizes in self._sizes.items() if other != path}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert not self.wrong, self.wrong[:5]
        assert self.looks > 0

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            for path, sizes in self._sizes.items():
                try:
                    found = path.stat().st_size
                except FileNotFoundError:
                    continue
                finally:
                    self.looks += 1
                if found not in sizes:
                    self.wrong.append(f"{path} held {found} bytes, a whole one has {sorted(sizes)}")


@pytest.fixture
def watcher(statistics: BatchStatistics) -> Iterator[Watcher]:
    """Watch output paths in a thread; a look at a part of an output fails the test."""
    made = Watcher()
    with made:
        yield made
    statistics.add("looks at output paths", made.looks)


def error_code_of(status: dict[str, Any], *expected: str) -> None:
    """Check the machine-readable reason, where the service tells one."""
    error = status["error"] or {}
    assert error.get("detail"), status
    assert error["code"] in expected, status


@pytest.fixture(scope="session")
def check_code() -> Callable[..., None]:
    """Check why a job failed: ``check_code(status, *codes)``."""
    return error_code_of
