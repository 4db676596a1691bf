"""A version with anchors: what it holds, how it is published again, and what of it is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save

from embup_core.artifacts.anchoring import fit_published, publish_with_anchors
from embup_core.artifacts.artifact import content_hash, load_artifact
from embup_core.artifacts.manifest import manifest_bytes
from embup_core.artifacts.registry import Registry
from embup_core.decoders import Linear
from embup_core.errors import InputError, InvalidArgumentError, InvalidArtifactError
from embup_core.training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.conftest import AnchoredSource

ROTATION = "anchors.safetensors"


@pytest.fixture
def folder(anchored_registry: Registry, tmp_path: Path) -> Path:
    """A copy of a version with anchors that a test may spoil."""
    copy = tmp_path / "artifact"
    shutil.copytree(anchored_registry.path(anchored_registry.current_version()), copy)
    return copy


@pytest.fixture(scope="module")
def plain(anchored_source: AnchoredSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose one version was trained without the anchors."""
    bare = tmp_path_factory.mktemp("bare")
    for path in (anchored_source.files.projected, anchored_source.files.cosines):
        (bare / path.name).symlink_to(path)
    root = tmp_path_factory.mktemp("plain")
    train(bare, decoder="kriging", output_dims=100, registry=root)
    return root


@pytest.fixture
def plain_registry(plain: Path, tmp_path: Path) -> Registry:
    shutil.copytree(plain, tmp_path / "registry")
    return Registry(tmp_path / "registry")


def _without_projection(manifest: dict[str, Any]) -> None:
    manifest["anchors"]["projection"] = None


