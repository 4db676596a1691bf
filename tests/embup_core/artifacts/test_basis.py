"""The basis of an artifact comes back, and what is forged of it is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from embup_core.artifacts.artifact import load_artifact
from embup_core.artifacts.basis import basis_id
from embup_core.artifacts.manifest import manifest_bytes
from embup_core.errors import InvalidArtifactError
from embup_core.geometry.basis import Basis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry

FILE = "basis.safetensors"


@pytest.fixture
def folder(anchored_registry: Registry, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    copy = tmp_path / "artifact"
    shutil.copytree(anchored_registry.path(anchored_registry.current_version()), copy)
    return copy


def _edit(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, with a checksum that fits."""
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest))


def test_the_basis_comes_back_and_the_card_names_it(folder: Path) -> None:
    artifact = load_artifact(folder)
    basis = artifact.read_basis()
    assert basis is not None
    assert basis.id == basis_id(artifact.manifest) == artifact.manifest["basis"]["id"]
    assert (basis.output_dims, basis.landmarks.shape[1]) == (100, 16)
    assert basis.id in (folder / "MODEL_CARD.md").read_text()


def test_a_version_without_a_basis_loads(folder: Path) -> None:
    (folder / FILE).unlink()
    _edit(folder, lambda m: (m.pop("basis"), m["files"].pop(FILE)))
    artifact = load_artifact(folder)
    assert artifact.read_basis() is None
    assert basis_id(artifact.manifest) is None


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda m: m["files"].pop(FILE), id="not listed"),
        pytest.param(lambda m: m.pop("basis"), id="not described"),
        pytest.param(lambda m: m["basis"].update(id="0" * 16), id="another id"),
        pytest.param(lambda m: m["basis"].update(landmarks=3), id="other landmarks"),
        pytest.param(lambda m: m["basis"].pop("id"), id="no id"),
        pytest.param(lambda m: m.update(basis=[]), id="a list"),
    ],
)
def test_a_manifest_of_another_basis_is_refused(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    _edit(folder, edit)
    with pytest.raises(InvalidArtifactError):
        load_artifact(folder)


def _forge(folder: Path, data: bytes) -> None:
    """Write another basis, with a hash and an id that fit."""
    (folder / FILE).write_bytes(data)
    listed = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    _edit(folder, lambda m: m["files"].update({FILE: listed}))
    _edit(folder, lambda m: m["basis"].update(id=hashlib.sha256(data).hexdigest()[:16]))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda a: {**a, "output_dims": np.array([102])}, id="other dimensions"),
        pytest.param(lambda a: {**a, "coordinates": a["coordinates"] * np.float32(np.inf)}, id="not finite"),
        pytest.param(lambda a: {**a, "landmarks": a["landmarks"][:, :-1]}, id="narrow landmarks"),
        pytest.param(lambda _: None, id="no safetensors"),
    ],
)
def test_a_forged_basis_is_refused(folder: Path, spoil: Callable[[Any], Any]) -> None:
    arrays = load((folder / FILE).read_bytes())
    _forge(folder, Basis.from_bytes(save(arrays)).to_bytes())
    load_artifact(folder)
    spoilt = spoil(arrays)
    if spoilt is not None:
        spoilt = {name: np.ascontiguousarray(array) for name, array in spoilt.items()}
    _forge(folder, b"x" * 50 if spoilt is None else save(spoilt))
    with pytest.raises(InvalidArtifactError):
        load_artifact(folder)
