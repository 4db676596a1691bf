"""An artifact loads only as it was written."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embup_core.artifacts.artifact import (
    Provenance,
    content_hash,
    decoder_bytes,
    decoder_from_bytes,
    load_artifact,
)
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.manifest import manifest_bytes
from embup_core.artifacts.model_card import render_model_card
from embup_core.artifacts.recovered_map import RecoveredMap
from embup_core.artifacts.registry import Registry
from embup_core.decoders.baselines.linear import Linear
from embup_core.errors import InvalidArtifactError


@pytest.fixture
def folder(registry: Registry, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    copy = tmp_path / "artifact"
    shutil.copytree(registry.path(registry.current_version()), copy)
    return copy


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit it and checksum it again: somebody made this on purpose."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_bytes(manifest_bytes(manifest))


def test_it_holds_what_the_format_says(folder: Path) -> None:
    manifest = load_artifact(folder).manifest
    assert {p.name for p in folder.iterdir()} == {
        "decoder.safetensors",
        "manifest.json",
        "evaluation.json",
        "MODEL_CARD.md",
        "plots",
    }
    assert manifest["version"].endswith(manifest["content_hash"][:8])
    assert (manifest["input_dims"], manifest["output_dims"]) == (32, 1536)
    assert manifest["libraries"]["numpy"] == np.__version__


def test_loading_gives_the_same_answers(
    folder: Path, registry: Registry, sample_projected: np.ndarray
) -> None:
    np.testing.assert_array_equal(
        load_artifact(folder).decoder.predict(sample_projected),
        registry.load_artifact().decoder.predict(sample_projected),
    )


@pytest.mark.parametrize("position", [8, 2000, -1])
def test_a_flipped_bit_is_found(folder: Path, position: int) -> None:
    path = folder / "decoder.safetensors"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidArtifactError, match=r"decoder\.safetensors: expected SHA-256"):
        load_artifact(folder)


@pytest.mark.parametrize("name", ["evaluation.json", "MODEL_CARD.md", "plots/a.png"])
def test_a_file_that_only_people_read_is_covered_too(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"#")
    with pytest.raises(InvalidArtifactError, match=f"{name}: expected SHA-256"):
        load_artifact(folder)
    path.write_bytes(path.read_bytes() + b"#")
    with pytest.raises(InvalidArtifactError, match=rf"{name}: expected \d+ bytes, found"):
        load_artifact(folder)
    path.unlink()
    with pytest.raises(InvalidArtifactError, match=f"{name}: cannot be read"):
        load_artifact(folder)


def test_what_the_manifest_does_not_list_is_not_looked_at(folder: Path) -> None:
    (folder / "NOTES.txt").write_text("in service since Monday")
    assert load_artifact(folder).version


def test_every_byte_of_the_manifest_is_covered_by_its_checksum(folder: Path) -> None:
    path = folder / "manifest.json"
    content = path.read_text()
    for changed in (content.replace('"decoder"', '"decoder" ', 1), content + "\n"):
        path.write_text(changed)
        with pytest.raises(InvalidArtifactError, match=r"manifest\.json: the checksum"):
            load_artifact(folder)


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_refused_without_waiting_for_it(folder: Path) -> None:
    for name in ("decoder.safetensors", "manifest.json", "plots/a.png"):
        path, kept = folder / name, folder / "kept"
        path.rename(kept)
        os.mkfifo(path)
        with pytest.raises(InvalidArtifactError, match="no regular file"):
            load_artifact(folder)
        path.unlink()
        path.symlink_to("/dev/zero")
        with pytest.raises(InvalidArtifactError, match="no regular file"):
            load_artifact(folder)
        path.unlink()
        kept.rename(path)
    assert load_artifact(folder).version


@pytest.mark.parametrize("name", ["decoder.safetensors", "manifest.json"])
def test_a_file_cut_short_or_missing_is_named(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InvalidArtifactError, match=name):
        load_artifact(folder)
    path.unlink()
    with pytest.raises(InvalidArtifactError, match=name):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(format_version=1), "format version 4, found 1"),
        pytest.param(lambda m: m["decoder"].update(name="pickle"), "content hash", id="other decoder"),
        pytest.param(
            lambda m: m["decoder"]["settings"].update(neighbours=3), "content hash", id="other settings"
        ),
        (lambda m: m["golden"]["outputs"][0].__setitem__(0, 0.5), "golden outputs"),
        pytest.param(
            lambda m: m["golden"]["confidences"].__setitem__(0, 0.01), "golden confidences", id="confidence"
        ),
        (lambda m: m["golden"]["confidences"].__setitem__(0, None), "confidences: one of them is unknown"),
        (lambda m: m["golden"].update(outputs=[[0.0]]), "shapes"),
        pytest.param(lambda m: m["golden"].pop("confidences"), "missing or malformed", id="no confidences"),
        (lambda m: m["golden"].update(inputs="x"), "malformed"),
        (lambda m: m["golden"].update(outputs=[[10**400]]), "expected numbers"),
        (lambda m: m.pop("golden"), "fields"),
        (lambda m: m.update(files={}), "missing or malformed"),
    ],
)
def test_a_changed_manifest_is_refused_with_the_reason(
    folder: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_manifest(folder, edit)
    with pytest.raises(InvalidArtifactError, match=message):
        load_artifact(folder)


def rewrite(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write other tensors with hashes that match: somebody made this on purpose."""
    from safetensors.numpy import save

    data = save(arrays)
    (folder / "decoder.safetensors").write_bytes(data)

    def edit(manifest: dict[str, Any]) -> None:
        manifest["files"]["decoder.safetensors"] = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
        }
        decoder = manifest["decoder"]
        manifest["content_hash"] = content_hash(decoder["name"], decoder["settings"], data)
        manifest["version"] = manifest["version"][:-8] + manifest["content_hash"][:8]

    edit_manifest(folder, edit)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda a: a.pop("centre"), "tensor centre: .* found none", id="missing tensor"),
        pytest.param(
            lambda a: a.update(extra=np.zeros(1, np.float32)), "Expected the tensors", id="foreign tensor"
        ),
        (lambda a: a.update(centre=np.full(32, np.nan, np.float32)), "finite numbers in tensor centre"),
        (lambda a: a.update(centre=np.zeros(31, np.float32)), "tensor centre"),
        (lambda a: a.update(residuals=a["residuals"][:-1].copy()), "tensor residuals"),
        (lambda a: a.update(scale=np.zeros(1)), "tensor scale: expected a number above 0, found 0"),
        (lambda a: a.update(radius=-a["radius"]), "tensor radius: expected a number above 0"),
        (lambda a: a.update(weights=a["weights"] * 2), "golden outputs"),
    ],
)
def test_tensors_that_do_not_belong_are_refused(
    folder: Path, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    arrays = dict(load_artifact(folder).decoder.arrays())
    change(arrays)
    rewrite(folder, arrays)
    with pytest.raises(InvalidArtifactError, match=message):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"length_scale": 0}, "setting length_scale: .* greater than 0, found 0"),
        ({"length_scale": "a"}, "setting length_scale: .* number, found 'a'"),
        ({"neighbours": 0}, "setting neighbours"),
        ({"neighbours": 2.5}, "setting neighbours"),
        ({"neighbours": 16.0}, "setting neighbours: .* integer, found 16.0"),
        ({"neighbours": True}, "setting neighbours: .* integer, found True"),
        ({"length_scale": "4"}, "setting length_scale: .* number, found '4'"),
        ({"length_scale": float("inf")}, "setting length_scale: .* finite number, found inf"),
        ({"seed": -1}, "setting seed: .* found -1"),
        ({"neighbours": 100_000}, "setting neighbours"),
        ({"mean_dims": 7}, "setting mean_dims"),
        ({"nothing": 1}, "setting nothing: unknown"),
    ],
)
def test_settings_that_the_decoder_cannot_have_are_refused(
    registry: Registry, changed: dict[str, Any], message: str
) -> None:
    fitted = registry.load_artifact().decoder
    settings = fitted.settings() | changed
    with pytest.raises(InvalidArtifactError, match=message):
        decoder_from_bytes(fitted.name, settings, decoder_bytes(fitted))


