"""Coordinates reproduce the cosines they were recovered from."""

from pathlib import Path

import numpy as np
import pytest

from embup_core.coordinates import reconstruction_error, recover_coordinates
from embup_core.cosine_matrix import CosineMatrix
from embup_core.errors import InvalidDataError


def matrix_of(folder: Path, originals: np.ndarray) -> CosineMatrix:
    path = folder / "cosines.npy"
    np.save(path, (originals @ originals.T).astype(np.float32))
    return CosineMatrix.open(path)


def unit(rows: np.ndarray) -> np.ndarray:
    made: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def test_every_cosine_comes_back_from_a_few_landmarks(tmp_path: Path) -> None:
    originals = unit(np.random.default_rng(0).standard_normal((300, 20)))
    matrix = matrix_of(tmp_path, originals)
    coordinates = recover_coordinates(matrix, landmarks=60)
    assert coordinates.shape == (300, 20), "the rank of the matrix, not the number of landmarks"
    np.testing.assert_allclose(coordinates @ coordinates.T, originals @ originals.T, atol=3e-6)


def test_rows_are_unit_float32_and_contiguous(sample_coordinates: np.ndarray) -> None:
    np.testing.assert_allclose(np.linalg.norm(sample_coordinates, axis=1), 1, atol=1e-6)
    assert sample_coordinates.dtype == np.float32
    assert sample_coordinates.flags.c_contiguous


def test_the_sample_comes_back_within_the_promise(
    sample_coordinates: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    assert reconstruction_error(sample_coordinates, sample_matrix) < 1e-5


def test_the_error_of_wrong_coordinates_is_seen(
    sample_coordinates: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    shuffled = sample_coordinates[::-1].copy()
    assert reconstruction_error(shuffled, sample_matrix) > 0.1


def test_only_landmark_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = matrix_of(tmp_path, unit(np.random.default_rng(1).standard_normal((300, 10))))
    read: list[int] = []
    rows = CosineMatrix.rows

    def counted(self: CosineMatrix, index: np.ndarray) -> np.ndarray:
        read.extend(index.tolist())
        return rows(self, index)

    monkeypatch.setattr(CosineMatrix, "rows", counted)
    recover_coordinates(matrix, landmarks=40)
    assert len(set(read)) == len(read) == 40


def test_too_few_landmarks_are_said_with_the_row(tmp_path: Path) -> None:
    matrix = matrix_of(tmp_path, np.eye(100))
    with pytest.raises(InvalidDataError, match="not spanned by the 10 landmark rows"):
        recover_coordinates(matrix, landmarks=10)
