"""The hidden affine map and the rows that do not belong to it, on synthetic rows with alike neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.geometry.row_defects import SHORT_COSINE_CORRELATION, find_row_defects, short_cosine_share
from embup_core.geometry.transform import recover_transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ROWS, DIMS, SHORT_DIMS = 1500, 96, 32


@dataclass(frozen=True)
class Made:
    """z and coordinates, and the map that made z of them."""

    projected: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    matrix: Floats
    offset: Floats


def unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@cache
def made(rows: int = ROWS, dims: int = DIMS) -> Made:
    """Rows in a cone (mean cosine about 0.6), each like the one before it, with decaying variances."""
    rng = np.random.default_rng(4)
    steps = rng.standard_normal((rows, dims))
    for row in range(1, rows):
        steps[row] = 0.7 * steps[row - 1] + np.sqrt(1 - 0.7**2) * steps[row]
    originals = steps / np.sqrt(1 + np.arange(dims) / 10)
    originals[:, 0] += 1.2 * np.linalg.norm(originals, axis=1).mean()
    originals = unit(originals)
    matrix, offset = rng.standard_normal((dims, SHORT_DIMS)), 0.1 * rng.standard_normal(SHORT_DIMS)
    projected = unit(originals @ matrix + offset)
    return Made(projected.astype(np.float32), originals.astype(np.float32), matrix, offset)


def permuted(share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order that moves this share of the rows, and the moved rows."""
    moved = np.sort(np.random.default_rng(6).choice(ROWS, round(share * ROWS), replace=False))
    order = np.arange(ROWS)
    order[np.random.default_rng(7).permutation(moved)] = order[moved]
    return order, np.flatnonzero(order != np.arange(ROWS))


def test_the_map_is_recovered_up_to_its_scale() -> None:
    data = made()
    transform = recover_transform(data.projected, data.coordinates)
    true = np.vstack([data.matrix, data.offset])
    found = np.vstack([transform.matrix, transform.offset])
    scale = np.sum(true * found) / np.sum(found**2)
    assert scale > 0
    assert np.abs(found * scale - true).max() < 1e-3 * np.abs(true).max()
    assert transform.is_affine
    assert transform.median_angle < 1e-6
    assert np.abs(transform.project(data.coordinates) - data.projected).max() < 1e-5


def test_rows_outside_the_fit_are_judged_too() -> None:
    data = made()
    wrong = data.projected.copy()
    wrong[[10, 700, 1400]] = data.projected[[700, 1400, 10]]
    transform = recover_transform(wrong, data.coordinates, fit_rows=400, seed=1)
    assert transform.rows_used <= 400
    assert np.flatnonzero(~transform.fits()).tolist() == [10, 700, 1400]


def test_leave_one_out_angles_are_those_of_a_fit_without_the_row() -> None:
    """The lengths of the other rows are not fitted again, so agreement is close, not exact."""
    data = made(300, 40)
    noisy = unit(data.projected + 0.02 * np.random.default_rng(8).standard_normal(data.projected.shape))
    angles = recover_transform(noisy, data.coordinates).angles
    for row in (3, 77, 250):
        others = np.arange(300) != row
        refit = recover_transform(noisy[others], data.coordinates[others])
        chord = np.linalg.norm(refit.project(data.coordinates[row : row + 1])[0] - noisy[row])
        assert angles[row] == pytest.approx(2 * np.arcsin(chord / 2), rel=0.05)


@pytest.mark.parametrize(
    "case", ["exact", "z_float16", "z_three_decimals", "noisy_coordinates", "very_noisy_coordinates"]
)
def test_rounding_and_noise_raise_no_alarm(case: str) -> None:
    data = made()
    noise = np.random.default_rng(9).standard_normal(data.coordinates.shape)
    cases: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]] = {
        "exact": (data.projected, data.coordinates),
        "z_float16": (data.projected.astype(np.float16), data.coordinates),
        "z_three_decimals": (np.round(data.projected, 3), data.coordinates),
        "noisy_coordinates": (data.projected, data.coordinates + 5e-4 * noise),
        "very_noisy_coordinates": (data.projected, data.coordinates + 5e-3 * noise),
    }
    projected, coordinates = cases[case]
    defects = find_row_defects(projected, coordinates)
    assert defects.verdict == "consistent", defects.describe()
    assert len(defects.wrong_rows) == 0
    assert defects.transform.is_affine
    assert defects.detectable_share > 0.99


def test_a_float16_matrix_raises_no_alarm() -> None:
    data = made(500, 64)
    wide = data.coordinates.astype(np.float64)
    rounded = (wide @ wide.T).astype(np.float16).astype(np.float64)
    values, vectors = np.linalg.eigh((rounded + rounded.T) / 2)
    coordinates = unit(vectors[:, -64:] * np.sqrt(values[-64:]))
    assert find_row_defects(data.projected, coordinates).verdict == "consistent"
    swapped = data.projected[np.r_[0:50, 51, 50, 52:500]]
    assert find_row_defects(swapped, coordinates).wrong_rows.tolist() == [50, 51]


