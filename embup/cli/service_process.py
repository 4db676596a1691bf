"""A service of one's own: `embup serve` as a child process on a free port, stopped when the block ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embup_client import Client
from embup_core.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_S = 30.0
STOP_S = 15.0  # the service promises to be gone in 10


@contextmanager
def service_process(*, registry: Path, data: Path, log: Path) -> Iterator[str]:
    """Start a service, wait until it is ready, and yield its address.

    Parameters
    ----------
    registry
        Folder of published decoders.
    data
        Data folder of the service; batch files may lie below it.
    log
        File that takes what the service prints.

    Raises
    ------
    JobError
        The service ended, or was not ready in time; the message names the log.
    """
    port_file = log.with_suffix(".port")
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "embup.cli", "serve", "--port", "0", "--port-file", str(port_file)]
    command += ["--registry", str(registry), "--data", str(data)]
    with log.open("wb") as printed:
        # Its own session: a Ctrl-C of the terminal must reach this process alone, which stops the child.
        child = subprocess.Popen(  # noqa: S603  the interpreter that runs us, and paths
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _address_when_ready(child, port_file, log)
    finally:
        _stop(child)
        port_file.unlink(missing_ok=True)


def _address_when_ready(child: subprocess.Popen[bytes], port_file: Path, log: Path) -> str:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        if child.poll() is not None:
            raise JobError(
                f"the service ended at once (exit code {child.returncode}).", remedy=f"Its log: {log}"
            )
        if port_file.exists():
            url = f"http://127.0.0.1:{int(port_file.read_text())}"
            with Client(url) as service:
                if service.is_ready():
                    return url
        time.sleep(0.05)
    raise JobError(f"the service was not ready within {START_S:.0f} s.", remedy=f"Its log: {log}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
