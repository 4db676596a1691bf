"""docs/how-to/export-to-stores.md is run, on rows that no decoder was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from types import SimpleNamespace

    from embup_core.artifacts.registry import Registry
    from tests.conftest import AnchoredSource

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "export-to-stores.md"


@pytest.mark.timeout(300)
def test_the_commands_and_the_python_of_the_page_do_what_they_show(
    anchored_registry: Registry,
    anchored_source: AnchoredSource,
    tmp_path: Path,
    pages: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(anchored_registry.root, tmp_path / "data" / "registry")
    z = anchored_source.unseen_projected
    table = pa.table(
        {
            "key": [f"document {row}" for row in range(len(z))],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(z.reshape(-1)), z.shape[1]),
            "language": ["en" if row % 2 else "de" for row in range(len(z))],
            "year": [2000 + row % 20 for row in range(len(z))],
        }
    )
    pq.write_table(table, tmp_path / "archive.parquet")
    np.save(tmp_path / "short.npy", z[1:2])
    np.save(tmp_path / "query.npy", anchored_source.unseen_originals[0])
    monkeypatch.chdir(tmp_path)
    place = pages.Place(tmp_path, 8000)
    blocks = pages.parse_blocks(PAGE.read_text())
    for step in (step for block in blocks if block.reason is None for step in block.steps):
        done = pages.run(step, place)
        assert done.returncode == 0, done.stderr
    pages.run_session(PAGE, {}, place)
    assert (tmp_path / "stores" / "faiss" / "index.faiss").exists()
