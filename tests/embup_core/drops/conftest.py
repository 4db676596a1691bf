"""A place of drops with one accepted first drop, and the rows that later drops are made of."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.drops import DropsFolder, check_drop, keep_verdict
from embup_core.drops.make import make_drop

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.drops import DropReport

    Floats = NDArray[np.float32]

DIMS, SHORT = 48, 12
FIRST, LATER = 500, 200


def unit(rows: NDArray[np.floating]) -> Floats:
    made: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made


@dataclass(frozen=True)
class Rows:
    """Originals (n, DIMS), z (n, SHORT), and z by another map."""

    originals: Floats
    projected: Floats
    by_another_map: Floats


@dataclass(frozen=True)
class Place:
    """A place of drops, and the rows to make more of.

    The first drop, 2026-01, has the first 500 rows; each later one of a test takes rows after them.
    """

    folder: DropsFolder
    rows: Rows

    @property
    def landmark_originals(self) -> Floats:
        numbers = np.load(self.folder.root / "landmarks" / "rows.npy")
        found: Floats = self.rows.originals[numbers]
        return found

    def some(self, start: int = FIRST, count: int = LATER) -> tuple[Floats, Floats]:
        """Copies of originals and z."""
        part = slice(start, start + count)
        return self.rows.originals[part].copy(), self.rows.projected[part].copy()

    def make(self, month: str, originals: Floats, projected: Floats, **given: Any) -> None:
        given.setdefault("landmark_originals", self.landmark_originals)
        make_drop(self.folder, month, projected, originals=originals, **given)

    def check(self, month: str, *, keep: bool = True) -> DropReport:
        checked = check_drop(self.folder, month, output_dims=DIMS)
        if keep:
            keep_verdict(self.folder, checked)
        return checked.report


@pytest.fixture(scope="session")
def rows() -> Rows:
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((200, DIMS)), 10, axis=0)
    originals = unit(
        (topics + 0.5 * rng.standard_normal((2000, DIMS))) * np.arange(1, DIMS + 1) ** -0.7 + 0.1
    )
    originals = originals[rng.permutation(2000)]
    one, other = (rng.standard_normal((DIMS, SHORT)) for _ in range(2))
    return Rows(originals, unit(originals @ one + 0.1), unit(originals @ other + 0.1))


@pytest.fixture(scope="session")
def accepted_first(tmp_path_factory: pytest.TempPathFactory, rows: Rows) -> Path:
    folder = DropsFolder(tmp_path_factory.mktemp("drops"))
    make_drop(folder, "2026-01", rows.projected[:FIRST], originals=rows.originals[:FIRST])
    checked = check_drop(folder, "2026-01", output_dims=DIMS)
    assert checked.report.verdict == "accepted", checked.report.reasons
    keep_verdict(folder, checked)
    return folder.root


@pytest.fixture
def place(tmp_path: Path, accepted_first: Path, rows: Rows) -> Place:
    """Of its own for each test."""
    shutil.copytree(accepted_first, tmp_path / "place")
    return Place(DropsFolder(tmp_path / "place"), rows)
