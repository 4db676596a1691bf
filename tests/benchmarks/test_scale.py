"""What benchmarks say of memory is that of the process that was measured."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

MEASURED = "from benchmarks.scale import highest_bytes; print(highest_bytes())"


def test_the_memory_of_who_started_a_process_is_not_counted() -> None:
    held = np.ones(100_000_000)  # 800 MB
    answer = subprocess.run([sys.executable, "-c", MEASURED], stdout=subprocess.PIPE, check=True, text=True)
    assert 10_000_000 < int(answer.stdout) < held.nbytes / 2
