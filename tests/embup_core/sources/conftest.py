"""A file server on this machine, and a small valid pair of files to damage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from embup_core.sources import SampleParameters, SourceFiles, generate_sample

sys.path.insert(0, str(Path(__file__).parent))

from file_server import FileServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[FileServer]:
    state = FileServer()
    running = state.start()
    yield state
    running.shutdown()
    running.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the machine must not stand between a test and 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def pair(tmp_path: Path) -> SourceFiles:
    """A valid pair of 200 rows that a test may damage."""
    return generate_sample(tmp_path / "pair", parameters=SampleParameters(rows=200))
