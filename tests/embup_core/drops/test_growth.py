"""The basis grows only when it must, and what was placed before stays where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.drops import DropsFolder, check_drop, keep_verdict, write_training_set
from embup_core.drops.format import EXTRA_LANDMARKS, LANDMARK_COSINES, PROJECTED, write_drop
from embup_core.drops.make import make_drop
from embup_core.drops.report import Status, Verdict
from tests.embup_core.drops.conftest import DIMS, FIRST, LATER, SHORT, Place, Rows, unit

if TYPE_CHECKING:
    from pathlib import Path

NARROW = 30


@pytest.fixture
def narrow(tmp_path: Path) -> Place:
    """A first drop in 30 of 48 dimensions; rows after it have all of them."""
    rng = np.random.default_rng(1)
    wide = rng.standard_normal((1500, DIMS)) * np.arange(1, DIMS + 1) ** -0.3 + 0.2
    wide[:FIRST, NARROW:] = 0
    originals = unit(wide)
    z = unit(originals @ rng.standard_normal((DIMS, SHORT)) + 0.1)
    place = Place(DropsFolder(tmp_path), Rows(originals, z, z))
    make_drop(place.folder, "2026-01", z[:FIRST], originals=originals[:FIRST])
    keep_verdict(place.folder, check_drop(place.folder, "2026-01", output_dims=DIMS))
    return place


def test_rows_beyond_the_span_without_new_landmarks_are_refused(narrow: Place) -> None:
    originals, z = narrow.some()
    known = narrow.folder.known(narrow.folder.accepted())
    assert known is not None
    assert known.basis.dims == NARROW
    arrays = {PROJECTED: z, LANDMARK_COSINES: originals @ narrow.landmark_originals.T}
    write_drop(narrow.folder.drop_path("2026-02"), "2026-02", arrays, basis=known.basis.id)
    report = narrow.check("2026-02")
    assert report.verdict == Verdict.refused
    assert report.check("spanned").status == Status.failed
    assert report.check("spanned").offenders


def test_the_basis_grows_and_earlier_coordinates_stay(narrow: Place, tmp_path: Path) -> None:
    before = narrow.folder.known(narrow.folder.accepted())
    narrow.make("2026-02", *narrow.some())
    assert len(np.load(narrow.folder.drop_path("2026-02") / EXTRA_LANDMARKS)) >= DIMS - NARROW
    report = narrow.check("2026-02")
    assert report.verdict == Verdict.accepted, report.reasons
    after = narrow.folder.known(narrow.folder.accepted())
    assert before is not None
    assert after is not None
    assert after.basis.dims == DIMS
    assert after.basis.extends(before.basis)
    assert not before.basis.extends(after.basis)
    part = after.for_basis(before.basis.id)
    assert part is not None
    assert part.basis.dims == NARROW

    # The next drop is made with all landmarks, and needs no more of them.
    months = np.load(narrow.folder.root / "landmarks" / "months.npy")
    numbers = np.load(narrow.folder.root / "landmarks" / "rows.npy")
    starts = {"2026-01": 0, "2026-02": FIRST}
    landmarks = np.array([starts[month] + row for month, row in zip(months, numbers, strict=True)])
    originals, z = narrow.some(FIRST + LATER)
    narrow.make("2026-03", originals, z, landmark_originals=narrow.rows.originals[landmarks])
    assert narrow.check("2026-03").verdict == Verdict.accepted
    last = narrow.folder.known(narrow.folder.accepted())
    assert last is not None
    assert last.basis.id == after.basis.id

    made = write_training_set(narrow.folder, tmp_path / "set")
    c = np.load(made.folder / "coordinates.npy")
    true = narrow.rows.originals[: len(c)]
    np.testing.assert_allclose(c @ c.T, true @ true.T, atol=2e-4)
    assert not c[:FIRST, NARROW:].any()


def test_wrong_rows_are_found_in_a_drop_that_makes_the_basis_grow(narrow: Place) -> None:
    originals, z = narrow.some()
    z[[20, 90]] = z[[90, 20]]
    narrow.make("2026-02", originals, z)
    assert narrow.check("2026-02").quarantined == (20, 90)


def test_a_few_rows_beyond_the_span_are_quarantined(narrow: Place) -> None:
    originals, z = narrow.rows.originals[:LATER].copy(), narrow.rows.projected[:LATER].copy()
    rng = np.random.default_rng(2)
    wide = rng.standard_normal((LATER, DIMS)) + 0.2
    wide[:, NARROW:] = 0
    originals = unit(wide)
    from embup_core.geometry.transform import recover_transform

    z = recover_transform(narrow.rows.projected, narrow.rows.originals).project(originals).astype(np.float32)
    originals[:2], z[:2] = narrow.some(count=2)
    narrow.make("2026-02", originals, z)
    report = narrow.check("2026-02")
    assert report.verdict == Verdict.quarantine
    assert report.quarantined == (0, 1)
