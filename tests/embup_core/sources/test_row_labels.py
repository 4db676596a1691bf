"""Groups and labels are one integer or string a row; anything else is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.errors import InvalidDataError, SourceUnavailableError
from embup_core.sources import GROUPS_FILE, LABELS_FILE, load_row_labels, resolve_source

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.sources import SourceFiles


@pytest.mark.parametrize(
    "labels",
    [np.arange(5), np.arange(5, dtype=np.uint8), np.array(["a", "b", "ä", "", "long name"])],
    ids=["int", "uint8", "str"],
)
def test_integers_and_strings_are_labels(labels: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", labels)
    np.testing.assert_array_equal(load_row_labels(tmp_path / "labels.npy", 5), labels)


def test_byte_strings_are_strings(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array(["a", "ä".encode(), b"long name"], dtype="S"))
    found = load_row_labels(tmp_path / "labels.npy", 3)
    assert found.tolist() == ["a", "ä", "long name"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array(["a", 1, None], object), "holds pickled Python objects .* expected integers or strings"),
        (np.zeros(3), "holds '<f8' values, expected integers or strings"),
        (np.zeros((3, 1), int), r"has shape \(3, 1\), expected \(3,\)"),
        (np.array([b"a", b"b", b"\xff"]), "holds byte strings that are not UTF-8"),
        (np.zeros(4, int), "has 4 entries and the projected embeddings 3 rows"),
    ],
)
def test_what_is_no_label_a_row_is_refused(labels: np.ndarray, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.npy"
    np.save(path, labels, allow_pickle=True)
    with pytest.raises(InvalidDataError, match=message) as caught:
        load_row_labels(path, 3)
    assert caught.value.message.startswith(str(path))
    assert caught.value.remedy


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        load_row_labels(tmp_path / "none.npy", 3)


def test_a_folder_may_hold_groups_and_labels(pair: SourceFiles, tmp_path: Path) -> None:
    folder = pair.projected.parent
    plain = resolve_source(str(folder), cache_dir=tmp_path)
    assert (plain.groups, plain.labels) == (None, None)
    np.save(folder / GROUPS_FILE, np.arange(200))
    assert resolve_source(str(folder), cache_dir=tmp_path).groups == folder / GROUPS_FILE
    (folder / LABELS_FILE).mkdir()
    with pytest.raises(SourceUnavailableError, match=r"labels\.npy is not a regular file"):
        resolve_source(str(folder), cache_dir=tmp_path)
