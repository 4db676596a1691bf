"""Coordinates reproduce the cosines they were recovered from."""

from pathlib import Path

import numpy as np
import pytest

from embup_core.errors import InvalidDataError
from embup_core.geometry.coordinates import reconstruction_residual, recover, recover_coordinates
from embup_core.sources.cosine_matrix import CosineMatrix


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
    assert reconstruction_residual(sample_coordinates, sample_matrix) < 2e-6


def test_the_error_of_wrong_coordinates_is_seen(
    sample_coordinates: np.ndarray, sample_matrix: CosineMatrix
) -> None:
    shuffled = sample_coordinates[::-1].copy()
    assert reconstruction_residual(shuffled, sample_matrix) > 0.03


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


@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_a_matrix_of_more_dimensions_than_the_originals_is_refused(tmp_path: Path, stored: type) -> None:
    originals = unit(np.random.default_rng(2).standard_normal((300, 96)))
    rounded = (originals @ originals.T).astype(stored).astype(np.float32)
    np.save(tmp_path / "cosines.npy", rounded)
    matrix = CosineMatrix.open(tmp_path / "cosines.npy")
    with pytest.raises(InvalidDataError) as caught:
        recover_coordinates(matrix, output_dims=72)
    assert "--output-dims" in caught.value.remedy
    assert recover_coordinates(matrix, output_dims=96).shape == (300, 96)


def test_a_diagonal_that_misses_one_does_not_count_as_rank(tmp_path: Path) -> None:
    originals = unit(np.random.default_rng(3).standard_normal((300, 20)))
    cosines = (originals @ originals.T).astype(np.float32)
    np.fill_diagonal(cosines, 1.0009)
    np.save(tmp_path / "cosines.npy", cosines)
    matrix = CosineMatrix.open(tmp_path / "cosines.npy")
    assert recover_coordinates(matrix, output_dims=20).shape == (300, 20)


def test_too_few_landmarks_are_said_with_the_row(tmp_path: Path) -> None:
    matrix = matrix_of(tmp_path, np.eye(100))
    with pytest.raises(InvalidDataError, match="not spanned by the 10 landmark rows"):
        recover_coordinates(matrix, landmarks=10)


def decaying(rows: int, dims: int, seed: int) -> np.ndarray:
    """Unit rows whose dimensions matter less and less, as those of embeddings do."""
    return unit(np.random.default_rng(seed).standard_normal((rows, dims)) * np.arange(1, dims + 1) ** -0.7)


@pytest.mark.parametrize(("stored", "tolerance"), [("float16", 5e-3), ("float64", 1e-5), (">f4", 1e-5)])
def test_a_matrix_of_another_dtype_gives_the_same_cosines(
    tmp_path: Path, stored: str, tolerance: float
) -> None:
    originals = decaying(400, 60, seed=4)
    cosines = originals @ originals.T
    np.save(tmp_path / "cosines.npy", cosines.astype(stored))
    found = recover_coordinates(CosineMatrix.open(tmp_path / "cosines.npy"), landmarks=200)
    assert np.abs(found @ found.T - cosines).max() < tolerance


def test_noise_is_not_kept_as_dimensions(tmp_path: Path) -> None:
    originals = decaying(600, 20, seed=5)
    noise = np.random.default_rng(6).normal(0, 1e-4, (600, 600))
    np.save(tmp_path / "cosines.npy", (originals @ originals.T + noise).astype(np.float32))
    recovered = recover(CosineMatrix.open(tmp_path / "cosines.npy"), landmarks=300)
    assert 20 <= recovered.coordinates.shape[1] < 150, (
        "300 landmarks, of which all would be kept but for noise"
    )
    assert recovered.noise.std == pytest.approx(1e-4, rel=0.2)
    assert recovered.noise.residual < 5e-4


def test_a_diagonal_that_misses_one_is_corrected(tmp_path: Path) -> None:
    originals = decaying(300, 20, seed=7)
    cosines = (originals @ originals.T).astype(np.float32)
    expected = recover_coordinates(matrix_of(tmp_path, originals), landmarks=60)
    np.fill_diagonal(cosines, 0.9996)
    np.save(tmp_path / "cosines.npy", cosines)
    found = recover_coordinates(CosineMatrix.open(tmp_path / "cosines.npy"), landmarks=60)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)


def test_a_matrix_of_noise_is_refused(tmp_path: Path) -> None:
    originals = decaying(300, 20, seed=8)
    noise = np.random.default_rng(9).normal(0, 0.2, (300, 300))
    np.save(tmp_path / "cosines.npy", (originals @ originals.T + noise + noise.T).astype(np.float32))
    with pytest.raises(InvalidDataError):
        recover(CosineMatrix.open(tmp_path / "cosines.npy"), landmarks=200)


def test_a_rank_that_cannot_hold_the_matrix_is_refused(tmp_path: Path) -> None:
    originals = unit(np.random.default_rng(10).standard_normal((300, 40)))
    with pytest.raises(InvalidDataError):
        recover(matrix_of(tmp_path, originals), output_dims=30, landmarks=200)
