"""The complement completes to unit length and leaves cosines of distinct inputs alone."""

import numpy as np

from embup_core.decoders.parts.complement import complement_frequencies, complete_to_unit
from embup_core.decoders.parts.standard_units import Standardisation, principal_axes


def complements(z: np.ndarray, *, length_scale: float = 1.0) -> np.ndarray:
    """Rows that are complement alone: the regression explains nothing."""
    frequencies = complement_frequencies(32, 736, length_scale=length_scale, seed=0)
    return complete_to_unit(np.zeros((len(z), 64), np.float32), z, frequencies, 1536)[0]


def test_far_rows_share_no_complement_and_equal_rows_share_all() -> None:
    z = np.random.default_rng(0).standard_normal((200, 32)).astype(np.float32)
    dots = complements(z) @ complements(z).T
    np.testing.assert_allclose(np.diag(dots), 1, atol=1e-6)
    off = dots[np.triu_indices(200, 1)]
    assert abs(off.mean()) < 0.005
    assert off.std() < 0.04  # chance dot products of 736 frequencies: about 1 / sqrt(2 * 736) = 0.026


def test_the_kernel_is_gaussian() -> None:
    step = np.zeros((2, 32), np.float32)
    for distance in (0.5, 1.0, 2.0):
        step[1, 3] = distance
        dot = np.vecdot(*complements(step, length_scale=2.0))
        assert abs(dot - np.exp(-(distance**2) / 8)) < 0.1


def test_the_regression_is_the_first_columns() -> None:
    rng = np.random.default_rng(0)
    mean = (rng.standard_normal((5, 64)) * 0.05).astype(np.float32)
    z = rng.standard_normal((5, 32)).astype(np.float32)
    rows, confidence = complete_to_unit(
        mean, z, complement_frequencies(32, 736, length_scale=1, seed=0), 1536
    )
    np.testing.assert_allclose(rows[:, :64], mean, atol=1e-6)
    np.testing.assert_allclose(confidence, (mean**2).sum(axis=1), rtol=1e-5)


def test_a_regression_longer_than_one_is_shortened() -> None:
    mean = np.full((1, 64), 0.5, np.float32)
    rows, confidence = complete_to_unit(
        mean, np.zeros((1, 32), np.float32), complement_frequencies(32, 736, length_scale=1, seed=0), 1536
    )
    np.testing.assert_allclose(np.linalg.norm(rows), 1, atol=1e-6)
    assert confidence[0] == 1


def test_standard_units_are_centred_with_one_scale() -> None:
    z = np.random.default_rng(0).normal(3, 0.2, (500, 32)).astype(np.float32)
    units = Standardisation.fit(z)(z)
    assert np.abs(units.mean(axis=0)).max() < 1e-4
    np.testing.assert_allclose(units.var(axis=0).mean(), 1, rtol=1e-4)


def test_principal_axes_hold_the_most() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((300, 20)) * np.linspace(3, 0.1, 20)).astype(np.float32)
    axes = principal_axes(rows, 4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-5)
    _, _, expected = np.linalg.svd(rows, full_matrices=False)
    np.testing.assert_allclose(np.abs(np.vecdot(axes.T, expected[:4])), 1, atol=1e-3)
