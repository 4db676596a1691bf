"""The way back: decoded vectors to the short ones they were made of, originals as the unknown map did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.anchoring import fit_published, publish_with_anchors
from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.registry import Registry
from embup_core.decoders import Kriging, Linear
from embup_core.errors import InputError, NoAnchorsError, NoProjectionError
from embup_core.geometry.anchors import anchors_for_projection
from embup_core.sources import COSINES_FILE, PROJECTED_FILE
from embup_core.training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.conftest import AnchoredSource


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Registry, NDArray[np.float32]]:
    """A decoder whose complement has 68 phases for the 16 numbers of z, and 1,200 rows; it knows 800."""
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((120, 200)), 10, axis=0)
    x = (topics + 0.7 * rng.standard_normal((1200, 200))) * np.arange(1, 201) ** -0.7 + 0.1
    x = x[rng.permutation(1200)]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z = x @ rng.standard_normal((200, 16)) + 0.1
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)
    folder = tmp_path_factory.mktemp("wide")
    np.save(folder / PROJECTED_FILE, z[:800])
    np.save(folder / COSINES_FILE, (x[:800] @ x[:800].T).astype(np.float32))
    registry = Registry(tmp_path_factory.mktemp("wide-registry"))
    train(folder, decoder="linear_residual", output_dims=200, registry=registry)
    return registry, z


def _angles(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    angles: NDArray[np.float32] = 2 * np.arcsin(np.minimum(np.linalg.norm(one - other, axis=1) / 2, 1))
    return angles


@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_decoded_vectors_come_back_to_their_short_ones(
    wide: tuple[Registry, NDArray[np.float32]], stored: type[np.floating]
) -> None:
    registry, z = wide
    model = registry.load()
    decoded, _ = model.upsample(z)
    back = model.project(decoded.astype(stored))
    assert back.dtype == np.float32
    off = _angles(back, z)
    assert np.median(off) < (1e-6 if stored is np.float32 else 1e-3)
    assert np.mean(off < 0.01) > 0.9


def test_a_complement_of_few_phases_leaves_what_the_map_says(
    anchored_registry: Registry, anchored_source: AnchoredSource
) -> None:
    model, z = anchored_registry.load(), anchored_source.unseen_projected
    off = _angles(model.project(model.upsample(z)[0]), z)
    assert 1e-3 < np.median(off) < 0.3 * np.median(_angles(np.roll(z, 1, 0), z))


def test_vectors_that_no_row_was_decoded_to_get_what_the_map_says(
    wide: tuple[Registry, NDArray[np.float32]],
) -> None:
    registry, z = wide
    model = registry.load()
    decoded, _ = model.upsample(z)
    mixed = decoded[::2] + decoded[1::2]
    expected = z[::2] + z[1::2]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = model.project(mixed)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.median(_angles(found, expected)) < 0.5 * np.median(_angles(np.roll(found, 1, 0), expected))


def test_originals_are_projected_with_enough_anchors(
    anchored_registry: Registry, anchored_source: AnchoredSource
) -> None:
    assert anchors_for_projection(1536) == 1614
    found = anchored_registry.load().project(anchored_source.unseen_originals, basis="original")
    assert _angles(found, anchored_source.unseen_projected).max() < 1e-3


def test_with_too_few_anchors_the_error_says_how_many_are_needed(
    anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "r")
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in (anchored_source.files.projected, anchored_source.files.cosines):
        (bare / path.name).symlink_to(path)
    train(bare, decoder="kriging", output_dims=100, registry=registry)
    with pytest.raises(NoAnchorsError):
        registry.load().project(anchored_source.unseen_originals, basis="original")
    artifact = registry.load_artifact()
    for count in (100, 300):
        fitted = fit_published(
            artifact, anchored_source.unseen_projected[:count], anchored_source.unseen_originals[:count]
        )
        version = publish_with_anchors(registry, artifact, fitted).version
        if count == 100:
            with pytest.raises(NoAnchorsError, match=r"107 anchors.*found 100"):
                registry.load(version).project(anchored_source.unseen_originals, basis="original")
        else:
            found = registry.load(version).project(anchored_source.unseen_originals[300:], basis="original")
            assert _angles(found, anchored_source.unseen_projected[300:]).max() < 1e-3


def test_a_decoder_without_a_complement_projects_nothing(
    anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "r")
    projected, originals = anchored_source.unseen_projected, anchored_source.unseen_originals
    decoder = Linear().fit(projected, originals, output_dims=100)
    provenance = Provenance("mine", "0" * 64, 400, {}, {}, {})
    registry.publish(decoder, golden=projected[:4], provenance=provenance)
    with pytest.raises(NoProjectionError):
        registry.load().project(originals)
    regression = Kriging().fit(projected, originals, output_dims=100)
    registry.publish(regression, golden=projected[:4], provenance=provenance)
    with pytest.raises(NoProjectionError, match="map"):
        registry.load().project(originals)


def test_rows_without_a_direction_or_of_another_length_are_refused(anchored_registry: Registry) -> None:
    model = anchored_registry.load()
    for wrong in (np.zeros((1, 100)), np.ones((2, 16)), np.full((1, 100), np.nan)):
        with pytest.raises(InputError):
            model.project(wrong)


def test_a_file_is_projected_row_by_row(
    anchored_registry: Registry, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    model = anchored_registry.load()
    decoded, _ = model.upsample(anchored_source.unseen_projected)
    np.save(tmp_path / "long.npy", decoded)
    done = model.project_file(tmp_path / "long.npy", tmp_path / "short.npy")
    assert done.rows == 400
    short = np.load(tmp_path / "short.npy")
    assert short.shape == (400, 16)
    np.testing.assert_allclose(short, model.project(decoded), atol=1e-6)
