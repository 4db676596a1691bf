"""The metric follows what the rows say, and says the same as kriging where it is the identity."""

import numpy as np
import pytest

from embup_core.decoders.kriging.kriging import Kriging
from embup_core.decoders.kriging.metric_kriging import MetricKriging
from embup_core.decoders.parts.local_kriging import kriging_weights
from embup_core.decoders.parts.standard_units import Standardisation


def wavy_rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Originals that turn fast along the first two directions of z and not at all along the others."""
    z = np.random.default_rng(0).standard_normal((n, 32)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    phases = 12 * z[:, :2]
    c = np.hstack([np.cos(phases), np.sin(phases), np.full((n, 2), 0.5)]).astype(np.float32)
    return z, c / np.linalg.norm(c, axis=1, keepdims=True)


def error(decoder: Kriging, z: np.ndarray, c: np.ndarray) -> float:
    rows = decoder.predict(z)
    return float(np.square(rows @ rows.T - c @ c.T)[np.triu_indices(len(z), 1)].mean())


def test_directions_that_matter_count_for_more() -> None:
    z, c = wavy_rows(1500)
    learned = MetricKriging(steps=60, step_rows=128, mean_dims=6).fit(z[:1200], c[:1200])
    stretched = np.linalg.norm(learned.metric_, axis=1)
    assert stretched[:2].min() > 1.5 * stretched[2:].max()
    plain = Kriging(mean_dims=6).fit(z[:1200], c[:1200])
    assert error(learned, z[1200:], c[1200:]) < 0.7 * error(plain, z[1200:], c[1200:])
    (loss,) = learned.history_["squared_error"].values()
    assert np.mean(loss[-10:]) < 0.8 * np.mean(loss[:10])


def test_with_the_identity_it_is_kriging(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    learned = MetricKriging(steps=1).fit(sample_projected, sample_coordinates)
    plain = Kriging().fit(sample_projected, sample_coordinates)
    assert np.abs(learned.metric_ - np.eye(32)).max() > 0
    arrays = learned.arrays() | plain.arrays() | {"metric": np.eye(32, dtype=np.float32)}
    at_start = MetricKriging.from_arrays(learned.settings(), arrays)
    np.testing.assert_allclose(at_start.predict(sample_projected), plain.predict(sample_projected), atol=1e-6)


def test_weights_with_a_gradient_are_those_without() -> None:
    import torch

    decoder = MetricKriging(length_scale=4.0, nugget=0.01)
    offsets = np.random.default_rng(0).standard_normal((5, 7, 32)).astype(np.float32)
    offsets[0, 1] = offsets[0, 0]  # twins
    expected = kriging_weights(offsets, np.square(offsets).sum(axis=2), length_scale=4.0, nugget=0.01)
    asked = torch.from_numpy(offsets).requires_grad_()
    weights = decoder._weights(asked)
    np.testing.assert_allclose(weights.detach().numpy(), expected, atol=1e-3)
    np.testing.assert_allclose(weights.detach().numpy()[1:], expected[1:], atol=1e-5)
    weights.sum().backward()  # type: ignore[no-untyped-call]
    assert asked.grad is not None
    assert bool(torch.isfinite(asked.grad).all())


@pytest.mark.parametrize("twins", [1, 30])
def test_no_row_is_its_own_neighbour(twins: int) -> None:
    z = np.random.default_rng(0).standard_normal((40, 32)).astype(np.float32)
    z[:twins] = z[0]
    decoder = MetricKriging(neighbours=8)
    decoder.metric_ = np.eye(32, dtype=np.float32)
    rows = np.arange(40)
    others = decoder._nearest_others(Standardisation.fit(z)(z), rows)
    assert others.shape == (40, 8)
    assert not (others == rows[:, None]).any()
