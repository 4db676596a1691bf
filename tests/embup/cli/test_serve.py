"""`embup serve`: the port it tells, the settings it takes, the way it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=lambda stop: stop.name)
def test_it_tells_its_free_port_answers_and_ends_cleanly(
    stop: signal.Signals, script: Path, registry: Registry, tmp_path: Path
) -> None:
    port_file = tmp_path / "port"
    folders: list[str | Path] = ["--registry", registry.root, "--data", tmp_path]
    with subprocess.Popen(
        [script, "serve", *folders, "--port", "0", "--port-file", port_file],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        try:
            deadline_s = time.monotonic() + 30
            while not port_file.exists() and child.poll() is None and time.monotonic() < deadline_s:
                time.sleep(0.02)
            url = f"http://127.0.0.1:{int(port_file.read_text())}"
            answer = httpx.get(f"{url}/health/ready", trust_env=False)
            child.send_signal(stop)
            printed, _ = child.communicate(timeout=15)
        finally:
            child.kill()
    assert answer.json()["model_version"] == registry.current_version()
    assert child.returncode == 0
    assert "Traceback" not in printed


def test_a_taken_port_is_an_error_that_names_it(
    embup: Callable[..., Any], registry: Registry, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = embup("serve", "--registry", registry.root, "--data", tmp_path, "--port", port)
    assert result.returncode != 0
    assert str(port) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_of_batch_files_that_is_missing_is_an_error_that_names_it(
    embup: Callable[..., Any], registry: Registry, tmp_path: Path
) -> None:
    folders = ("--registry", registry.root, "--data", tmp_path / "data", "--port", "0")
    result = embup("serve", *folders, EMBUP_BATCH_ROOTS=f"{tmp_path}:{tmp_path / 'missing'}")
    assert result.returncode == 2, result.stderr
    assert f"The folder of batch files {tmp_path / 'missing'} cannot be opened" in result.stderr
    assert "EMBUP_BATCH_ROOTS" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_setting_out_of_bounds_is_named(embup: Callable[..., Any], tmp_path: Path) -> None:
    result = embup("serve", "--data", tmp_path, EMBUP_CHUNK_ROWS="0")
    assert result.returncode == 2
    assert "EMBUP_CHUNK_ROWS" in result.stderr
    assert "Traceback" not in result.stderr
