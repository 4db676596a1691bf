"""A real service in a process of its own, on a free port, with a small real decoder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from embup_core.artifacts.registry import Registry

CODE = """
import sys
from pathlib import Path
from serving.server import run_server
from serving.settings import ServingSettings
run_server(ServingSettings(), port_file=Path(sys.argv[1]))
"""
WAIT_S = 30.0


class Service:
    """A running service and a client of it."""

    def __init__(self, registry: Path | str, data: Path, **settings: Any) -> None:
        self.registry = registry
        self.data = data
        self.settings = settings
        self.log = data / "service.log"
        self.process: subprocess.Popen[bytes]
        self.http: httpx.Client
        self.port = 0
        data.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        """Start, or start again with the same folders."""
        port_file = self.data / "port"
        port_file.unlink(missing_ok=True)
        settings = {
            "registry": self.registry,
            "data": self.data,
            "batch_roots": self.data,
            "port": 0,
            "model_poll_s": 0,  # tests that watch for newer decoders say so
        } | self.settings
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", CODE, str(port_file)],
                env=os.environ | {f"EMBUP_{name.upper()}": str(value) for name, value in settings.items()},
                stdout=log,
                stderr=log,
            )
        self.until(port_file.exists, or_ended=True)
        self.port = int(port_file.read_text())
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; give the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(WAIT_S)
        self.http.close()
        return code

    def restart(self, how: signal.Signals) -> None:
        """End it and start it again."""
        self.end(how)
        self.start()

    def restart_with(self, **settings: Any) -> None:
        """End it and start it again with other settings."""
        self.end()
        self.settings |= settings
        self.start()

    def until(self, ready: Callable[[], Any], *, or_ended: bool = False) -> Any:
        """Wait for something to become true; give it."""
        deadline = time.monotonic() + WAIT_S
        while not (found := ready()):
            if or_ended and self.process.poll() is not None:
                raise AssertionError(f"the service ended:\n{self.log.read_text()}")
            assert time.monotonic() < deadline, f"nothing came of it:\n{self.log.read_text()[-4000:]}"
            time.sleep(0.01)
        return found

    def write_input(self, name: str, rows: int, *, seed: int = 0) -> Path:
        """Write a file of good rows."""
        path = self.data / name
        z = random_rows(rows, seed=seed)
        path.write_text("".join(", ".join(f"{value:.8f}" for value in row) + "\n" for row in z))
        return path

    def submit(self, source: Path | str, target: Path | str, **more: Any) -> str:
        """Submit a batch that must be accepted; give its id."""
        answer = self.http.post(
            "/v1/batches", json={"input_filepath": str(source), "output_filepath": str(target), **more}
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["batch_request_id"])

    def status(self, batch_request_id: str) -> dict[str, Any]:
        """Ask where a batch stands."""
        answer = self.http.get(f"/v1/batches/{batch_request_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def final(self, batch_request_id: str) -> dict[str, Any]:
        """Wait for a batch's end; give its last status."""

        def ended() -> dict[str, Any] | None:
            found = self.status(batch_request_id)
            return found if found["phase"] in {"COMPLETED", "FAILED", "CANCELLED"} else None

        final: dict[str, Any] = self.until(ended)
        return final


def random_rows(count: int, *, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Unit rows: float64, shape (count, 32), of eight decimals."""
    z = np.random.default_rng(seed).normal(size=(count, 32))
    unit: np.ndarray[Any, np.dtype[np.float64]] = z / np.linalg.norm(z, axis=1, keepdims=True)
    return unit.round(8)


def read_output(path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Read an output file: float64, shape (n, 1536)."""
    return np.loadtxt(path, delimiter=",", ndmin=2)


@pytest.fixture(scope="session")
def service_class() -> type[Service]:
    """For services that live as long as a module's tests."""
    return Service


@pytest.fixture(scope="session")
def shared_service(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that leave it as it was, but for a batch more."""
    service = Service(registry.root, tmp_path_factory.mktemp("service"))
    yield service
    code = service.end()
    assert code == 0, service.log.read_text()
    assert "Traceback" not in service.log.read_text()


@pytest.fixture
def serve(registry: Registry, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a service of its own: ``serve(**settings)``; it is ended with the test."""
    started: list[Service] = []

    def start(*, decoders: Path | str | None = None, **settings: Any) -> Service:
        service = Service(decoders or registry.root, tmp_path / f"data {len(started)}", **settings)
        started.append(service)
        return service

    yield start
    for service in started:
        service.end(signal.SIGKILL)


def problem_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is a whole problem of this status, without a traceback; give it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(answer.content)
    assert found["status"] == status
    assert found["type"].startswith("/problems/")
    assert found["title"]
    assert found["detail"]
    assert found["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return found


@pytest.fixture(scope="session")
def check() -> Callable[[httpx.Response, int], dict[str, Any]]:
    """Check that an answer is a problem."""
    return problem_of


@pytest.fixture(scope="session")
def rows() -> Callable[..., np.ndarray[Any, np.dtype[np.float64]]]:
    """Make unit rows."""
    return random_rows


@pytest.fixture(scope="session")
def output_of() -> Callable[[Path], np.ndarray[Any, np.dtype[np.float64]]]:
    """Read an output file."""
    return read_output
