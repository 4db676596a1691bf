"""docs/how-to/search-with-original-vectors.md is run, on rows that no decoder was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from types import SimpleNamespace

    from embup_core.artifacts.registry import Registry
    from tests.conftest import AnchoredSource

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "search-with-original-vectors.md"


@pytest.mark.timeout(300)
def test_the_commands_and_the_python_of_the_page_do_what_they_show(
    anchored_registry: Registry,
    anchored_source: AnchoredSource,
    tmp_path: Path,
    pages: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(anchored_registry.root, tmp_path / "data" / "registry")
    for name, rows in (
        ("rows.npy", anchored_source.unseen_projected),
        ("originals.npy", anchored_source.unseen_originals),
        ("archive.npy", anchored_source.unseen_projected),
        ("query.npy", anchored_source.unseen_originals[0]),
    ):
        np.save(tmp_path / name, rows)
    monkeypatch.chdir(tmp_path)
    place = pages.Place(tmp_path, 8000)
    anchor, upsample = (step for block in pages.parse_blocks(PAGE.read_text()) for step in block.steps)
    done = pages.run(anchor, place)
    assert done.returncode == 0, done.stderr
    pages.run_session(PAGE, {}, place)
    by_python = np.load(tmp_path / "index.npy")
    done = pages.run(upsample, place)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "index.npy"), by_python, atol=1e-6)
