"""The tutorial is run: what it shows is what happens. `conftest.py` has the convention.

The working folder's `data/registry` holds a small decoder already, and a real service runs on `data/`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embup.cli.service_process import service_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import SimpleNamespace

    from embup_core.artifacts.registry import Registry

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "getting-started.md"


@pytest.fixture(scope="module")
def place(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory, pages: SimpleNamespace
) -> Iterator[Any]:
    """A working folder with a decoder in it and a service beside it."""
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(registry.root, folder / "data" / "registry", symlinks=True)
    with service_process(
        registry=folder / "data" / "registry", data=folder / "data", log=folder / "service.log"
    ) as url:
        yield pages.Place(folder, int(url.rpartition(":")[2]))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_block_of_the_tutorial_does_what_it_shows(block: Any, place: Any, pages: SimpleNamespace) -> None:
    pages.check(PAGE, block, place)
