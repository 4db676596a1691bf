"""`embup upsample`: a file in, a file out, or an error that names the line."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from embup_core.upsampler import Upsampler

    Run = Callable[..., subprocess.CompletedProcess[str]]


def _rows(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(count).standard_normal((count, 32)).astype(np.float32)


def _write(path: Path, rows: np.ndarray[Any, np.dtype[np.float32]]) -> Path:
    np.savetxt(path, rows, fmt="%.9g", delimiter=", ")
    return path


def test_every_line_is_upsampled_in_order(
    embup: Run, registry: Registry, upsampler: Upsampler, tmp_path: Path
) -> None:
    rows = _rows(150)
    result = embup(
        "upsample", _write(tmp_path / "in.txt", rows), tmp_path / "out.txt", "--registry", registry.root
    )
    assert result.returncode == 0, result.stderr
    expected, _ = upsampler.upsample(rows)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out.txt", delimiter=","), expected, rtol=0, atol=1e-6)


def test_json_has_the_counts_and_the_version(embup: Run, registry: Registry, tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", _rows(3))
    result = embup("upsample", source, tmp_path / "out.txt", "--registry", registry.root, "--json")
    answer = json.loads(result.stdout)
    assert (answer["rows"], answer["failed_rows"]) == (3, 0)
    assert answer["model_version"] == registry.current_version()
    assert answer["output_filepath"] == str(tmp_path / "out.txt")


def test_a_bad_row_is_named_and_nothing_is_published(embup: Run, registry: Registry, tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", _rows(100))
    lines = source.read_text().splitlines()
    lines[70] = ",".join(["0.5"] * 31)
    source.write_text("\n".join(lines))
    result = embup("upsample", source, tmp_path / "out.txt", "--registry", registry.root)
    assert result.returncode == 2
    assert "line 71" in result.stderr
    assert "31" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_bad_rows_may_become_lines_of_nan(embup: Run, registry: Registry, tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", _rows(5))
    source.write_text(source.read_text() + "x\n")
    options = ("--registry", registry.root, "--on-bad-row", "nan", "--json")
    result = embup("upsample", source, tmp_path / "out.txt", *options)
    assert json.loads(result.stdout)["failed_rows"] == 1
    assert np.isnan(np.loadtxt(tmp_path / "out.txt", delimiter=",")[5]).all()
    [problem] = (tmp_path / "out.txt.errors.jsonl").read_text().splitlines()
    assert json.loads(problem)["line"] == 6


def test_an_existing_output_is_kept_unless_told_otherwise(
    embup: Run, registry: Registry, tmp_path: Path
) -> None:
    source, target = _write(tmp_path / "in.txt", _rows(3)), tmp_path / "out.txt"
    target.write_text("precious")
    result = embup("upsample", source, target, "--registry", registry.root)
    assert result.returncode == 2
    assert "out.txt" in result.stderr
    assert target.read_text() == "precious"
    assert embup("upsample", source, target, "--registry", registry.root, "--overwrite").returncode == 0
    assert target.read_text() != "precious"


def test_a_part_file_that_is_there_is_kept(embup: Run, registry: Registry, tmp_path: Path) -> None:
    source, part = _write(tmp_path / "in.txt", _rows(3)), tmp_path / "out.txt.part"
    part.write_text("precious")
    result = embup("upsample", source, tmp_path / "out.txt", "--registry", registry.root, "--overwrite")
    assert result.returncode == 2
    assert str(part) in result.stderr
    assert part.read_text() == "precious"


def test_columns_in_another_order_are_noted_and_answered(
    embup: Run, registry: Registry, tmp_path: Path, upsampler: Upsampler
) -> None:
    rows, order = _rows(5), sorted(range(32), key=str)
    header = ",".join(f"dim_{place}" for place in order)
    np.savetxt(tmp_path / "in.csv", rows[:, order], fmt="%.9g", delimiter=",", header=header, comments="")
    result = embup("upsample", tmp_path / "in.csv", tmp_path / "out.npy", "--registry", registry.root)
    assert result.returncode == 0
    assert result.stderr.startswith("note: columns 'dim_0' to 'dim_31'")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), upsampler.upsample(rows)[0], atol=1e-6)


def test_a_missing_input_is_bad_input(embup: Run, registry: Registry, tmp_path: Path) -> None:
    result = embup("upsample", tmp_path / "none.txt", tmp_path / "out.txt", "--registry", registry.root)
    assert result.returncode == 2
    assert "none.txt" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_registry_says_how_to_fill_it(embup: Run, tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", _rows(3))
    result = embup("upsample", source, tmp_path / "out.txt", "--registry", tmp_path / "registry")
    assert result.returncode == 2
    assert "embup train" in result.stderr


def test_an_interrupt_leaves_nothing_behind(script: Path, registry: Registry, tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", _rows(20_000))
    folder = tmp_path / "out"
    folder.mkdir()
    with subprocess.Popen(
        [script, "upsample", source, folder / "out.txt", "--registry", registry.root],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        deadline_s = time.monotonic() + 30
        while not any(path.stat().st_size for path in folder.iterdir()) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (130, "interrupted\n")
    assert not any(folder.iterdir())
