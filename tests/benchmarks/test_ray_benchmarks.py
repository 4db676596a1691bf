"""Parts on Ray, from end to end: a cluster of three nodes that loses one, and one of workers that sleep."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from embup_core.artifacts.registry import Registry

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def lines_of(name: str, *arguments: str | Path) -> list[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_cluster_that_loses_a_node_decodes_every_row_once(registry: Registry) -> None:
    """The benchmark ends with an error where rows or manifest are not those of the one file."""
    *lines, figure = lines_of(
        "ray_parts", "--registry", registry.root, "--rows", "24000", "--parts", "24", "--rounds", "1"
    )
    assert any("one killed: every row once, manifest right" in line for line in lines)
    assert re.fullmatch(r"ray parts: \d\.\d+ x one file, the folder without Ray \d\.\d+ x", figure)


def test_one_driver_is_measured_with_workers_that_sleep() -> None:
    *lines, figure = lines_of(
        "ray_scaling", "--workers", "2,4", "--nodes", "2", "--parts-each", "5", "--part-s", "0.5",
        "--lengths", "0.2",
    )  # fmt: skip
    rows = [line.split("|") for line in lines if line.startswith("| ") and "cores" not in line]
    assert [(int(row[1]), float(row[2].split()[0])) for row in rows] == [(2, 0.5), (4, 0.5), (4, 0.2)]
    assert all(0 < float(row[5]) <= 1 for row in rows)
    assert figure.startswith("ray scaling: efficiency at least 0.")
