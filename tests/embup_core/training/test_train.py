"""Training as a library: what it returns, what it publishes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import stamina.instrumentation

from embup_core.artifacts.registry import Registry
from embup_core.decoders.kriging.kriging import Kriging
from embup_core.decoders.parts.standard_units import principal_axes
from embup_core.errors import InputError, InvalidDataError, SourceUnavailableError, TrainingError
from embup_core.geometry.coordinates import recover_coordinates
from embup_core.geometry.transform import recover_transform
from embup_core.sources import (
    ANCHORS_FILE,
    COSINES_FILE,
    GROUPS_FILE,
    LABELS_FILE,
    PROJECTED_FILE,
    SourceFiles,
)
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.training.data_folder import remember_source, remembered_source
from embup_core.training.selection import Evaluation
from embup_core.training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.conftest import AnchoredSource


@pytest.fixture
def source(sample_source: SourceFiles) -> Path:
    return sample_source.projected.parent


@pytest.fixture
def altered(sample_source: SourceFiles, tmp_path: Path) -> Callable[..., Path]:
    """A copy of some rows of the sample, with the projected embeddings in another order."""

    def make(rows: int, order: NDArray[np.int64] | None = None) -> Path:
        folder = tmp_path / f"altered-{rows}"
        folder.mkdir()
        projected = np.load(sample_source.projected)[:rows]
        np.save(folder / PROJECTED_FILE, projected if order is None else projected[order])
        np.save(folder / COSINES_FILE, np.load(sample_source.cosines)[:rows, :rows])
        return folder

    return make


def test_without_a_registry_the_decoder_is_returned_and_nothing_is_left(
    source: Path, sample_projected: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[tuple[float, float | None]] = []
    hooks = stamina.instrumentation.get_on_retry_hooks()
    result = train(source, decoder="kriging", progress=lambda _, done, of: seen.append((done, of)))
    assert result.champion == "kriging"
    assert (result.published, result.promoted, result.previous) == (False, False, None)
    rows, confidence = result.model.upsample(sample_projected[:5])
    assert rows.shape == (5, 1536)
    assert np.isfinite(confidence).all()
    assert result.model.version == result.version
    assert result.scores.test_test.r2 > 0.3
    assert result.rows == 600
    done = [one[0] for one in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1]
    assert list(tmp_path.iterdir()) == []
    assert stamina.instrumentation.get_on_retry_hooks() == hooks


def test_the_same_decoder_comes_out_of_the_same_rows(source: Path) -> None:
    first, second = (train(source, decoder="linear_residual") for _ in range(2))
    assert first.version[-8:] == second.version[-8:]
    assert first.scores.test_test == second.scores.test_test
    assert train(source, decoder="linear_residual", seed=1).scores.test_test != first.scores.test_test


def test_settings_reach_the_fit_and_are_checked_before_it(source: Path, tmp_path: Path) -> None:
    result = train(
        source, decoder="kriging", settings={"kriging": {"neighbours": 5}}, registry=tmp_path / "r"
    )
    kept = Registry(tmp_path / "r").load_artifact(result.version).decoder
    assert kept.settings()["neighbours"] == 5
    refused: list[dict[str, dict[str, int]]] = [
        {"kriging": {"neighbours": -3}},
        {"kriging": {"neighbors": 3}},
        {"oracle": {}},
    ]
    for wrong in refused:
        with pytest.raises(InputError):
            train(tmp_path / "none", decoder="kriging", settings=wrong)


def test_each_candidate_decodes_each_part_of_the_rows_once(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[int, int]] = []
    decode = Kriging.predict_with_confidence

    def counted(decoder: Kriging, projected: NDArray[np.float32]) -> object:
        decoded.append((id(decoder), len(projected)))
        return decode(decoder, projected)

    monkeypatch.setattr(Kriging, "predict_with_confidence", counted)
    train(source, decoder="kriging")
    # 450 train, 60 validation, 510 fitted and 90 test rows, in blocks of 256; then golden rows alone.
    assert sum(rows for _, rows in decoded if rows > 4) == 450 + 60 + 510 + 90


def test_it_publishes_and_the_first_version_goes_into_service(source: Path, tmp_path: Path) -> None:
    result = train(source, decoder="linear_residual", registry=tmp_path / "r", work=tmp_path / "data")
    registry = Registry(tmp_path / "r")
    assert registry.current_version() == result.version
    assert result.promoted
    assert remembered_source(tmp_path / "data") == str(source)
    folder = registry.path(result.version)
    manifest = (folder / "manifest.json").read_text()
    assert str(source.parent) not in manifest + (folder / "MODEL_CARD.md").read_text()
    assert json.loads(manifest)["data"]["source"] == source.name
    again = train(source, decoder="kriging", registry=registry)
    assert again.promoted  # the same data, and better
    assert again.previous is not None
    assert again.previous.version == result.version
    worse = train(source, decoder="linear_residual", registry=registry)
    assert not worse.promoted
    assert registry.current_version() == again.version
    assert any(f"embup models promote {worse.version}" in warning for warning in worse.warnings)
    asked = train(source, decoder="linear_residual", registry=registry, promote=True)
    assert registry.current_version() == asked.version
    assert not train(source, decoder="kriging", registry=registry, promote=False).promoted


def test_other_data_replaces_nothing_unasked(
    source: Path, altered: Callable[..., Path], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    mine = train(altered(500), decoder="linear_residual", registry=tmp_path / "r", work=data)
    sample = train("sample:600", decoder="linear_residual", registry=tmp_path / "r", work=data)
    assert (mine.promoted, sample.promoted) == (True, False)
    assert sample.published
    assert Registry(tmp_path / "r").current_version() == mine.version
    assert sample.previous is not None
    assert sample.previous.r2_on_new_rows is not None
    assert remembered_source(data) == str(tmp_path / "altered-500")


def test_a_data_folder_belongs_to_the_source_of_its_decoder_in_service(tmp_path: Path) -> None:
    assert remembered_source(tmp_path) is None
    remember_source(tmp_path, "mine", fingerprint="a", promoted=False)
    assert remembered_source(tmp_path) == "mine"
    remember_source(tmp_path, "sample", fingerprint="b", promoted=False)
    assert remembered_source(tmp_path) == "mine"
    remember_source(tmp_path, "sample", fingerprint="b", promoted=True)
    assert remembered_source(tmp_path) == "sample"
    (tmp_path / "source.json").write_text("[]")
    assert remembered_source(tmp_path) is None


@pytest.mark.parametrize("choice", ["auto", "kriging", "linear_residual"])
def test_rows_in_another_order_than_the_matrix_are_not_published(
    altered: Callable[..., Path], choice: str, tmp_path: Path
) -> None:
    folder = altered(400, np.random.default_rng(0).permutation(400))
    with pytest.raises(InvalidDataError) as caught:
        train(folder, decoder=choice, registry=tmp_path / "r")
    assert caught.value.remedy
    assert Registry(tmp_path / "r").versions() == []


DIMS = 64


@pytest.fixture
def learnable_source(tmp_path: Path) -> SourceFiles:
    """600 originals of 64 dimensions, few of which matter, and their affine projection to 16."""
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((30, DIMS)), 20, axis=0)
    x = (topics + 0.7 * rng.standard_normal((600, DIMS))) * np.arange(1, DIMS + 1) ** -1.0
    x[:, 0] += 1
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z = x @ rng.standard_normal((DIMS, 16)) + 0.1
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    folder = tmp_path / "learnable"
    folder.mkdir()
    np.save(folder / PROJECTED_FILE, z.astype(np.float32))
    np.save(folder / COSINES_FILE, (x @ x.T).astype(np.float32))
    return SourceFiles(folder / PROJECTED_FILE, folder / COSINES_FILE, str(folder))


def swap(source: SourceFiles, rows: list[int]) -> None:
    """Give these rows of z to each other in turn."""
    z = np.load(source.projected)
    z[rows] = z[np.roll(rows, 1)]
    np.save(source.projected, z)


def test_wrong_rows_are_refused_or_left_out_as_asked_for(
    learnable_source: SourceFiles, tmp_path: Path
) -> None:
    wrong = [3, 50, 51, 52, 599]
    clean = np.load(learnable_source.projected)
    swap(learnable_source, wrong)
    folder, registry = learnable_source.projected.parent, Registry(tmp_path / "r")
    with pytest.raises(InvalidDataError) as caught:
        train(folder, decoder="kriging", output_dims=DIMS, registry=registry)
    assert "3, 50-52, 599" in caught.value.message
    assert registry.versions() == []
    result = train(folder, decoder="kriging", output_dims=DIMS, registry=registry, leave_out_wrong_rows=True)
    assert result.left_out == tuple(wrong)
    assert result.rows == 600
    assert any("3, 50-52, 599" in warning for warning in result.warnings)
    info = registry.info(result.version)
    assert info.manifest["data"]["left_out"] == wrong
    assert "3, 50-52, 599" in (info.folder / "MODEL_CARD.md").read_text()
    parts = info.manifest["split"]
    assert parts["train"] + parts["validation"] + parts["test"] == 595
    # The published decoder never saw them: it stores the other rows only.
    assert len(registry.load_artifact(result.version).decoder.arrays()["points"]) == 595
    # Nor did the scores: as good as without wrong rows.
    np.save(learnable_source.projected, clean)
    right = train(folder, decoder="kriging", output_dims=DIMS)
    assert right.left_out == ()
    assert result.scores.test_test.r2 == pytest.approx(right.scores.test_test.r2, abs=0.05)


def test_listed_rows_are_left_out_whether_they_are_wrong_or_right(learnable_source: SourceFiles) -> None:
    swap(learnable_source, [3, 50, 51, 52, 599])
    folder = learnable_source.projected.parent
    with pytest.raises(InvalidDataError) as caught:
        train(folder, decoder="kriging", output_dims=DIMS, without=[7, 3, 50])
    assert "51-52, 599 (3 rows)" in caught.value.message
    result = train(folder, decoder="kriging", output_dims=DIMS, without=np.array([3, 7, 50, 51, 52, 599]))
    assert result.left_out == (3, 7, 50, 51, 52, 599)
    assert not any("left out" in warning for warning in result.warnings)
    both = train(folder, decoder="kriging", output_dims=DIMS, without=[7, 3, 50], leave_out_wrong_rows=True)
    assert both.left_out == (3, 7, 50, 51, 52, 599)
    assert any("51-52, 599 (3 rows)" in warning for warning in both.warnings)
    with pytest.raises(InputError):
        train(folder, decoder="kriging", output_dims=DIMS, without=[600])


def test_many_wrong_rows_are_refused_even_where_a_few_may_be_left_out(
    learnable_source: SourceFiles, tmp_path: Path
) -> None:
    swap(learnable_source, list(range(100, 131)))  # 31 of 600
    with pytest.raises(InvalidDataError):
        train(
            learnable_source.projected.parent, decoder="kriging", output_dims=DIMS, leave_out_wrong_rows=True
        )


def test_the_map_is_recovered_once_and_published(
    learnable_source: SourceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = []

    def counted(*arguments: object, **options: object) -> object:
        fits.append(arguments)
        return recover_transform(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("embup_core.geometry.row_defects.recover_transform", counted)
    registry = Registry(tmp_path / "r")
    result = train(learnable_source.projected.parent, decoder="kriging", output_dims=DIMS, registry=registry)
    assert len(fits) == 1
    artifact = registry.load_artifact(result.version)
    assert artifact.transform is not None
    assert artifact.manifest["transform"]["affine"] is True
    assert artifact.manifest["transform"]["median_angle"] < 1e-3
    # The map is in the basis of the decoder: it takes the true originals, rotated as decoded rows are, to z.
    z = np.load(learnable_source.projected)
    coordinates = recover_coordinates(CosineMatrix.open(learnable_source.cosines), output_dims=DIMS)
    principal = coordinates @ principal_axes(coordinates, coordinates.shape[1])
    assert np.abs(artifact.transform.project(principal) - z).max() < 1e-3
    decoded, _ = result.model.upsample(z)
    leading = slice(0, 20)
    assert np.corrcoef(decoded[:, leading].ravel(), principal[:, leading].ravel())[0, 1] > 0.9
    card = (artifact.folder / "MODEL_CARD.md").read_text()
    assert f"{artifact.transform.median_angle:.1e}" in card


def test_groups_and_labels_that_are_decoded_worst_stand_in_the_card(
    learnable_source: SourceFiles, tmp_path: Path
) -> None:
    folder, n = learnable_source.projected.parent, len(np.load(learnable_source.projected))
    np.save(folder / GROUPS_FILE, np.arange(n) % 3)
    np.save(folder / LABELS_FILE, np.where(np.arange(n) % 2, "a|b", "other"))
    registry = Registry(tmp_path / "r")
    result = train(folder, decoder="kriging", output_dims=DIMS, registry=registry)
    published = registry.load_artifact(result.version).folder
    evaluation = Evaluation.from_json(json.loads((published / "evaluation.json").read_text()))
    everything, *others = evaluation.groups
    assert everything.kind == "all"
    assert everything.rows * (everything.rows - 1) // 2 == result.scores.test_test.pairs
    told = {kind: sum(one.rows for one in others if one.kind == kind) for kind in ("group", "label")}
    assert told == {"group": everything.rows, "label": everything.rows}
    assert any(one.name.startswith("around row ") for one in others if one.kind == "cluster")
    card = (published / "MODEL_CARD.md").read_text()
    assert "| label | a\\|b |" in card
    assert "plots/error_by_group.png" in card


def test_where_no_affine_map_fits_training_continues_without_one(
    learnable_source: SourceFiles, tmp_path: Path
) -> None:
    z = np.tanh(4 * np.load(learnable_source.projected)) ** 3
    np.save(learnable_source.projected, z / np.linalg.norm(z, axis=1, keepdims=True))
    registry = Registry(tmp_path / "r")
    result = train(learnable_source.projected.parent, decoder="kriging", output_dims=DIMS, registry=registry)
    artifact = registry.load_artifact(result.version)
    assert artifact.manifest["transform"]["affine"] is False
    assert artifact.transform is not None
    assert artifact.transform.matrix is None
    assert not (artifact.folder / "transform.safetensors").exists()
    assert "No affine map fits" in (artifact.folder / "MODEL_CARD.md").read_text()


def test_a_hundred_rows_are_too_few_to_show_anything(altered: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train(altered(100), decoder="auto", registry=tmp_path / "r")
    assert Registry(tmp_path / "r").versions() == []


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        train("sample", decoder="oracle")
    with pytest.raises(InputError):
        train("sample", split="columns")
    with pytest.raises(SourceUnavailableError):
        train(tmp_path / "none", decoder="auto")


def test_a_candidate_that_cannot_be_fitted_leaves_the_choice_to_the_others(source: Path) -> None:
    settings = {"nearest_neighbours": {"neighbours": 5000}}
    result = train(source, decoder="auto", settings=settings)
    assert set(result.evaluation.not_fitted) == {"nearest_neighbours"}
    assert any("nearest_neighbours" in warning for warning in result.warnings)
    assert result.champion == "mixture_kriging"
    with pytest.raises(TrainingError):
        train(source, decoder="nearest_neighbours", settings=settings)


def test_an_installed_package_needs_neither_git_nor_torch(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    versions = metadata.version

    def without_torch(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return versions(name)

    monkeypatch.setattr(metadata, "version", without_torch)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = train(source, decoder="linear_residual", registry=tmp_path / "r")
    manifest = Registry(tmp_path / "r").info(result.version).manifest
    assert manifest["git_commit"] is None
    assert "torch" not in manifest["libraries"]
    assert manifest["libraries"]["numpy"] == np.__version__


def test_anchors_of_the_source_are_scored_for_each_candidate_and_published(
    anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    result = train(
        anchored_source.files.name, decoder="kriging", output_dims=100, registry=tmp_path / "registry"
    )
    assert result.evaluation.anchors.keys() == {"linear_residual", "kriging"}
    assert result.model.anchor_scores == result.evaluation.anchors["kriging"]
    assert Evaluation.from_json(result.evaluation.to_json()).anchors == result.evaluation.anchors
    assert not result.warnings
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in (anchored_source.files.projected, anchored_source.files.cosines):
        (bare / path.name).symlink_to(path)
    again = train(bare, decoder="kriging", output_dims=100, registry=tmp_path / "registry", promote=True)
    assert any("has no anchors" in warning for warning in again.warnings)
    with pytest.raises(InputError) as caught:
        again.model.upsample(anchored_source.unseen_projected, basis="original")
    assert caught.value.code == "no_anchors"


def test_a_wrong_anchor_is_refused_before_anything_is_fitted(
    anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    for path in anchored_source.files.projected.parent.iterdir():
        (tmp_path / path.name).symlink_to(path)
    wrong = np.load(tmp_path / ANCHORS_FILE)
    wrong[[4, 7]] = wrong[[7, 4]]
    (tmp_path / ANCHORS_FILE).unlink()
    np.save(tmp_path / ANCHORS_FILE, wrong)
    with pytest.raises(InvalidDataError, match=r"anchors\.npy, row [47]: .*2 of 300"):
        train(tmp_path, decoder="kriging", output_dims=100)
