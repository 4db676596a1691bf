"""A training keeps the basis of the version in service, or says why it makes a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.anchoring import fit_published, publish_with_anchors
from embup_core.artifacts.basis import basis_id
from embup_core.artifacts.registry import Registry
from embup_core.errors import BasisLostError, InputError, InvalidArtifactError, NoArtifactError
from embup_core.sources import COSINES_FILE, PROJECTED_FILE
from embup_core.training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.conftest import AnchoredSource

    Part = Callable[..., Path]

DIMS = 100


@pytest.fixture
def part(anchored_source: AnchoredSource, tmp_path: Path) -> Part:
    """Some rows of the source as a source of their own."""

    def make(rows: NDArray[np.int64]) -> Path:
        folder = tmp_path / f"part-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        np.save(folder / PROJECTED_FILE, np.load(anchored_source.files.projected)[rows])
        np.save(folder / COSINES_FILE, np.load(anchored_source.files.cosines)[np.ix_(rows, rows)])
        return folder

    return make


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def _train(
    source: Path, registry: Registry, **options: object
) -> tuple[str, tuple[str, ...], NDArray[np.float32]]:
    """Version, warnings, and the decoded rows of a fixed query."""
    result = train(source, decoder="kriging", output_dims=DIMS, registry=registry, **options)  # type: ignore[arg-type]
    query = np.random.default_rng(9).standard_normal((50, 16))
    return result.version, result.warnings, result.model.upsample(query)[0]


def test_a_delivery_with_more_rows_keeps_the_basis_and_vectors_stay_comparable(
    part: Part, registry: Registry
) -> None:
    old, warnings, _ = _train(part(np.arange(500)), registry)
    assert not warnings
    order = np.random.default_rng(0).permutation(800)
    source = part(order)
    new, _, _ = _train(source, registry, promote=True)
    ids = [basis_id(registry.info(version).manifest) for version in (old, new)]
    assert ids[0] is not None
    assert ids[0] == ids[1]
    z = np.load(source / PROJECTED_FILE)
    before, after = (registry.load(version).upsample(z)[0] for version in (old, new))
    together = np.median(np.vecdot(before, after))
    assert together > 0.95
    other, warnings, _ = _train(source, registry, basis="new", promote=True)
    assert not any("basis" in warning for warning in warnings), "it was asked for"
    assert basis_id(registry.info(other).manifest) != ids[0]
    apart = registry.load(other).upsample(z)[0]
    assert np.median(np.vecdot(before, apart)) < together - 0.05
    back, _, _ = _train(source, registry, basis=old, promote=False)
    assert basis_id(registry.info(back).manifest) == ids[0]


def test_retraining_on_the_same_rows_gives_the_same_decoder(part: Part, registry: Registry) -> None:
    source = part(np.arange(500))
    first, _, decoded = _train(source, registry)
    second, warnings, again = _train(source, registry)
    assert first[-8:] == second[-8:]
    assert not warnings
    np.testing.assert_array_equal(decoded, again)


def test_without_its_landmarks_a_basis_is_lost_with_a_warning_or_refused_where_it_was_asked_for(
    part: Part, registry: Registry
) -> None:
    old, _, _ = _train(part(np.arange(400)), registry)
    others = part(np.arange(400, 800))
    with pytest.raises(BasisLostError):
        _train(others, registry, basis=old)
    assert registry.version_names() == [old]
    new, warnings, _ = _train(others, registry, promote=True)
    assert any("cannot be kept" in warning and old in warning for warning in warnings)
    assert basis_id(registry.info(new).manifest) != basis_id(registry.info(old).manifest)


def test_a_version_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(NoArtifactError):
        train(tmp_path / "none", registry=tmp_path / "r", basis="20260101-000000-00000000")


def test_a_version_of_before_there_was_a_basis_is_replaced_with_a_warning(
    part: Part, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = part(np.arange(400))
    old, _, _ = _train(source, registry)
    monkeypatch.setattr(Registry, "read_basis", lambda *_: None)
    _, warnings, _ = _train(source, registry)
    assert any(f"{old}, which is in service, has none" in warning for warning in warnings)
    with pytest.raises(InputError):
        _train(source, registry, basis=old)


def test_a_changed_basis_file_is_refused(part: Part, registry: Registry) -> None:
    old, _, _ = _train(part(np.arange(400)), registry)
    file = registry.path(old) / "basis.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InvalidArtifactError):
        registry.load_artifact(old)
    with pytest.raises(InvalidArtifactError):
        registry.read_basis(old)


def test_a_version_with_anchors_has_the_basis_of_the_one_it_is_made_of(
    part: Part, registry: Registry, anchored_source: AnchoredSource
) -> None:
    old, _, _ = _train(part(np.arange(800)), registry)
    artifact = registry.load_artifact(old)
    fitted = fit_published(artifact, anchored_source.unseen_projected, anchored_source.unseen_originals)
    info = publish_with_anchors(registry, artifact, fitted)
    assert basis_id(info.manifest) == basis_id(artifact.manifest)
    assert (info.folder / "basis.safetensors").read_bytes() == (
        artifact.folder / "basis.safetensors"
    ).read_bytes()