def test_a_whole_number_is_a_number(registry: Registry) -> None:
    fitted = registry.load_artifact().decoder
    again = decoder_from_bytes(fitted.name, fitted.settings() | {"alpha": 1}, decoder_bytes(fitted))
    assert decoder_bytes(again) == decoder_bytes(fitted)


def test_equal_decoders_have_equal_bytes_and_arrays_out_of_order_are_saved_right(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    decoder = Linear().fit(sample_projected, sample_coordinates)
    contiguous = decoder_bytes(decoder)
    decoder.weights_ = np.asfortranarray(decoder.weights_)
    assert decoder_bytes(decoder) == contiguous


def test_the_card_says_whether_training_rows_are_in_it() -> None:
    described = {
        **dict.fromkeys(("version", "input_dims", "output_dims", "created_utc"), "x"),
        "decoder": {"name": "x", "summary": "x", "settings": {}},
        "data": {"source": "x", "rows": 1, "fingerprint": "x"},
    }
    card = render_model_card(described, {}, [], stores="all of it")
    assert "This artifact holds\n  all of it: protect it like them." in card
    assert "holds no training rows" in render_model_card(described, {}, [], stores="")


def test_golden_inputs_are_unit_and_no_training_rows(sample_projected: np.ndarray) -> None:
    golden = golden_inputs(sample_projected)
    np.testing.assert_allclose(np.linalg.norm(golden, axis=1), 1, atol=1e-6)
    assert (golden @ sample_projected.T).max() < 1 - 1e-5


@pytest.fixture
def with_map(sample_projected: np.ndarray, sample_coordinates: np.ndarray, tmp_path: Path) -> Path:
    """An artifact that holds a recovered map, of which only the shapes matter here."""
    rank = sample_coordinates.shape[1]
    rng = np.random.default_rng(0)
    kept = RecoveredMap(
        affine=True,
        median_angle=6e-5,
        p99_angle=1e-4,
        explained=1.0,
        curvature=0.0,
        penalty=1e-8,
        rows_used=600,
        matrix=rng.standard_normal((rank, 32)).astype(np.float32),
        offset=rng.standard_normal(32).astype(np.float32),
    )
    return (
        Registry(tmp_path / "maps")
        .publish(
            Linear().fit(sample_projected, sample_coordinates),
            golden=golden_inputs(sample_projected),
            provenance=Provenance("sample", "0" * 64, 600, {}, {}, {}, transform=kept, left_out=[4, 5]),
        )
        .folder
    )


def test_the_recovered_map_comes_back(with_map: Path, folder: Path) -> None:
    artifact = load_artifact(with_map)
    found = artifact.transform
    assert found is not None
    assert found.matrix is not None
    assert found.offset is not None
    assert found.matrix.dtype == found.offset.dtype == np.float32
    assert (found.matrix.shape[1], len(found.offset)) == (32, 32)
    assert (found.median_angle, found.rows_used) == (6e-5, 600)
    coordinates = np.random.default_rng(1).standard_normal((3, len(found.matrix)))
    expected = coordinates @ found.matrix + found.offset
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.project(coordinates), expected, atol=1e-6)
    card = (with_map / "MODEL_CARD.md").read_text()
    assert "6.0e-05" in card
    assert "4-5 (2 rows)" in card
    assert load_artifact(folder).transform is None, "artifacts of before the map was kept load"


