"""A small year in a bucket, from the sensor to the messages, ends as planted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.year.__main__ import main
from benchmarks.year.rows import Year

if TYPE_CHECKING:
    from pathlib import Path

DIMS = 48


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_year_ends_as_planted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((400, DIMS)), 10, axis=0)
    x = (topics + 0.5 * rng.standard_normal((4000, DIMS))) * np.arange(1, DIMS + 1) ** -0.7 + 0.1
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    given = [
        "--originals",
        str(tmp_path / "x.npy"),
        "--first-rows",
        "1000",
        "--folder",
        str(tmp_path / "year"),
    ]
    code = main([*given, "--plot", str(tmp_path / "year.png"), "--json", str(tmp_path / "year.json")])
    printed = capsys.readouterr().out
    assert code == 0, printed
    lines = [line for line in printed.splitlines() if line.startswith("2025-") or "2025-" in line[:12]]
    assert len(lines) == 12
    assert (tmp_path / "year.png").read_bytes().startswith(b"\x89PNG")
    assert '"differences": []' in (tmp_path / "year.json").read_text()


def test_months_have_rows_of_their_own() -> None:
    year = Year(np.eye(100, DIMS, dtype=np.float32) + 0.1, first_rows=45)
    rows = [row for month in range(1, 13) for row in year.rows_of(month).tolist()]
    assert len(rows) == len(set(rows)) == 100
    assert [year.name(month) for month in (1, 12)] == ["2025-01", "2025-12"]
