"""The graph trains on a training set of drops as on any source, and keeps its test rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.gate import gate_of
from embup_core.artifacts.manifest import EVALUATION_FILE
from embup_core.artifacts.registry import Registry
from embup_core.drops import DropsFolder, check_drop, keep_verdict, write_training_set
from embup_core.drops.make import make_drop
from pipelines.run import train_and_publish
from tests.embup_core.drops.conftest import DIMS, SHORT, unit

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((130, DIMS)), 10, axis=0)
    scales = np.arange(1, DIMS + 1) ** -0.7
    x = unit((topics + 0.5 * rng.standard_normal((1300, DIMS))) * scales + 0.1)
    z = unit(x @ rng.standard_normal((DIMS, SHORT)) + 0.1)
    place = DropsFolder(tmp_path / "place")
    make_drop(place, "2026-01", z, originals=x, groups=np.arange(1300) // 650)
    keep_verdict(place, check_drop(place, "2026-01", output_dims=DIMS))
    return write_training_set(place, tmp_path / "drops-2026-01").folder


def test_the_graph_trains_on_it(source: Path, tmp_path: Path) -> None:
    result = train_and_publish(
        str(source), tmp_path / "registry", tmp_path / "data", "kriging", output_dims=DIMS
    )
    held_out = np.load(source / "held_out.npy")
    split = Registry(tmp_path / "registry").info(result.version).manifest["split"]
    assert split["held_out"] is True
    assert split["test"] == held_out.sum()
    assert result.evaluation.held_out
    assert "that of the source" in result.basis
    again = train_and_publish(
        str(source), tmp_path / "registry", tmp_path / "data", "kriging", output_dims=DIMS
    )
    folder = Registry(tmp_path / "registry").path(again.version)
    gate = gate_of(json.loads((folder / EVALUATION_FILE).read_bytes()))
    assert gate is not None
    slices = {check["name"] for check in gate["checks"] if check["is_slice"]}
    assert {"group 0", "group 1"} <= slices
