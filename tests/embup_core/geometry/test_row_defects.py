"""Each kind of defect, made in the files: the wrong rows are found, all and only those, and their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.geometry.coordinates import recover_coordinates
from embup_core.geometry.row_defects import find_row_defects
from embup_core.sources.cosine_matrix import CosineMatrix

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.geometry.row_defects import RowDefects

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

ROWS, DIMS, SHORT_DIMS = 1000, 96, 16


@dataclass(frozen=True)
class Source:
    """Originals, neighbours alike, and their projection."""

    originals: Floats
    projected: NDArray[np.float32]
    folder: Path

    def coordinates(self, originals: Floats | None = None) -> NDArray[np.float32]:
        """Recovered from the cosines of these originals, by default its own."""
        x = self.originals if originals is None else originals
        np.save(self.folder / "cosines.npy", (x @ x.T).astype(np.float32))
        return recover_coordinates(CosineMatrix.open(self.folder / "cosines.npy"), output_dims=DIMS)

    def defects_of(self, order: Rows) -> RowDefects:
        """What is found with z in another order."""
        return find_row_defects(self.projected[order], self.coordinates())


def unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((ROWS // 10, DIMS)), 10, axis=0)
    x = unit((topics + rng.standard_normal((ROWS, DIMS))) * np.arange(1, DIMS + 1) ** -0.4 + 0.3)
    z = unit(x @ rng.standard_normal((DIMS, SHORT_DIMS)) + 0.1)
    return Source(x, z.astype(np.float32), tmp_path_factory.mktemp("source"))


def one_percent(seed: int) -> Rows:
    return np.sort(np.random.default_rng(seed).choice(ROWS, ROWS // 100, replace=False))


def exchanged(pairs: list[tuple[int, int]]) -> Rows:
    order = np.arange(ROWS)
    for left, right in pairs:
        order[[left, right]] = order[[right, left]]
    return order


def off_by_one(_: Source) -> Rows:
    return np.roll(np.arange(ROWS), 1)


def shifted_block(_: Source) -> Rows:
    order = np.arange(ROWS)
    order[300:500] = np.roll(order[300:500], 1)
    return order


def third_nearest(source: Source) -> Rows:
    cosines = source.originals @ source.originals.T
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for row in one_percent(1).tolist():
        neighbour = int(np.argsort(-cosines[row])[3])  # the row itself is first
        if not taken & {row, neighbour}:
            pairs.append((row, neighbour))
            taken |= {row, neighbour}
    assert len(pairs) >= 5
    return exchanged(pairs)


def swapped_at_random(_: Source) -> Rows:
    rows = np.random.default_rng(2).permutation(one_percent(2))
    return exchanged(list(zip(rows[::2].tolist(), rows[1::2].tolist(), strict=True)))


def block_backwards(_: Source) -> Rows:
    order = np.arange(ROWS)
    order[100:150] = order[100:150][::-1]
    return order


@pytest.mark.parametrize(
    "disorder", [off_by_one, shifted_block, third_nearest, swapped_at_random, block_backwards]
)
def test_rows_in_another_order_are_found_with_their_places(source: Source, disorder: object) -> None:
    assert callable(disorder)
    order: Rows = disorder(source)
    defects = source.defects_of(order)
    wrong = np.flatnonzero(order != np.arange(ROWS))
    np.testing.assert_array_equal(defects.wrong_rows, wrong)
    np.testing.assert_array_equal(defects.belongs_to, order[wrong])
    np.testing.assert_array_equal(defects.z_rows, np.argsort(order))


def test_replaced_rows_of_the_matrix_have_no_z(source: Source) -> None:
    replaced = one_percent(3)
    originals = source.originals.copy()
    originals[replaced] = unit(
        np.random.default_rng(4).standard_normal((len(replaced), DIMS)) * np.arange(1, DIMS + 1) ** -0.4 + 0.3
    )
    defects = find_row_defects(source.projected, source.coordinates(originals))
    np.testing.assert_array_equal(defects.wrong_rows, replaced)
    assert defects.belongs_to.tolist() == [-1] * len(replaced)


def test_noise_in_some_rows_of_z_is_found(source: Source) -> None:
    noisy = one_percent(5)
    z = source.projected.astype(np.float64)
    z[noisy] += 0.02 * np.random.default_rng(6).standard_normal((len(noisy), SHORT_DIMS))
    defects = find_row_defects(unit(z), source.coordinates())
    np.testing.assert_array_equal(defects.wrong_rows, noisy)
    assert defects.belongs_to.tolist() == [-1] * len(noisy)


@pytest.mark.parametrize("scale", [1e-4, 1e-2])
def test_noise_in_all_of_z_accuses_no_row_and_hides_none(source: Source, scale: float) -> None:
    z = unit(source.projected + scale * np.random.default_rng(7).standard_normal((ROWS, SHORT_DIMS)))
    coordinates = source.coordinates()
    assert find_row_defects(z, coordinates).verdict == "consistent"
    order = swapped_at_random(source)
    found = find_row_defects(z[order], coordinates)
    np.testing.assert_array_equal(found.wrong_rows, np.flatnonzero(order != np.arange(ROWS)))
    np.testing.assert_array_equal(found.z_rows, np.argsort(order))


def test_rows_of_z_with_a_flipped_sign_are_found(source: Source) -> None:
    flipped = one_percent(8)
    z = source.projected.copy()
    z[flipped] *= -1
    defects = find_row_defects(z, source.coordinates())
    np.testing.assert_array_equal(defects.wrong_rows, flipped)
    assert defects.belongs_to.tolist() == [-1] * len(flipped)
    assert find_row_defects(-source.projected, source.coordinates()).verdict == "consistent"


def test_equal_rows_of_z_each_find_a_place(source: Source) -> None:
    """Two equal originals, both with a wrong row of z: each row of z has one place, none has two."""
    originals, z = source.originals.copy(), source.projected.copy()
    originals[700], z[700] = originals[20], z[20]
    order = exchanged([(20, 400), (700, 900)])
    defects = find_row_defects(z[order], source.coordinates(originals))
    assert defects.wrong_rows.tolist() == [20, 400, 700, 900]
    assert sorted(defects.z_rows) == list(range(ROWS))
    np.testing.assert_array_equal(z[order][defects.z_rows], z)


def test_a_map_too_coarse_to_find_all_wrong_rows_says_so(source: Source) -> None:
    _, _, axes = np.linalg.svd(source.originals, full_matrices=False)
    coarse = unit(source.originals @ axes[:4].T)
    defects = find_row_defects(source.projected[swapped_at_random(source)], coarse)
    assert defects.detectable_share < 0.95
    assert defects.note is not None


def test_a_row_that_was_overwritten_by_another_has_no_place(source: Source) -> None:
    z = source.projected.copy()
    z[50] = z[600]
    defects = find_row_defects(z, source.coordinates())
    assert defects.wrong_rows.tolist() == [50]
    assert defects.belongs_to.tolist() == [-1]
