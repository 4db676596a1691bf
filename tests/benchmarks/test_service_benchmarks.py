"""The benchmarks of the service run from end to end, each as one command, and print their figure last."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.usual_loop import usual_loop
from benchmarks.service.server import jittered, registry_and_rows
from embup_core.artifacts.registry import Registry
from embup_core.text import format_rows

ROOT = Path(__file__).parents[2]
SMALL = "sample:400"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, _ = registry_and_rows(None, SMALL, tmp_path_factory.mktemp("made"))
    return made


def lines_of(name: str, *arguments: str | Path) -> list[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def number_before(unit: str, line: str) -> float:
    found = re.search(rf"([-+\d.,]+)\s*{re.escape(unit)}", line)
    assert found, line
    return float(found[1].replace(",", ""))


def test_a_batch_is_measured_beside_its_rivals(registry: Path) -> None:
    head, *lines, figure = lines_of("batch", "--registry", registry, "--rows", "600", "--rounds", "2")
    assert "600 rows, 2 rounds" in head
    rivals = {line[2:18].strip() for line in lines if line.startswith("  ")}
    ours = {"embup", "embup, npy", "embup, parquet"}
    assert rivals == ours | {"usual loop", "plain write", "Polars", "Polars, shortest", "pandas", "orjson"}
    assert figure.startswith("batch: ")
    for unit in ("rows/s", "x usual loop", "x Polars", "x pandas", "x orjson", "x the time of a plain write"):
        assert number_before(unit, figure) > 0


def test_requests_are_measured_alone_and_beside_batches_and_drawn(registry: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    *lines, figure = lines_of(
        "realtime", "--registry", registry, "--rounds", "1", "--seconds", "0.5", "--plot", picture
    )
    assert figure.startswith("realtime p99: ")
    assert number_before("x)", figure) > 0
    measured = {line[:31].strip() for line in lines if " p99 " in line}
    assert measured == {
        "closed, single row",
        "closed, LitServe",
        "closed, FastAPI",
        "closed, no-op",
        "alone",
        "beside a batch",
        "beside a batch, gate off",
        "LitServe alone",
        "LitServe beside the usual loop",
    }
    (gated,) = [line for line in lines if line.startswith("the batch  ")]
    (ungated,) = [line for line in lines if line.startswith("the batch, gate off")]
    assert number_before("% of the time", gated) > 0
    assert "paused" not in ungated
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_stages_of_a_request_are_measured(registry: Path) -> None:
    head, *lines = lines_of("realtime", "--registry", registry, "--rounds", "1", "--stages")
    assert head.split() == ["stage", "us", "x", "no-op"]
    names = [line[:34].strip() for line in lines]
    assert names[:8] == [
        "no-op", "one row", "wait", "parse", "decode", "serialise", "send", "beside the stages",
    ]  # fmt: skip
    of_noop = [float(line.split()[-1]) for line in lines]
    assert of_noop[0] == 1
    assert of_noop[1] > 1


def test_metrics_and_traces_are_measured_against_none(registry: Path) -> None:
    *lines, figure = lines_of("observability", "--registry", registry, "--rounds", "2", "--requests", "20")
    kinds = [line.split("|")[1].strip() for line in lines[-4:]]
    assert kinds == ["off", "off, again", "metrics", "metrics and traces"]
    percent = r"[-+][\d.]+ %"
    found = [f"{kind} {percent}" for kind in kinds[1:]]
    assert re.fullmatch(rf"observability: p50 .*: {', '.join(found)}", figure)


def test_memory_is_measured_over_a_long_batch(registry: Path, tmp_path: Path) -> None:
    *lines, figure = lines_of("memory", "--registry", registry, "--rows", "12000", "--folder", tmp_path)
    assert number_before("MB", next(line for line in lines if line.startswith("   12,000 rows"))) > 20
    assert re.fullmatch(
        r"memory: [-+\d.]+ MB over the batch of .*; last tenth .* x its processor time", figure
    )
    assert not list(tmp_path.iterdir())


def test_a_batch_that_the_disk_has_no_room_for_is_not_begun(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.memory", "--rows", str(10**12), "--folder", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "GB that the files take" in ran.stderr


def test_text_is_measured_on_one_core(registry: Path) -> None:
    *_, figure = lines_of("text")
    assert figure.startswith("text: format ")
    assert number_before("x np.savetxt", figure) > 0


def test_the_usual_loop_writes_what_the_service_writes(registry: Path, tmp_path: Path) -> None:
    rows = jittered(np.eye(32, dtype=np.float32), 600, seed=0)
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(format_rows(rows).tobytes())
    upsampler = Registry(registry).load()
    assert list(usual_loop(upsampler, source, target)) == [256, 512, 600]
    expected, _ = upsampler.upsample(rows)
    assert np.abs(np.loadtxt(target, delimiter=",") - expected).max() < 1e-6


def test_rows_to_send_are_unit_and_the_same_for_the_same_seed() -> None:
    near = np.eye(32, dtype=np.float32)
    rows = jittered(near, 1000, seed=3)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-6
    assert np.array_equal(rows, jittered(near, 1000, seed=3))
    assert len(np.unique(rows, axis=0)) == 1000


def test_requests_that_one_core_answers_in_time_are_counted_beside_peers(registry: Path) -> None:
    *lines, figure = lines_of("capacity", "--registry", registry, "--rounds", "1", "--seconds", "0.3")
    assert {line.split()[0] for line in lines[2:]} == {"embup", "FastAPI", "LitServe"}
    assert number_before("ms at 500/s", figure) > 0
    assert number_before("errors", figure) == 0
