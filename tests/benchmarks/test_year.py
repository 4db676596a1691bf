"""A small year ends as planted; the command prints a line for each month."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.year import DUPLICATES, MISMATCHED, OTHER_MAP, SHUFFLED, Year, cells, run_year, score_versions
from embup_core.drops.report import Verdict

if TYPE_CHECKING:
    from pathlib import Path

DIMS = 48


def test_what_is_planted_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((280, DIMS)), 10, axis=0)
    x = (topics + 0.5 * rng.standard_normal((2800, DIMS))) * np.arange(1, DIMS + 1) ** -0.7 + 0.1
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    year = Year.of(tmp_path / "x.npy", first_rows=700)
    year.months = 10  # the months cut so are smaller than the last two would leave
    results = dict(enumerate(run_year(year, tmp_path, decoder="linear_residual", output_dims=DIMS), start=1))
    assert all(right for _, _, right in results.values())
    verdicts = {month: result.report.verdict for month, (_, result, _) in results.items()}
    assert verdicts[MISMATCHED] == Verdict.quarantine
    assert verdicts[SHUFFLED] == verdicts[OTHER_MAP] == Verdict.refused
    assert len(results[MISMATCHED][1].report.quarantined) == len(year.planted[MISMATCHED]) > 3
    assert len(results[DUPLICATES][1].report.duplicates) == len(year.planted[DUPLICATES]) > 30
    trained = [result.training_set.rows for _, result, _ in results.values() if result.training_set]
    assert trained == sorted(trained)
    assert len(trained) == 8
    scores = score_versions(list(results.values()))
    assert len(scores) == 8
    assert scores["2026-10"].r2 > scores["2026-01"].r2 > 0
    assert 0 < scores["2026-10"].recall_at_10 < 1
    name, result, right = results[1]
    assert cells(name, result, scores[name], as_planted=right)[:2] == ["2026-01", "700"]
