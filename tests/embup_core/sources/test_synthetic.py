"""The generated sample: the same bytes each time, alike to real embeddings, kept once made."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from embup_core.sources import SampleParameters, generate_sample, load_projected, validate_pair
from embup_core.sources.synthetic import draw_originals

if TYPE_CHECKING:
    from pathlib import Path

SMALL = SampleParameters(rows=600)


def test_the_same_parameters_give_the_same_bytes(tmp_path: Path) -> None:
    first = generate_sample(tmp_path / "a", parameters=SMALL)
    second = generate_sample(tmp_path / "b", parameters=SMALL)
    assert first.projected.read_bytes() == second.projected.read_bytes()
    assert first.cosines.read_bytes() == second.cosines.read_bytes()


def test_the_number_of_threads_does_not_change_the_bytes(tmp_path: Path) -> None:
    made = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            made.append(generate_sample(tmp_path / str(threads), parameters=SMALL).cosines.read_bytes())
    assert made[0] == made[1]


def test_other_parameters_are_another_sample(tmp_path: Path) -> None:
    first = generate_sample(tmp_path, parameters=SMALL)
    second = generate_sample(tmp_path, parameters=SampleParameters(rows=600, seed=1))
    assert first.projected.parent != second.projected.parent
    assert first.projected.read_bytes() != second.projected.read_bytes()


def test_a_sample_once_made_is_used_again(tmp_path: Path) -> None:
    made = generate_sample(tmp_path, parameters=SMALL).cosines.stat()
    used = generate_sample(tmp_path, parameters=SMALL).cosines.stat()
    assert (made.st_ino, made.st_mtime_ns) == (used.st_ino, used.st_mtime_ns)


def test_an_interrupted_generation_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_sample(tmp_path, parameters=SMALL, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_the_sample_is_valid_training_data_with_the_statistics_of_real_embeddings(tmp_path: Path) -> None:
    files = generate_sample(tmp_path, parameters=SampleParameters(rows=2000))
    profile = validate_pair(files)
    assert profile.rows == 2000
    assert profile.mean_cosine == pytest.approx(0.686, abs=0.01)
    assert profile.cosine_deviation == pytest.approx(0.038, abs=0.005)
    assert load_projected(files.projected).shape == (2000, 32)


def test_the_variance_is_spread_over_hundreds_of_components() -> None:
    x = draw_originals(SampleParameters())
    x -= x.mean(axis=0)
    variances = np.sort(np.linalg.eigvalsh(x.T @ x))[::-1]
    shares = np.cumsum(variances) / variances.sum()
    assert 350 < np.searchsorted(shares, 0.9) < 500
    assert shares[0] < 0.06


def test_nearest_neighbours_are_near() -> None:
    x = draw_originals(SampleParameters())
    cosines = x[:500] @ x.T
    cosines[np.arange(500), np.arange(500)] = -1
    nearest = np.sort(cosines, axis=1)[:, ::-1]
    assert nearest[:, 0].mean() == pytest.approx(0.92, abs=0.03)
    assert nearest[:, 9].mean() == pytest.approx(0.86, abs=0.03)


def test_a_disk_too_small_for_the_matrix_is_said(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from embup_core.sources import resolve_source\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        f"resolve_source('sample:600', cache_dir=Path({str(tmp_path)!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "the sample of 600 rows cannot be written to" in ended.stderr
    assert ended.returncode == 1
    assert not any(tmp_path.iterdir())
