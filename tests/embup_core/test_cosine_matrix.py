"""The cosine matrix is mapped, checked for its form, and read a few rows at a time."""

from pathlib import Path

import numpy as np
import pytest

from embup_core.cosine_matrix import CosineMatrix
from embup_core.errors import InvalidDataError, SourceUnavailableError


def saved(folder: Path, array: np.ndarray) -> Path:
    path = folder / "cosines.npy"
    np.save(path, array)
    return path


def test_rows_and_pairs_are_the_files(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((7, 7)).astype(np.float32)
    matrix = CosineMatrix.open(saved(tmp_path, values))
    np.testing.assert_array_equal(matrix.rows(np.array([5, 2])), values[[5, 2]])
    np.testing.assert_array_equal(matrix.pairs(np.array([0, 6]), np.array([3, 6])), values[[0, 6], [3, 6]])


def test_values_stay_on_disk(tmp_path: Path) -> None:
    assert isinstance(CosineMatrix.open(saved(tmp_path, np.eye(5))).memory_map, np.memmap)


def test_float64_is_read_as_float32(tmp_path: Path) -> None:
    assert CosineMatrix.open(saved(tmp_path, np.eye(5))).rows(np.array([1])).dtype == np.float32


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"nowhere\.npy"):
        CosineMatrix.open(tmp_path / "nowhere.npy")


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((3, 4), np.float32), r"\(3, 4\)"),
        (np.zeros(9, np.float32), r"\(9,\)"),
        (np.zeros((3, 3), np.int32), "int32"),
        (np.array([[None]]), "cannot map"),
    ],
)
def test_another_form_is_refused_and_said(tmp_path: Path, array: np.ndarray, found: str) -> None:
    with pytest.raises(InvalidDataError, match=found):
        CosineMatrix.open(saved(tmp_path, array))


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cosines.npy"
    path.write_text("0.1,0.2")
    with pytest.raises(InvalidDataError, match="cannot map"):
        CosineMatrix.open(path)
