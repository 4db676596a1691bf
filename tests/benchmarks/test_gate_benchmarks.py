"""The benchmarks of the promotion gate and of recall across versions run on a small source."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import gate, versions

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.sources import SourceFiles
    from tests.conftest import AnchoredSource

pytestmark = pytest.mark.slow


def test_replacements_are_promoted_and_held(
    sample_source: SourceFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["--replacements", "2", "--held-out", "150,100", "--shuffled", "0.5", "--json", str(figures)]
    gate.main(["--source", str(sample_source.projected.parent), *arguments])
    found = json.loads(figures.read_text())
    assert len(found) == 2 * 2 * 2
    assert not any(one["passed"] for one in found if one["kind"] == gate.WORSE)
    equal, worse = (
        [one["difference"] for one in found if one["kind"] == kind] for kind in (gate.EQUAL, gate.WORSE)
    )
    assert min(equal) > max(worse)
    assert "| equally good" in capsys.readouterr().out


def test_stored_vectors_are_found_in_the_kept_basis_alone(anchored_source: AnchoredSource) -> None:
    source = anchored_source.files.projected.parent
    [month] = versions.measure(source, "kriging", first=500, month=200, months=1)
    assert month["kept"]["stored"] > month["kept"]["both"] - 0.1
    assert month["kept"]["same_row"] > month["new"]["same_row"]
    assert month["new"]["stored"] < month["kept"]["stored"]
