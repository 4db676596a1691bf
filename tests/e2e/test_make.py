"""The Makefile as its users meet it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKE = ["make", "--no-print-directory"]


def test_help_is_the_default_and_lists_every_target() -> None:
    printed = subprocess.run(MAKE, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    for target in phony[1].split():
        assert re.search(rf"^  {target} +\S", printed, re.MULTILINE), f"make help does not explain {target}"


@pytest.mark.parametrize(
    ("imitation", "message"),
    [
        ("#!/bin/sh\nexit 1\n", "embup needs Python 3.11 or newer"),
        ('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\n', "sudo apt-get install python3-venv"),
    ],
    ids=["too old", "no venv"],
)
def test_an_unfit_python_is_refused_with_a_remedy(imitation: str, message: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python, apt = tmp_path / "python", tmp_path / "apt-get"
    python.write_text(imitation)
    apt.write_text("#!/bin/sh\nexit 100\n")  # a machine whose packages are out of reach
    for command in (python, apt):
        command.chmod(0o755)
    result = subprocess.run(
        [*MAKE, "venv", f"PYTHON={python}"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert message in result.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "stop",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
    ids=lambda stop: stop.name,
)
def test_one_signal_stops_both_servers_of_dev(stop: signal.Signals, tmp_path: Path) -> None:
    ports = _free_ports(2)
    log = tmp_path / "dev.log"
    with log.open("wb") as printed:
        make = subprocess.Popen(
            [*MAKE, "dev", f"DATA={tmp_path}", f"DAGSTER_PORT={ports[0]}", f"SERVICE_PORT={ports[1]}"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started: list[psutil.Process] = []
    try:
        for path in (f"{ports[0]}/server_info", f"{ports[1]}/health/live"):
            _wait_for_answer(f"http://127.0.0.1:{path}", log)
        started = psutil.Process(make.pid).children(recursive=True)
        # Ctrl-C reaches every process of the terminal's group, a service manager's SIGTERM make alone.
        os.killpg(make.pid, stop) if stop is signal.SIGINT else make.send_signal(stop)
        make.wait(30)
        _, left = psutil.wait_procs(started, timeout=10)
    finally:
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        make.kill()
        make.wait()
    assert len(started) > 2
    assert not left, "a process of make dev outlived it"
    assert "Traceback" not in log.read_text()
    for port in ports:
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for_answer(url: str, log: Path) -> None:
    deadline_s = time.monotonic() + 150
    while time.monotonic() < deadline_s:
        try:
            if httpx.get(url, trust_env=False, timeout=10).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"{url} did not answer:\n{log.read_text()[-3000:]}")
