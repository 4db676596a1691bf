"""docs/how-to/keep-stored-vectors-comparable.md is run, on two deliveries of one archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.sources import COSINES_FILE, PROJECTED_FILE

if TYPE_CHECKING:
    from types import SimpleNamespace

    from tests.conftest import AnchoredSource

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "keep-stored-vectors-comparable.md"


@pytest.mark.timeout(300)
def test_the_commands_and_the_python_of_the_page_do_what_they_show(
    anchored_source: AnchoredSource,
    tmp_path: Path,
    pages: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    projected, cosines = np.load(anchored_source.files.projected), np.load(anchored_source.files.cosines)
    np.save(tmp_path / "archive.npy", anchored_source.unseen_projected)
    for name, rows in (("2026-01", np.arange(500)), ("2026-02", np.random.default_rng(0).permutation(800))):
        folder = tmp_path / "deliveries" / name
        folder.mkdir(parents=True)
        np.save(folder / PROJECTED_FILE, projected[rows])
        np.save(folder / COSINES_FILE, cosines[np.ix_(rows, rows)])
    monkeypatch.chdir(tmp_path)
    place = pages.Place(tmp_path, 8000)
    first, second, listed = (
        step for block in pages.parse_blocks(PAGE.read_text()) if block.reason is None for step in block.steps
    )
    done = pages.run(first, place)
    assert done.returncode == 0, done.stderr
    done = pages.run(second, place)
    assert done.returncode == 0, done.stderr
    new, old = Registry(tmp_path / "data" / "registry").version_names()
    assert f"kept from {old}" in done.stdout
    models = pages.run(listed, place).stdout.splitlines()
    shared = {line.split()[-2 if line.endswith("current") else -1] for line in models[1:]}
    assert len(shared) == 1
    assert models[1].startswith(new)
    pages.run_session(PAGE, {}, place)
