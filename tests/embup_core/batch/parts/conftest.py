"""A folder of parts, and calls that decode it; some die on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.batch.parts import PartsSummary, upsample_parts
from embup_core.batch.parts.work import PartWork

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.artifacts.registry import Registry

ROWS = {"a.npy": 130, "b.txt": 3, "c.npy": 257}


class KilledError(BaseException):
    """The driver's end."""


def rows_of(name: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(sum(name.encode()))
    return rng.standard_normal((ROWS[name], 32)).astype(np.float32)


def write(folder: Path, name: str) -> None:
    if name.endswith(".npy"):
        np.save(folder / name, rows_of(name))
    else:
        np.savetxt(folder / name, rows_of(name), fmt="%.9g", delimiter=",")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ROWS:
        write(folder, name)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def run(source: Path, target: Path, registry: Registry) -> Callable[..., PartsSummary]:
    def call(**options: Any) -> PartsSummary:
        return upsample_parts(source, target, registry=registry.root, **options)

    return call


@pytest.fixture
def dies_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """End the driver, as a kill would, when a part's turn has come."""

    real = PartWork.__call__

    def arrange(name: str) -> None:
        def call(work: PartWork, part: str) -> Any:
            if part == name:
                raise KilledError
            return real(work, part)

        monkeypatch.setattr(PartWork, "__call__", call)

    return arrange


def killed(call: Callable[[], object]) -> None:
    with pytest.raises(KilledError):
        call()
