"""A new version is compared with the one before, as far as that can be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.evaluation import Intervals, PairScores, Scores
from embup_core.manifest import manifest_bytes
from embup_core.registry import Registry
from embup_core.replacement import Replaced

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def scores(r2: float) -> Scores:
    pairs = PairScores(pairs=10, rmse=0.03, mae=0.02, bias=0.0, r2=r2, spearman=0.5)
    return Scores(pairs, None, 0.4, intervals=Intervals((r2 - 0.02, r2 + 0.02), (0, 1), None, rows=10))


def test_nothing_published_is_nothing_replaced(tmp_path: Path) -> None:
    assert Replaced.latest(Registry(tmp_path)) is None


def test_the_latest_is_what_its_manifest_says(registry: Registry) -> None:
    replaced = Replaced.latest(registry)
    assert replaced is not None
    manifest = registry.info(registry.latest_version()).manifest
    assert (replaced.version, replaced.decoder) == (registry.latest_version(), manifest["decoder"]["name"])
    assert replaced.fingerprint == manifest["data"]["fingerprint"]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda m: m.update(format_version=1), "20260101-000000-00000000 (cannot be read)"),
        (lambda m: m.pop("metrics"), "20260101-000000-00000000 (kriging)"),
        (lambda m: m["metrics"].update(test_test={"r2": "0.5"}), "20260101-000000-00000000 (kriging)"),
        (lambda m: m, "20260101-000000-00000000 (kriging, R2 0.500)"),
    ],
    ids=["another format", "no metrics", "odd metrics", "whole"],
)
def test_what_cannot_be_read_is_replaced_all_the_same(
    registry: Registry, tmp_path: Path, edit: Callable[[dict[str, Any]], object], told: str
) -> None:
    version = "20260101-000000-00000000"
    manifest = registry.info(registry.latest_version()).manifest
    manifest = json.loads(json.dumps(manifest)) | {
        "version": version,
        "content_hash": "0" * 64,
        "decoder": {"name": "kriging", "settings": {}},
        "metrics": {"test_test": {"r2": 0.5}},
    }
    edit(manifest)
    (tmp_path / version).mkdir()
    (tmp_path / version / "manifest.json").write_bytes(manifest_bytes(manifest))
    (tmp_path / "LATEST").write_text(version)
    replaced = Replaced.latest(Registry(tmp_path))
    assert str(replaced) == told


def test_only_what_is_worse_by_more_than_chance_is_warned_of() -> None:
    replaced = Replaced("v1", "kriging", r2=0.6, fingerprint="a")
    assert replaced.warning(scores(0.7), "a") is None
    assert replaced.warning(scores(0.59), "a") is None
    told = replaced.warning(scores(0.55), "a")
    assert told is not None
    assert told.startswith(
        "R2 on test rows is 0.550 ± 0.020, and that of the version it replaces, v1, was 0.600."
    )
    assert "different data" not in told
    assert "different data" in str(replaced.warning(scores(0.55), "b"))
    assert Replaced("v1", None, None, None).warning(scores(0.1), "a") is None
