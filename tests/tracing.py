"""strace on processes that run already: what they ask of the kernel is written down, or made to fail."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Sequence


@contextmanager
def traced(pids: Sequence[int], command: Sequence[str], *, end: signal.Signals) -> Iterator[None]:
    """Trace processes while the block runs; skips where that is forbidden.

    Parameters
    ----------
    pids
        Which; every thread of theirs is traced when the block begins.
    command
        strace with its options.
    end
        What ends it: SIGINT lets it write down the last calls, and waits for every thread; SIGKILL does
        neither, and the kernel lets go of them.
    """
    tracer = subprocess.Popen(
        [*command, *(part for pid in pids for part in ("-p", str(pid)))], stderr=subprocess.PIPE, text=True
    )
    try:
        while not all(map(_is_traced, pids)):
            if tracer.poll() is not None:
                assert tracer.stderr is not None
                pytest.skip(f"strace cannot attach: {tracer.stderr.read().strip()}")
            time.sleep(0.005)
        yield
    finally:
        tracer.send_signal(end)
        tracer.communicate()


def _is_traced(pid: int) -> bool:
    for task in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            if "TracerPid:\t0\n" in task.read_text():
                return False
        except OSError:  # a thread that ended meanwhile
            continue
    return True
