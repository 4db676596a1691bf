"""docs/how-to/client.md is run: its Python blocks in order, in one session, beside a real service.

A block ```` ```text ```` is what the block before it prints, compared as the other pages' output is.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import embup_client
from embup.cli.service_process import service_process

if TYPE_CHECKING:
    from types import SimpleNamespace

    from embup_core.artifacts.registry import Registry

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "client.md"


@pytest.mark.timeout(300)
def test_the_examples_of_the_page_do_what_they_show(
    registry: Registry, tmp_path: Path, pages: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(registry.root, tmp_path / "data" / "registry", symlinks=True)
    monkeypatch.chdir(tmp_path)
    session: dict[str, Any] = {}
    with service_process(
        registry=Path("data/registry"), data=Path("data"), log=tmp_path / "service.log"
    ) as url:
        monkeypatch.setenv("EMBUP_SERVICE_URL", url)
        place = pages.Place(tmp_path, int(url.rpartition(":")[2]))
        pages.run_session(PAGE, session, place)
    assert "asyncio" in session


def test_every_method_and_every_error_stands_on_the_page() -> None:
    page = PAGE.read_text()
    methods = [name for name in vars(embup_client.Client) if not name.startswith("_")]
    errors = [name for name in embup_client.__all__ if name.endswith("Error") and name != "BatchError"]
    missing = [name for name in (*methods, *errors) if not re.search(rf"\b{name}\b", page)]
    assert missing == []
