"""Two analyses of one data set: the slice that got worse is named, findings that came and went counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from debugger.comparison import compare
from debugger.runs import run
from embup_core.errors import InputError
from tests.debugger.conftest import quick_analysis

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.debugging.analysis import Analysis, AnnotatedRows


def test_the_slice_that_got_worse_is_named(imported: Path) -> None:
    """400 rows of 20 labels: few of one label, so usages are what is divided."""

    def later(rows: AnnotatedRows, **options: Any) -> Analysis:
        found = quick_analysis(rows, **options)
        forgotten = np.array([usage == "test" for usage in rows.usages or []])
        kept = [one for one in found.findings if one.rows[0] not in (0, 1)]
        fresh = replace(found.findings[0], rows=np.array([99]), title="Row 99.")
        errors = found.scores["pair_error"] * np.where(forgotten, 1.5, 1.0)
        return replace(
            found, scores={**found.scores, "pair_error": errors, "new": errors}, findings=(*kept, fresh)
        )

    run(imported, "chat", analyse=quick_analysis)
    run(imported, "chat", analyse=later)
    found = compare(imported, "chat", 1, 2)
    assert "new" not in found["scores"], "only scores of both are compared"
    worse = [
        (kind, one["partition"], one["name"])
        for kind, scores in found["scores"].items()
        for one in scores["slices"]
        if one["worse"] and one["partition"] != "all"
    ]
    assert worse == [("pair_error", "usage", "test")]
    assert found["scores"]["margin"]["rows_worse"] == 0
    labels = found["findings"]["label_error"]
    assert (labels["before"], labels["after"], labels["new"], labels["gone"]) == (5, 4, 1, 2)
    assert [one["title"] for one in labels["first_new"]] == ["Row 99."]
    back = compare(imported, "chat", 2, 1)
    assert (back["findings"]["label_error"]["new"], back["findings"]["label_error"]["gone"]) == (2, 1)
    with pytest.raises(InputError):
        compare(imported, "chat", 1, 3)


def test_an_analysis_that_is_removed_meanwhile_is_not_there(
    imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(imported, "chat", analyse=quick_analysis)
    monkeypatch.setattr(
        "debugger.comparison.chosen_version",
        lambda folder, version: folder.analysis(version).unlink(missing_ok=True),
    )
    with pytest.raises(InputError):
        compare(imported, "chat", 1, 1)
