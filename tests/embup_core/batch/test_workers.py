"""Helper processes: neither side waits for the other for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.batch import BatchRun, BatchSpec, run_to_completion

if TYPE_CHECKING:
    from pathlib import Path

    from tests.embup_core.batch.conftest import RandomMapUpsampler

GOOD = ",".join(["0.5"] * 32)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("bad", "chunk_rows"), [("語" * 3000, 128), ("x" * 5000, 512)])
def test_large_blocks_and_large_answers_cross_without_a_jam(
    tmp_path: Path, random_map: RandomMapUpsampler, bad: str, chunk_rows: int
) -> None:
    """Both are larger than what the system holds between two processes: one must read meanwhile."""
    spec = BatchSpec(tmp_path / "in.txt", tmp_path / "out.txt", "nan")
    spec.input_path.write_text("\n".join([GOOD] * 64 + [bad] * 2000) + "\n", encoding="utf-8")
    run = BatchRun(spec, random_map, workers=1, chunk_rows=chunk_rows)
    run_to_completion(run)
    assert (run.rows, run.failed_rows) == (2064, 2000)
    assert np.isfinite(np.loadtxt(spec.output_path, delimiter=",", max_rows=64)).all()