def test_a_map_that_no_affine_one_is_keeps_its_figures_only() -> None:
    found = RecoveredMap(False, 0.3, 0.6, 0.4, 0.2, 0.01, 700)
    assert found.tensors() is None
    manifest = {"transform": found.to_json()}
    assert RecoveredMap.from_manifest(manifest) is not None
    with pytest.raises(ValueError, match="none fits"):
        found.project(np.zeros((1, 3)))


def forge_map(folder: Path, data: bytes) -> None:
    """Write another map with a hash that matches."""
    (folder / "transform.safetensors").write_bytes(data)
    listed = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit_manifest(folder, lambda manifest: manifest["files"].update({"transform.safetensors": listed}))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda a: {**a, "offset": a["offset"][:-1]}, id="short offset"),
        pytest.param(lambda a: {**a, "matrix": np.zeros((1537, 32), np.float32)}, id="rank above the output"),
        pytest.param(lambda a: {**a, "matrix": a["matrix"] * np.float32(np.nan)}, id="not finite"),
        pytest.param(lambda a: {**a, "matrix": a["matrix"].astype(np.float64)}, id="float64"),
        pytest.param(lambda a: {**a, "extra": a["offset"]}, id="foreign tensor"),
        pytest.param(lambda a: {"offset": a["offset"]}, id="no matrix"),
        pytest.param(lambda _: None, id="no safetensors"),
    ],
)
def test_a_forged_map_is_refused(with_map: Path, spoil: Callable[[Any], Any]) -> None:
    from safetensors.numpy import load, save

    spoilt = spoil(load((with_map / "transform.safetensors").read_bytes()))
    forge_map(with_map, b"x" * 50 if spoilt is None else save(spoilt))
    with pytest.raises(InvalidArtifactError):
        load_artifact(with_map)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda m: m["files"].pop("transform.safetensors"), id="not listed"),
        pytest.param(lambda m: m.pop("transform"), id="no figures"),
        pytest.param(lambda m: m["transform"].update(affine=False), id="not affine"),
        pytest.param(lambda m: m["transform"].update(median_angle="x"), id="no number"),
        pytest.param(lambda m: m["transform"].pop("penalty"), id="no penalty"),
        pytest.param(lambda m: m.update(transform=[]), id="another type"),
    ],
)
def test_figures_that_do_not_fit_the_map_are_refused(
    with_map: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    edit_manifest(with_map, edit)
    with pytest.raises(InvalidArtifactError):
        load_artifact(with_map)
