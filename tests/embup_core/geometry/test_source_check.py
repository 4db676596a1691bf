"""Rows that do not belong together are named with where they belong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.errors import InvalidDataError
from embup_core.geometry.source_check import check_source, judge_rows, rows_to_leave_out

if TYPE_CHECKING:
    from embup_core.sources import SourceFiles

N_ROWS = 600


def reorder(files: SourceFiles, rows: np.ndarray) -> None:
    np.save(files.projected, np.load(files.projected)[rows])


def test_a_clean_source_has_no_wrong_rows(affine_source: SourceFiles) -> None:
    report = check_source(affine_source)
    assert report.ok
    assert report.warnings == ()
    assert (report.dims, report.rank) == (8, 100)
    assert report.to_json()["map"]["affine"] is True
    assert len(rows_to_leave_out(report.rows, affine_source)) == 0


def test_moved_rows_are_named_with_the_rows_they_belong_to(affine_source: SourceFiles) -> None:
    order = np.arange(N_ROWS)
    order[100:120] = np.roll(order[100:120], 3)
    order[[7, 400]] = order[[400, 7]]
    reorder(affine_source, order)
    report = check_source(affine_source)
    wrong = np.flatnonzero(order != np.arange(N_ROWS))
    np.testing.assert_array_equal(report.rows.wrong_rows, wrong)
    np.testing.assert_array_equal(report.rows.belongs_to, order[wrong])
    assert not report.ok
    with pytest.raises(InvalidDataError) as caught:
        rows_to_leave_out(report.rows, affine_source)
    assert "7, 100-119, 400 (22 rows)" in caught.value.message
    assert "--repair" in caught.value.remedy
    assert "--leave-out-wrong-rows" in caught.value.remedy
    np.testing.assert_array_equal(rows_to_leave_out(report.rows, affine_source, leave_out=True), wrong)


def test_more_than_five_percent_of_wrong_rows_are_never_left_out(affine_source: SourceFiles) -> None:
    order = np.arange(N_ROWS)
    order[100:131] = np.roll(order[100:131], 3)  # 31 of 600
    reorder(affine_source, order)
    report = check_source(affine_source)
    assert len(report.rows.wrong_rows) == 31
    with pytest.raises(InvalidDataError) as caught:
        rows_to_leave_out(report.rows, affine_source, leave_out=True)
    assert "--leave-out-wrong-rows" not in caught.value.remedy


@pytest.mark.parametrize("shift", [1, -5])
def test_a_shift_of_all_rows_is_found(affine_source: SourceFiles, shift: int) -> None:
    order = np.roll(np.arange(N_ROWS), shift)
    reorder(affine_source, order)
    report = check_source(affine_source)
    np.testing.assert_array_equal(report.rows.wrong_rows, np.arange(N_ROWS))
    np.testing.assert_array_equal(report.rows.belongs_to, order)
    step = f"i {'+' if shift < 0 else '-'} {abs(shift)}"
    with pytest.raises(InvalidDataError) as caught:
        rows_to_leave_out(report.rows, affine_source, leave_out=True)
    assert f"row i of z belongs to row {step} of the matrix, in 600 of 600 rows" in caught.value.message


def test_unrelated_files_are_refused(affine_source: SourceFiles) -> None:
    reorder(affine_source, np.random.default_rng(1).permutation(N_ROWS))
    report = check_source(affine_source)
    assert len(report.rows.wrong_rows) == N_ROWS
    assert report.to_json()["belongs_to"] == [None] * N_ROWS
    with pytest.raises(InvalidDataError):
        rows_to_leave_out(report.rows, affine_source, leave_out=True)


def test_rows_that_no_affine_map_fits_are_noted_not_refused(affine_source: SourceFiles) -> None:
    z = np.tanh(4 * np.load(affine_source.projected)) ** 3
    np.save(affine_source.projected, z / np.linalg.norm(z, axis=1, keepdims=True))
    report = check_source(affine_source)
    assert len(rows_to_leave_out(report.rows, affine_source)) == 0
    assert report.ok
    assert report.rows.note is not None
    assert report.warnings == (report.rows.note,)


@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_the_cosines_of_z_itself_are_refused(affine_source: SourceFiles, stored: type) -> None:
    z = np.load(affine_source.projected)
    np.save(affine_source.cosines, (z @ z.T).astype(stored))
    with pytest.raises(InvalidDataError):
        check_source(affine_source)


def test_coordinates_of_no_more_dimensions_than_z_are_refused(affine_source: SourceFiles) -> None:
    z = np.load(affine_source.projected)
    centred = z - z.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    with pytest.raises(InvalidDataError):
        judge_rows(z, centred, affine_source)
