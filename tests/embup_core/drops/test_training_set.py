"""The training set is a source like any other; rows held out are never fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.drops import DropsFolder, held_out_mask, write_training_set
from embup_core.errors import InputError, InvalidDataError, SourceUnavailableError
from embup_core.sources import COORDINATES_FILE, PROJECTED_FILE, validate_pair
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.sources.folder import files_in_folder
from embup_core.training.sample import open_sample
from embup_core.training.split import SplitBy
from tests.embup_core.drops.conftest import DIMS, FIRST, LATER, Place

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def filled(place: Place) -> Place:
    """Three drops: one with two mismatched rows, one with ten rows of the first and groups."""
    originals, z = place.some()
    z[[3, 70]] = z[[70, 3]]
    place.make("2026-02", originals, z)
    place.check("2026-02")
    originals, z = place.some(FIRST + LATER)
    originals[:10], z[:10] = place.rows.originals[:10], place.rows.projected[:10]
    place.make("2026-03", originals, z)
    place.check("2026-03")
    return place


def expected_rows() -> list[int]:
    """Rows of the fixture that are accepted."""
    second = [FIRST + row for row in range(LATER) if row not in (3, 70)]
    return [*range(FIRST), *second, *range(FIRST + LATER + 10, FIRST + 2 * LATER)]


def test_it_holds_the_accepted_rows_and_their_cosines(filled: Place, tmp_path: Path) -> None:
    made = write_training_set(filled.folder, tmp_path / "set")
    kept = expected_rows()
    assert made.rows == len(kept)
    assert made.months == {"2026-01": FIRST, "2026-02": LATER - 2, "2026-03": LATER - 10}
    np.testing.assert_array_equal(np.load(made.folder / PROJECTED_FILE), filled.rows.projected[kept])
    matrix = CosineMatrix.open(made.folder / COORDINATES_FILE)
    true = filled.rows.originals[kept] @ filled.rows.originals[kept].T
    some, others = np.array([0, 600, 899 - 12]), np.array([5, 700, 1])
    np.testing.assert_allclose(matrix.rows(some), true[some], atol=1e-4)
    np.testing.assert_allclose(matrix.pairs(some, others), true[some, others], atol=1e-4)
    months = np.load(made.folder / "drops.npy")
    assert list(months[[0, FIRST, -1]]) == ["2026-01", "2026-02", "2026-03"]


def test_its_profile_is_that_of_the_matrix(filled: Place, tmp_path: Path) -> None:
    files = files_in_folder(write_training_set(filled.folder, tmp_path / "set").folder)
    profile = validate_pair(files)
    kept = expected_rows()
    true = filled.rows.originals[kept].astype(np.float64) @ filled.rows.originals[kept].T
    off_diagonal = true[~np.eye(len(true), dtype=bool)]
    assert profile.mean_cosine == pytest.approx(off_diagonal.mean(), abs=1e-5)
    assert profile.cosine_deviation == pytest.approx(off_diagonal.std(), rel=1e-3)
    assert profile.lowest_cosine == pytest.approx(off_diagonal.min(), abs=0.05)


def test_rows_held_out_are_the_test_rows_and_are_not_fitted_on(filled: Place, tmp_path: Path) -> None:
    made = write_training_set(filled.folder, tmp_path / "set")
    opened = open_sample(files_in_folder(made.folder), output_dims=DIMS)
    sample, held_out = opened.sample, held_out_mask(np.load(made.folder / PROJECTED_FILE))
    np.testing.assert_array_equal(sample.rows.test, np.flatnonzero(held_out))
    assert made.held_out_rows == len(sample.rows.test) > 0
    z, c = sample.published_rows()
    np.testing.assert_array_equal(z, sample.projected[~held_out])
    assert len(c) == len(z)
    assert not len(sample.left_out)
    assert sample.rows.to_json()["held_out"] is True
    assert sample.transform is not None
    assert sample.transform.is_affine


def test_the_rows_held_out_stay_the_same_as_drops_come(filled: Place, tmp_path: Path) -> None:
    def held_out(through: str) -> set[bytes]:
        folder = write_training_set(filled.folder, tmp_path / "set", through=through).folder
        z, mask = np.load(folder / PROJECTED_FILE), np.load(folder / "held_out.npy")
        return {row.tobytes() for row in z[mask]}

    first, all_of_them = held_out("2026-01"), held_out("2026-03")
    assert first < all_of_them


def test_one_row_in_ten_is_held_out_whatever_the_order() -> None:
    z = np.random.default_rng(0).standard_normal((20_000, 8)).astype(np.float32)
    mask = held_out_mask(z)
    assert mask.mean() == pytest.approx(0.1, abs=0.01)
    order = np.random.default_rng(1).permutation(len(z))
    np.testing.assert_array_equal(held_out_mask(z[order]), mask[order])


def test_groups_are_there_where_all_drops_have_them(place: Place, tmp_path: Path) -> None:
    originals, z = place.some()
    place.make("2026-02", originals, z, groups=np.arange(LATER) // 10)
    place.check("2026-02")
    assert files_in_folder(write_training_set(place.folder, tmp_path / "set").folder).groups is None
    first = place.rows.originals[:FIRST], place.rows.projected[:FIRST]
    place.folder.drop_path("2026-01").rename(tmp_path / "old")
    place.folder.state_path("2026-01").rename(tmp_path / "old-state")
    place.make("2026-01", *first, groups=np.arange(FIRST) // 10, landmark_originals=None)
    place.check("2026-01")
    place.check("2026-02")
    groups = files_in_folder(write_training_set(place.folder, tmp_path / "set").folder).groups
    assert groups is not None
    assert len(np.load(groups)) == FIRST + LATER


def test_a_split_by_groups_is_refused(filled: Place, tmp_path: Path) -> None:
    files = files_in_folder(write_training_set(filled.folder, tmp_path / "set").folder)
    with pytest.raises(InputError):
        open_sample(files, output_dims=DIMS, split=SplitBy.groups)


def test_without_an_accepted_drop_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError):
        write_training_set(DropsFolder(tmp_path), tmp_path / "set")


@pytest.mark.parametrize("trouble", ["length", "rows", "dtype", "mask", "basis"])
def test_a_damaged_training_set_is_refused(filled: Place, tmp_path: Path, trouble: str) -> None:
    folder = write_training_set(filled.folder, tmp_path / "set").folder
    c = np.load(folder / COORDINATES_FILE)
    match trouble:
        case "length":
            c[7] *= 1.1
        case "rows":
            c = c[:-1]
        case "dtype":
            c = c.astype(np.float64)
        case "mask":
            np.save(folder / "held_out.npy", np.zeros(len(c), dtype=np.int64))
        case "basis":
            (folder / "basis.safetensors").write_bytes(b"none")
    np.save(folder / COORDINATES_FILE, c)
    with pytest.raises(InvalidDataError):
        open_sample(files_in_folder(folder), output_dims=DIMS)
