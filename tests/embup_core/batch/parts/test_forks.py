"""Forked processes: results as they come, a process that is killed, and a caller that ends early."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os, signal, sys, tempfile, time
from embup_core.batch.parts.forks import forked
from embup_core.errors import JobError

def work(name):
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    with tempfile.TemporaryDirectory():
        time.sleep(60 if name == "long" else 0.1)
    return name, os.getpid()

names = sys.argv[2:]
try:
    coming = forked(work, names, workers=int(sys.argv[1]))
    found = [next(coming) for _ in range(sum(name != "long" for name in names))]
    coming.close()
except JobError:
    print("JobError")
else:
    print(*sorted(name for name, _ in found), any(pid == os.getpid() for _, pid in found))
"""


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ("1 a b c", "a b c True"),
        ("2 a b c", "a b c False"),
        ("2 a killed b c", "JobError"),
        ("2 long a b long long", "a b False"),
    ],
)
def test_results_come_from_processes_that_end_with_the_call(
    arguments: str, printed: str, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments.split()],
        capture_output=True, text=True, timeout=30, check=False, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert (ran.stdout.strip(), ran.stderr) == (printed, "")
    assert not list(tmp_path.iterdir())
