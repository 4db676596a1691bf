"""Commands are run as people run them: the installed `embup` script, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from embup.cli.service_process import service_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embup_core.artifacts.registry import Registry


@pytest.fixture(scope="session")
def script() -> Path:
    """The installed command, for tests that start it and look at it while it runs."""
    return Path(sys.executable).parent / "embup"


@pytest.fixture(scope="session")
def embup(script: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run one command to its end; both outputs are caught."""

    def run(
        *arguments: object, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EMBUP_")}
        return subprocess.run(
            [script, *map(str, arguments)],
            cwd=cwd,
            env=inherited | {"OMP_NUM_THREADS": "1"} | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the service; batch files may lie below it."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def url(registry: Registry, data: Path) -> Iterator[str]:
    """Address of a real service."""
    with service_process(registry=registry.root, data=data, log=data / "service.log") as address:
        yield address