def _rewrite(folder: Path, edit: Callable[[dict[str, Any]], object], rotation: bytes | None = None) -> None:
    """Change manifest and rotation with all hashes: somebody made this on purpose."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    if rotation is not None:
        (folder / ROTATION).write_bytes(rotation)
        manifest["files"][ROTATION] = {
            "sha256": hashlib.sha256(rotation).hexdigest(),
            "bytes": len(rotation),
        }
        decoder = manifest["decoder"]
        data = (folder / "decoder.safetensors").read_bytes()
        found = content_hash(decoder["name"], decoder["settings"], data, rotation)
        manifest |= {"content_hash": found, "version": manifest["version"][:-8] + found[:8]}
    path.write_bytes(manifest_bytes(manifest))


def test_a_training_with_anchors_publishes_the_rotation(anchored_registry: Registry, folder: Path) -> None:
    artifact = load_artifact(folder)
    assert artifact.anchors is not None
    assert artifact.anchors.fitted_with == "coordinates"
    assert artifact.anchors.rotation.shape == (74, 100)
    assert artifact.manifest["anchors"]["anchors"] == 300
    assert "300 anchors fix the rotation" in (folder / "MODEL_CARD.md").read_text()
    assert artifact.manifest["anchors"]["r2"] == pytest.approx(artifact.anchors.scores.r2)
    assert anchored_registry.load().anchor_scores == artifact.anchors.scores


def test_a_version_without_anchors_still_loads_and_says_so(plain_registry: Registry) -> None:
    artifact = plain_registry.load_artifact()
    assert artifact.anchors is None
    assert "anchors" not in artifact.manifest
    assert "no anchors" in (artifact.folder / "MODEL_CARD.md").read_text()


def test_anchors_are_added_to_a_published_version(
    plain_registry: Registry, anchored_source: AnchoredSource
) -> None:
    """With rows that the decoder was not trained on; everything else is as it was."""
    before = plain_registry.load_artifact()
    z, x = anchored_source.unseen_projected, anchored_source.unseen_originals
    fitted = fit_published(before, z[:200] * 3, x[:200])
    info = publish_with_anchors(plain_registry, before, fitted)
    after = plain_registry.load_artifact()
    assert (info.version, info.is_current) == (after.version, True)
    assert after.version[-8:] != before.version[-8:]
    assert after.anchors is not None
    assert after.anchors.fitted_with == "decoded"
    np.testing.assert_array_equal(after.decoder.predict(z), before.decoder.predict(z))
    kept = ("decoder", "data", "split", "metrics", "golden", "reference_statistics", "git_commit")
    assert {name: after.manifest[name] for name in kept} == {name: before.manifest[name] for name in kept}
    for name in before.manifest["files"]:
        if name != "MODEL_CARD.md":
            assert (after.folder / name).read_bytes() == (before.folder / name).read_bytes()
    turned, _ = plain_registry.load().upsample(z[200:], basis="original")
    true = x[:200] @ x[200:].T
    assert 1 - np.square(x[:200] @ turned.T - true).mean() / true.var() > 0.8


@pytest.mark.parametrize(("asked", "promoted"), [(None, False), (True, True), (False, False)])
def test_a_version_that_is_not_in_service_stays_so_unless_asked(
    plain_registry: Registry, anchored_source: AnchoredSource, asked: bool | None, promoted: bool
) -> None:
    old = plain_registry.load_artifact()
    fitted = fit_published(old, anchored_source.unseen_projected, anchored_source.unseen_originals)
    publish_with_anchors(plain_registry, old, fitted, promote=True)
    assert publish_with_anchors(plain_registry, old, fitted, promote=asked).is_current == promoted


def test_originals_in_another_order_are_refused(
    plain_registry: Registry, anchored_source: AnchoredSource
) -> None:
    z, x = anchored_source.unseen_projected, anchored_source.unseen_originals
    with pytest.raises(InputError, match="nothing to do with them"):
        fit_published(plain_registry.load_artifact(), z, np.roll(x, 1, axis=0))


@pytest.mark.parametrize(
    ("rows", "originals", "error"),
    [
        (slice(0, 100), (slice(0, 99), slice(None)), InputError),
        (slice(0, 100), (slice(0, 100), slice(1, None)), InputError),
        (slice(0, 30), (slice(0, 30), slice(None)), InvalidArgumentError),
    ],
    ids=["fewer originals", "narrow originals", "few"],
)
def test_arrays_that_do_not_fit_are_refused(
    plain_registry: Registry,
    anchored_source: AnchoredSource,
    rows: slice,
    originals: tuple[slice, slice],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        fit_published(
            plain_registry.load_artifact(),
            anchored_source.unseen_projected[rows],
            anchored_source.unseen_originals[originals],
        )


def test_a_decoder_without_a_regression_takes_no_anchors(
    anchored_source: AnchoredSource, tmp_path: Path, publish_linear: Callable[[Registry], None]
) -> None:
    registry = Registry(tmp_path / "registry")
    publish_linear(registry)
    artifact = registry.load_artifact()
    with pytest.raises(InputError, match="linear has no regression") as caught:
        fit_published(artifact, anchored_source.unseen_projected, anchored_source.unseen_originals)
    assert caught.value.code == "no_anchors"
    with pytest.raises(InputError, match="linear has no regression") as caught:
        registry.load().upsample(anchored_source.unseen_projected, basis="original")
    assert caught.value.code == "no_anchors"


def _turned(rotation: NDArray[np.float32]) -> dict[str, bytes]:
    spoiled, nan = rotation.copy(), rotation.copy()
    spoiled[0] *= 1.01
    nan[0, 0] = np.nan
    return {
        "no safetensors": b"not tensors",
        "another name": save({"turn": rotation}),
        "another type": save({"rotation": rotation.astype(np.float64)}),
        "another shape": save({"rotation": np.ascontiguousarray(rotation[:-2])}),
        "one more": save({"rotation": rotation, "more": rotation}),
        "not orthonormal": save({"rotation": spoiled}),
        "nan": save({"rotation": nan}),
    }


@pytest.mark.parametrize("fault", _turned(np.eye(4, dtype=np.float32)))
def test_a_rotation_that_is_none_is_refused(folder: Path, fault: str) -> None:
    artifact = load_artifact(folder)
    assert artifact.anchors is not None
    _rewrite(folder, _without_projection, _turned(artifact.anchors.rotation)[fault])
    with pytest.raises(InvalidArtifactError, match="rotation of anchors"):
        load_artifact(folder)


def test_another_rotation_is_another_version(folder: Path) -> None:
    """The content hash covers it: the version's name cannot stay."""
    artifact = load_artifact(folder)
    assert artifact.anchors is not None
    _rewrite(folder, _without_projection, save({"rotation": -artifact.anchors.rotation}))
    assert load_artifact(folder).version[-8:] != artifact.version[-8:]
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {name: artifact.manifest[name] for name in ("version", "content_hash")}
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest))
    with pytest.raises(InvalidArtifactError, match="content hash"):
        load_artifact(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.pop("anchors"),
        lambda m: m["anchors"].pop("r2"),
        lambda m: m["anchors"].update(r2="good"),
        lambda m: m["anchors"].update(r2=float("nan")),
        lambda m: m["anchors"].update(fitted_with="luck"),
        lambda m: m.update(anchors=[]),
        lambda m: m["anchors"].update(projection=None),
        lambda m: m["anchors"]["projection"].update(affine=False),
        lambda m: m["anchors"]["projection"].pop("penalty"),
        lambda m: m["anchors"].update(projection=3),
    ],
    ids=[
        *("none", "no R2", "R2 in words", "R2 nan", "fitted with luck", "a list"),
        *("no projection", "none that is affine", "no penalty", "a number as projection"),
    ],
)
def test_a_manifest_that_describes_no_anchors_is_refused(folder: Path, edit: Any) -> None:
    _rewrite(folder, edit)
    with pytest.raises(InvalidArtifactError):
        load_artifact(folder)


@pytest.fixture
def publish_linear(anchored_source: AnchoredSource) -> Callable[[Registry], None]:
    """Publish a decoder whose rows have no part of a regression."""
    from embup_core.artifacts.artifact import Provenance
    from embup_core.artifacts.golden import golden_inputs

    z, x = anchored_source.unseen_projected, anchored_source.unseen_originals

    def publish(registry: Registry) -> None:
        registry.publish(
            Linear().fit(z, x, output_dims=100),
            golden=golden_inputs(z),
            provenance=Provenance("test", "0" * 64, len(z), {}, {}, {}),
        )

    return publish
