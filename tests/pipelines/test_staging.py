"""Staged files appear whole or not at all, equal work has one name, and old data sets go."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pipelines.staging import StagingArea, remove_old_data_sets, version_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_version_depends_on_every_ingredient_and_not_on_their_order() -> None:
    assert version_of(a=1, b={"c": 2}) == version_of(b={"c": 2}, a=1)
    assert version_of(a=1) != version_of(a=2)
    assert version_of(a=1) != version_of(b=1)


def test_a_staged_array_comes_back(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = StagingArea(tmp_path, "f" * 64).save_array("coordinates", "1", array)
    np.testing.assert_array_equal(np.load(path), array)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    area = StagingArea(tmp_path, "f" * 64)
    with pytest.raises(ValueError, match="pickle"):
        area.save_arrays("row_split", "1", {"bad": np.array([object()])})
    assert list(area.folder.iterdir()) == []


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    area = StagingArea(tmp_path, "f" * 64)
    area.save_folder("decoder", "1", {"a": b"1", "b": b"2"})
    folder = area.save_folder("decoder", "1", {"a": b"3"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"1", "b": b"2"}
    assert list(area.folder.iterdir()) == [folder]


def test_of_two_runs_with_the_same_work_the_quicker_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    area = StagingArea(tmp_path, "f" * 64)
    place = area.path("decoder", "1", "")

    def written_meanwhile(path: Path) -> None:
        place.mkdir()
        (place / "a").write_bytes(b"first")

    monkeypatch.setattr("pipelines.staging.sync_folder", written_meanwhile)
    assert area.save_folder("decoder", "1", {"a": b"second"}) == place
    assert (place / "a").read_bytes() == b"first"
    assert list(area.folder.iterdir()) == [place]


def test_an_array_that_is_there_stays(tmp_path: Path) -> None:
    area = StagingArea(tmp_path, "f" * 64)
    area.save_array("coordinates", "1", np.zeros(3))
    assert not np.load(area.save_array("coordinates", "1", np.ones(3))).any()


def test_a_version_depends_on_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = version_of(a=1)
    monkeypatch.setattr("pipelines.staging._code_hash", lambda: "other")
    assert version_of(a=1) != before


def test_the_last_used_data_sets_stay(tmp_path: Path) -> None:
    for age_s, name in enumerate(["a", "b", "c", "d", "e"]):
        folder = StagingArea(tmp_path, name * 64).folder
        os.utime(folder, (1e9 - age_s, 1e9 - age_s))
    StagingArea(tmp_path, "e" * 64)  # used again: now the newest
    removed = remove_old_data_sets(tmp_path, kept=3)
    assert removed == ["c" * 16, "d" * 16]
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["a", "b", "e"]
