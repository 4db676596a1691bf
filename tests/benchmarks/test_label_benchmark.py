"""The benchmark of label errors runs from end to end on a folder of generated rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.slow


def test_planted_errors_are_ranked_and_labels_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 300)
    np.save(tmp_path / "features.npy", rng.standard_normal((3, 12))[codes] + rng.standard_normal((300, 12)))
    np.save(tmp_path / "labels.npy", codes)
    written = tmp_path / "figures.json"
    command = [
        sys.executable, "-m", "benchmarks.label_errors", "--data", str(tmp_path), "--seeds", "0",
        "--shares", "0.1", "--start", "20", "--step", "10", "--rounds", "2",
        "--learning-seeds", "0,1", "--reviewed", "30", "--json", str(written),
        "--plot", str(tmp_path / "plot.png"),
    ]  # fmt: skip
    ran = subprocess.run(
        command, cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads(written.read_text())
    assert figures["labels"] == [20, 30, 40]
    for by_kind in figures["errors"].values():
        assert all(0.2 < value <= 1 for values in by_kind.values() for value in values)
    orders = ["nothing", "30 rows at random", "the first 30 by label_error", "all rows"]
    assert list(figures["reviewed"]) == orders
    assert all(0.9 < value <= 1 for values in figures["reviewed"].values() for value in values)
    assert {len(runs) for runs in figures["learning"].values()} == {2}
    names = [line.split("|")[1].strip() for line in ran.stdout.splitlines() if line.startswith("|")]
    assert {"self-confidence", "label_error", "random", "suggested"} <= set(names)
