"""The cosine matrix is mapped, checked for its form, and read a few rows at a time."""

from pathlib import Path

import numpy as np
import pytest

from embup_core.errors import InvalidDataError, SourceUnavailableError
from embup_core.sources.cosine_matrix import CosineMatrix


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


def test_fortran_order_is_mapped_with_contiguous_rows(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((6, 6))
    values = values + values.T
    matrix = CosineMatrix.open(saved(tmp_path, np.asfortranarray(values)))
    assert isinstance(matrix.memory_map, np.memmap)
    assert matrix.memory_map.flags.c_contiguous
    np.testing.assert_array_equal(matrix.rows(np.array([4])), values[[4]].astype(np.float32))


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4", ">f8"])
def test_any_width_and_byte_order_is_read_as_native_float32(tmp_path: Path, dtype: str) -> None:
    values = np.eye(5).astype(dtype)
    rows = CosineMatrix.open(saved(tmp_path, values)).rows(np.array([1, 3]))
    assert rows.dtype == np.float32
    assert rows.dtype.isnative
    np.testing.assert_array_equal(rows, np.eye(5)[[1, 3]])


def test_a_missing_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError):
        CosineMatrix.open(tmp_path / "nowhere.npy")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4), np.float32),
        np.zeros(9, np.float32),
        np.zeros((3, 3), np.int32),
        np.zeros((3, 3), np.complex64),
        np.array([[None]]),
    ],
)
def test_another_form_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(InvalidDataError):
        CosineMatrix.open(saved(tmp_path, array))


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cosines.npy"
    path.write_text("0.1,0.2")
    with pytest.raises(InvalidDataError):
        CosineMatrix.open(path)
