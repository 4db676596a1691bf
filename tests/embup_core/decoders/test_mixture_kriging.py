"""The mixture of Gaussians: what conditioning on z gives, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embup_core.decoders.mixture_kriging.mixture import Mixture, MixtureSettings, cluster_rows
from embup_core.decoders.mixture_kriging.mixture_kriging import MixtureKriging

SETTINGS = MixtureSettings(
    clusterings=1,
    rows_a_cluster=50,
    most_clusters=100,
    shrinkage=1e-3,
    spread=1.0,
    temperature=1.0,
    components=4,
)


def linear_pairs(
    rng: np.random.Generator, rows: int, centre: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z (rows, 3), originals (rows, 5) that depend on it linearly with noise, and the map (3, 5)."""
    z = rng.standard_normal((rows, 3)) + centre
    weights = rng.standard_normal((3, 5))
    c = z @ weights + 1 + 0.1 * rng.standard_normal((rows, 5))
    return z.astype(np.float32), c.astype(np.float32), weights


def test_one_component_is_linear_regression() -> None:
    rng = np.random.default_rng(0)
    z, c, _ = linear_pairs(rng, 400)
    mixture = Mixture(c, z, np.zeros((1, 400), np.int32), SETTINGS)
    design = np.concatenate([z, np.ones((400, 1))], axis=1)
    expected = design @ np.linalg.lstsq(design, c, rcond=None)[0]
    np.testing.assert_allclose(mixture(z), expected, atol=1e-3)


def test_each_cluster_has_its_own_line() -> None:
    rng = np.random.default_rng(1)
    parts = [linear_pairs(rng, 200, centre) for centre in (-8.0, 8.0)]
    z, c = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    labels = np.repeat(np.arange(2, dtype=np.int32), 200)[None]
    # The pooled covariance between clusters of other slopes is wrong for both, so it hardly counts here.
    mixture = Mixture(c, z, labels, replace(SETTINGS, shrinkage=1e-6))
    unseen = rng.standard_normal((100, 3)).astype(np.float32)
    for (_, _, weights), centre in zip(parts, (-8.0, 8.0), strict=True):
        there = unseen + np.float32(centre)
        assert np.abs(mixture(there) - (there @ weights + 1)).max() < 0.5


def test_between_clusters_the_answer_is_their_average() -> None:
    z = np.repeat(np.array([[-1.0], [1.0]], np.float32), 50, axis=0)
    z += np.random.default_rng(2).normal(0, 0.3, z.shape).astype(np.float32)
    z -= z.mean(axis=0)
    c = np.repeat(np.array([[0, 4], [2, 0]], np.float32), 50, axis=0)
    mixture = Mixture(
        c, z, np.repeat(np.arange(2, dtype=np.int32), 50)[None], replace(SETTINGS, shrinkage=1e4)
    )
    np.testing.assert_allclose(mixture(np.zeros((1, 1), np.float32)), [[1, 2]], atol=0.2)


def test_clusterings_of_the_same_rows_count_alike() -> None:
    rng = np.random.default_rng(3)
    z, c, _ = linear_pairs(rng, 300)
    labels = cluster_rows(c, replace(SETTINGS, clusterings=3), seed=0)
    assert labels.shape == (3, 300)
    assert [len(np.unique(one)) for one in labels] == [one.max() + 1 for one in labels]
    once = Mixture(c, z, labels[:1], SETTINGS)(z)
    twice = Mixture(c, z, labels[[0, 0]], replace(SETTINGS, components=8))(z)
    np.testing.assert_allclose(twice, once, atol=1e-4)


def test_equal_rows_make_a_component_too() -> None:
    rng = np.random.default_rng(4)
    z, c, _ = linear_pairs(rng, 100)
    z[:60], c[:60] = z[0], c[0]
    labels = np.repeat(np.arange(2, dtype=np.int32), [60, 40])[None]
    found = Mixture(c, z, labels, SETTINGS)(z)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:60], c[:60], atol=0.3)


def test_more_rows_make_larger_clusters_not_more(sample_coordinates: np.ndarray) -> None:
    most = replace(SETTINGS, rows_a_cluster=10, most_clusters=7)
    assert cluster_rows(sample_coordinates[:500], most, seed=0).max() == 6


@pytest.mark.parametrize("wrong", ["gap", "negative", "float"])
def test_labels_that_are_none_are_refused(
    wrong: str, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    decoder = MixtureKriging(mean_dims=64).fit(sample_projected[:300], sample_coordinates[:300])
    arrays = decoder.arrays()
    labels = arrays["labels"].copy()
    if wrong == "gap":
        labels[0][labels[0] == 0] = 1
    elif wrong == "negative":
        labels[0, 0] = -1
    arrays["labels"] = labels.astype(np.float32) if wrong == "float" else labels
    with pytest.raises(ValueError, match="tensor labels: expected clusters numbered from 0"):
        MixtureKriging(mean_dims=64).restore(arrays)


def test_it_explains_more_than_the_line(sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> None:
    z, c = sample_projected, sample_coordinates
    fitted = MixtureKriging(mean_dims=256).fit(z[:500], c[:500])
    mean = fitted.predict(z[500:])[:, :256]
    cosines, true = mean @ mean.T, c[500:] @ c[500:].T
    above = np.triu_indices(100, 1)
    assert 1 - np.mean((cosines - true)[above] ** 2) / true[above].var() > 0.5


def test_the_trend_may_have_all_dimensions(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    decoder = MixtureKriging(mean_dims=64, trend_dims=500).fit(
        sample_projected[:300], sample_coordinates[:300]
    )
    assert decoder.trend_dims_ == 64
    again = MixtureKriging.from_arrays(decoder.settings(), decoder.arrays())
    np.testing.assert_array_equal(again.predict(sample_projected), decoder.predict(sample_projected))
