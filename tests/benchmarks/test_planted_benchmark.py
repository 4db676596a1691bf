"""The benchmark of planted defects runs from end to end on generated rows, and says what is missed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

pytestmark = pytest.mark.slow


def test_planted_defects_are_found(tmp_path: Path) -> None:
    """1,600 rows of 96 dimensions: enough to tell wrong rows for certain."""
    rng = np.random.default_rng(0)
    groups = np.arange(1600) // 160
    topics = np.repeat(
        rng.standard_normal((160, 96)) + rng.standard_normal((10, 96))[np.arange(160) // 16], 10, 0
    )
    rows = (topics + 0.7 * rng.standard_normal((1600, 96))) * np.arange(1, 97) ** -0.4 + 0.3
    np.save(tmp_path / "originals.npy", rows.astype(np.float32))
    np.save(tmp_path / "groups.npy", groups)
    command = [
        sys.executable, "-m", "benchmarks.debugger_planted", "--originals", str(tmp_path / "originals.npy"),
        "--groups", str(tmp_path / "groups.npy"), "--group", "3",
    ]  # fmt: skip
    ran = subprocess.run(
        command, cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=300, check=False
    )
    lines = [line.split("|")[1:-1] for line in ran.stdout.splitlines() if line.startswith("| ")][1:]
    found = [tuple(int(cell) for cell in line[1:]) for line in lines]
    assert found[:3] == [(16, 16, 0), (100, 100, 0), (50, 50, 0)], ran.stdout + ran.stderr
    assert [one[:2] for one in found[3:]] == [(1, 1)] * 3, ran.stdout + ran.stderr
    assert ran.returncode == int(any(falsely for *_, falsely in found)), ran.stderr