def test_a_rolled_stretch_is_named_with_its_owners() -> None:
    data = made()
    order = np.arange(ROWS)
    order[500:520] = np.roll(order[500:520], 3)
    defects = find_row_defects(data.projected[order], data.coordinates)
    assert defects.verdict == "wrong_rows"
    assert defects.wrong_rows.tolist() == list(range(500, 520))
    assert defects.belongs.tolist() == np.argsort(order)[500:520].tolist()
    assert defects.reordering is not None
    assert (defects.reordering.shift, defects.reordering.rows, defects.reordering.of_rows) == (-3, 17, 20)
    assert "500-519" in defects.describe()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
def test_permuted_rows_are_found_all_and_only_those(share: float) -> None:
    data = made()
    order, moved = permuted(share)
    defects = find_row_defects(data.projected[order], data.coordinates)
    assert defects.wrong_rows.tolist() == moved.tolist()
    assert defects.belongs.tolist() == np.argsort(order)[moved].tolist()
    assert defects.reordering is None


def test_rows_replaced_by_foreign_ones_have_no_owner() -> None:
    data = made()
    foreign = data.projected.copy()
    foreign[40:44] = unit(np.random.default_rng(10).standard_normal((4, SHORT_DIMS)))
    defects = find_row_defects(foreign, data.coordinates)
    assert defects.wrong_rows.tolist() == [40, 41, 42, 43]
    assert defects.belongs.tolist() == [-1] * 4


@pytest.mark.parametrize("shift", [1, -3, 250])
def test_a_shift_of_all_rows_is_named(shift: int) -> None:
    data = made()
    defects = find_row_defects(np.roll(data.projected, -shift, axis=0), data.coordinates)
    assert defects.verdict == "reordered", defects.describe()
    assert defects.reordering is not None
    assert (defects.reordering.shift, defects.reordering.is_reversed) == (shift, False)
    assert defects.reordering.rows == ROWS
    assert len(defects.wrong_rows) > 0.99 * ROWS
    expected = (defects.wrong_rows - shift) % ROWS
    assert defects.belongs.tolist() == expected.tolist()
    assert f"row i of z belongs to row i {'+' if shift > 0 else '-'} {abs(shift)}" in defects.describe()


def test_a_file_that_lost_its_first_row_is_a_shift_of_all_rows_but_one() -> None:
    data = made()
    defects = find_row_defects(data.projected[1:], data.coordinates[:-1])
    assert defects.verdict == "reordered"
    assert defects.reordering is not None
    assert (defects.reordering.shift, defects.reordering.rows) == (1, ROWS - 2)


def test_reversed_rows_are_named() -> None:
    data = made()
    defects = find_row_defects(data.projected[::-1], data.coordinates)
    assert defects.verdict == "reordered"
    assert defects.reordering is not None
    assert (defects.reordering.is_reversed, defects.reordering.shift) == (True, 0)
    assert defects.reordering.rows == ROWS


def test_wholly_permuted_rows_do_not_belong_together() -> None:
    data = made()
    defects = find_row_defects(data.projected[np.random.default_rng(3).permutation(ROWS)], data.coordinates)
    assert defects.verdict == "unrelated"
    assert defects.belongs_to.tolist() == [-1] * ROWS
    assert "do not belong together" in defects.describe()


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_a_curved_map_of_the_right_rows_accuses_no_row(gain: float) -> None:
    data = made()
    bent = unit(np.tanh(gain * (data.coordinates @ data.matrix + data.offset)))
    defects = find_row_defects(bent, data.coordinates)
    assert defects.verdict == "not_affine", defects.describe()
    assert not defects.transform.is_affine
    assert len(defects.wrong_rows) == 0


def test_fewer_rows_than_dimensions_leave_it_undecided_but_are_not_accused() -> None:
    data = made()
    few = slice(0, 60)
    defects = find_row_defects(data.projected[few], data.coordinates[few])
    assert len(defects.wrong_rows) == 0
    assert defects.verdict in {"undecided", "not_affine"}


def test_short_cosines_are_told_from_a_matrix_that_holds_more() -> None:
    data = made()
    short = data.projected @ data.projected.T
    full = data.coordinates @ data.coordinates.T
    assert short_cosine_share(data.projected, short) > SHORT_COSINE_CORRELATION
    assert short_cosine_share(data.projected, short.astype(np.float16)) > SHORT_COSINE_CORRELATION
    assert short_cosine_share(data.projected, full) < 0.99
    left, right = np.random.default_rng(2).integers(0, ROWS, (2, 5000))
    assert short_cosine_share(data.projected, short[left, right], left, right) > SHORT_COSINE_CORRELATION


def test_the_same_seed_gives_the_same_map() -> None:
    data = made()
    first = recover_transform(data.projected, data.coordinates, fit_rows=700, seed=5)
    again = recover_transform(data.projected, data.coordinates, fit_rows=700, seed=5)
    assert np.array_equal(first.matrix, again.matrix)
    assert np.array_equal(first.angles, again.angles)


def test_arrays_that_do_not_match_are_refused() -> None:
    data = made()
    with pytest.raises(ValueError, match="same number of rows"):
        recover_transform(data.projected[:-1], data.coordinates)
    broken = data.projected.copy()
    broken[5] = 0
    with pytest.raises(ValueError, match="zero row"):
        recover_transform(broken, data.coordinates)
    with pytest.raises(ValueError, match="both left and right"):
        short_cosine_share(data.projected, np.eye(3), np.arange(3))
