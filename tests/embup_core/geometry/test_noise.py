"""The noise of a matrix is estimated within a third of what was added, by the estimate that can see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embup_core.errors import InvalidDataError
from embup_core.geometry.noise import KernelNoise, MatrixNoise, noise_of_spectrum


@pytest.fixture(scope="module")
def gram() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 80)) * np.arange(1, 81) ** -0.5 + 0.3
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines: np.ndarray = (x @ x.T).astype(np.float32)
    return cosines


def test_an_exact_matrix_has_none(gram: np.ndarray) -> None:
    found = KernelNoise.from_kernel(gram).complete(np.linalg.eigvalsh(gram.astype(np.float64)), 0)
    assert found.std < 2e-7
    assert found.warning() is None
    found.require_trainable(Path("g.npy"))


def test_asymmetry_is_seen(gram: np.ndarray) -> None:
    noisy = gram + np.random.default_rng(1).normal(0, 1e-3, gram.shape).astype(np.float32)
    assert KernelNoise.from_kernel(noisy).asymmetry == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("zero_bits", [13, 16])
def test_rounding_is_seen(gram: np.ndarray, zero_bits: int) -> None:
    half = np.uint32(1 << (zero_bits - 1))
    rounded = ((gram.view(np.uint32) + half) >> zero_bits << zero_bits).view(np.float32)
    actual = float((rounded - gram)[~np.eye(400, dtype=bool)].std())
    assert KernelNoise.from_kernel(rounded).rounding == pytest.approx(actual, rel=0.1)


def test_float16_is_seen_as_rounding(gram: np.ndarray) -> None:
    rounded = gram.astype(np.float16).astype(np.float32)
    actual = float((rounded - gram)[~np.eye(400, dtype=bool)].std())
    assert KernelNoise.from_kernel(rounded).rounding == pytest.approx(actual, rel=0.1)


def test_symmetric_noise_is_seen_in_negative_eigenvalues(gram: np.ndarray) -> None:
    noise = np.random.default_rng(2).normal(0, 1e-3, gram.shape)
    noise = (noise + noise.T) / np.sqrt(2)
    found = noise_of_spectrum(np.linalg.eigvalsh(gram + noise))
    assert found == pytest.approx(1e-3, rel=0.3)


@pytest.mark.parametrize(
    ("std", "warns", "refused"), [(0.001, False, False), (0.005, True, False), (0.03, True, True)]
)
def test_noise_is_judged_against_the_spread_of_the_cosines(std: float, *, warns: bool, refused: bool) -> None:
    noise = MatrixNoise(std, 0, 0, 0, residual=std, deviation=0.1)
    assert noise.share == pytest.approx((std / 0.1) ** 2)
    assert (noise.warning() is not None) == warns
    if refused:
        with pytest.raises(InvalidDataError):
            noise.require_trainable(Path("g.npy"))
    else:
        noise.require_trainable(Path("g.npy"))


def test_coordinates_that_miss_more_than_noise_explains_are_refused() -> None:
    with pytest.raises(InvalidDataError):
        MatrixNoise(1e-7, 0, 0, 0, residual=1e-3, deviation=0.1).require_trainable(Path("g.npy"))
