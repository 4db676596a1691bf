"""The benchmarks of decoders run from end to end and print a line for each thing they measure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embup_core.sources.synthetic import SampleParameters, draw_originals

ROOT = Path(__file__).parents[2]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.slow


def lines_of(name: str, cache: Path, *arguments: str) -> list[list[str]]:
    """Cells of the printed table, its head first; every line is as wide as every other."""
    return printed_lines(name, "--cache", str(cache), *arguments)


def printed_lines(name: str, *arguments: str) -> list[list[str]]:
    """As `lines_of`, for a benchmark that takes no cache."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    ran = subprocess.run(
        command, cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stderr
    head, rule, *lines = ran.stdout.splitlines()
    assert {len(line) for line in lines} == {len(head)} == {len(rule)}
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *lines)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_decoders_are_measured_over_seeds(cache: Path, tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    (_, *columns), *lines = lines_of(
        "decoders", cache, "--source", "sample:400", "--rows", "300", "--seeds", "0,1",
        "--decoders", "kriging,linear_residual", "--json", str(written),
    )  # fmt: skip
    assert {name for name, *_ in lines} == {
        "projected_cosines", "constant_mean", "linear_residual", "kriging",
    }  # fmt: skip
    runs = json.loads(written.read_text())["runs"]
    shown = {name: dict(zip(columns, cells, strict=True)) for name, *cells in lines}
    for name, pair in runs.items():
        assert len(pair) == 2
        first, second = (run["R2"] for run in pair)
        mean, spread = map(float, shown[name]["R2"].split(" ± "))
        assert mean == pytest.approx((first + second) / 2, abs=6e-4)
        assert spread == pytest.approx(abs(first - second) / 2**0.5, abs=6e-4)
    assert shown["constant_mean"]["fit s"] == "-"
    assert runs["kriging"][0]["MB"] > runs["linear_residual"][0]["MB"]


def test_growth_is_measured_on_real_and_generated_rows(cache: Path) -> None:
    (_, *columns), *lines = lines_of(
        "scale", cache, "--source", "sample:400", "--decoder", "metric_kriging", "--set", "steps=3",
        "--rows", "200", "--generated", "500",
    )  # fmt: skip
    assert [(kind, rows) for kind, rows, *_ in lines] == [
        ("real", "200"), ("generated", "500"),
    ]  # fmt: skip
    for _, *cells in lines:
        assert float(cells[columns.index("step ms")]) > 0
    small, large = (float(cells[-1]) for cells in lines)
    assert large > small  # its rows are in the artifact


def test_storage_is_measured_beside_the_student(cache: Path) -> None:
    (_, *columns), *lines = lines_of(
        "storage", cache, "--source", "sample:400", "--set", "epochs=2", "--set", "teacher_epochs=2",
        "--set", "examples=500", "--set", "width=64",
    )  # fmt: skip
    names = [name for name, *_ in lines]
    assert names[0] == "mixture_kriging, float32"
    assert names[-1] == "student"
    cells = {(name, *line[:1]): dict(zip(columns, line, strict=True)) for name, *line in lines}
    full, least = cells["mixture_kriging, float32", "exact"], cells["mixture_kriging, int8", "exact"]
    assert float(least["MB"]) < float(full["MB"])
    assert abs(float(least["R2 lost"])) < 0.01
    assert full["recall"] == "1.0000"


def test_indexes_are_compared_on_decoded_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "originals.npy", draw_originals(SampleParameters(rows=950)))
    (_, *columns), *lines = printed_lines(
        "indexes", "--originals", str(tmp_path / "originals.npy"), "--decoder", "kriging",
        "--fit", "500", "--queries", "50", "--documents", "0", "--rounds", "1",
    )  # fmt: skip
    shown = {name: dict(zip(columns, cells, strict=True)) for name, *cells in lines}
    recall = {name: float(cells["recall, decoded"]) for name, cells in shown.items()}
    size = {name: int(cells["bytes a vector"].replace(",", "")) for name, cells in shown.items()}
    assert recall["exact, float32"] == 1
    assert size["exact, float32"] in range(4 * 1536, 4 * 1536 + 10)
    assert size["z alone"] in range(4 * 32, 4 * 32 + 10)
    assert recall["exact, int8"] > 0.9
    assert recall["z, 100 decoded for a query"] > recall["z alone"]
    assert max(float(cells["recall, originals"]) for cells in shown.values()) < 1
