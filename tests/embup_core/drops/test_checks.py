"""Each trouble of a drop is found exactly, named, and has the verdict that it deserves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.drops import DropsFolder, check_drop
from embup_core.drops.format import COSINES, DROP_FILE, LANDMARK_COSINES, PROJECTED, write_drop
from embup_core.drops.make import make_drop
from embup_core.drops.report import CHECKS, DropReport, Status, Verdict
from embup_core.errors import SourceUnavailableError
from tests.embup_core.drops.conftest import DIMS, FIRST, LATER, Place, Rows, unit

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NOVEMBER = "2026-11"


def failed(report: DropReport) -> list[str]:
    return [one.name for one in report.checks if one.status == Status.failed]


def test_a_clean_drop_is_accepted_whole(place: Place) -> None:
    place.make(NOVEMBER, *place.some())
    report = place.check(NOVEMBER)
    assert report.verdict == Verdict.accepted
    assert [one.name for one in report.checks] == list(CHECKS)
    assert {one.status for one in report.checks} == {Status.passed}
    assert report.accepted_rows == LATER
    assert 0 < report.held_out_rows < LATER / 4


def test_a_report_survives_being_kept(place: Place) -> None:
    originals, z = place.some()
    z[[3, 70]] = z[[70, 3]]
    place.make(NOVEMBER, originals, z)
    report = place.check(NOVEMBER)
    assert report.quarantined == (3, 70)
    assert place.folder.report(NOVEMBER) == report
    assert DropReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_exactly_the_mismatched_rows_are_quarantined(place: Place) -> None:
    originals, z = place.some()
    wrong = np.random.default_rng(5).permutation(LATER)[:6]
    z[wrong] = z[np.roll(wrong, 1)]
    place.make(NOVEMBER, originals, z)
    report = place.check(NOVEMBER)
    assert report.verdict == Verdict.quarantine
    assert set(report.quarantined) == set(wrong.tolist())
    check = report.check("rows_belong")
    assert check.status == Status.warning
    places = {one["row"]: one["belongs_to"] for one in check.offenders}
    assert places == dict(zip(wrong.tolist(), np.roll(wrong, 1).tolist(), strict=True))
    (kept,) = (one for one in place.folder.accepted() if one.month == NOVEMBER)
    np.testing.assert_array_equal(kept.rows(), np.setdiff1d(np.arange(LATER), wrong))
    np.testing.assert_array_equal(kept.projected(), np.delete(z, wrong, axis=0))


@pytest.mark.parametrize("wrong", [11, 100])
def test_too_many_mismatched_rows_refuse_the_drop(place: Place, wrong: int) -> None:
    originals, z = place.some()
    z[:wrong] = np.roll(z[:wrong], 1, axis=0)
    place.make(NOVEMBER, originals, z)
    report = place.check(NOVEMBER)
    assert failed(report) == ["rows_belong"]
    assert report.check("rows_belong").figures["wrong_rows"] == wrong
    assert report.check("rows_belong").figures["found_elsewhere"] == wrong
    assert report.accepted_rows == 0
    assert [one.month for one in place.folder.accepted()] == ["2026-01"]


def test_a_shuffled_drop_is_refused_for_its_rows_and_not_for_its_map(place: Place) -> None:
    originals, z = place.some()
    place.make(NOVEMBER, originals, z[np.random.default_rng(0).permutation(LATER)])
    report = place.check(NOVEMBER)
    assert failed(report) == ["rows_belong"]
    assert report.check("same_map").status == Status.not_run


def test_another_map_is_named(place: Place) -> None:
    originals, _ = place.some()
    place.make(NOVEMBER, originals, place.rows.by_another_map[FIRST : FIRST + LATER])
    report = place.check(NOVEMBER)
    assert failed(report) == ["same_map"]
    assert "projected by another map" in report.reasons[0]
    assert report.check("same_map").figures["explained_alone"] > 0.9


def test_rows_seen_before_are_left_out_once(place: Place) -> None:
    new, z = place.some(count=140)
    again = np.arange(0, 60, 2)
    place.make(
        NOVEMBER,
        np.concatenate([new, place.rows.originals[again], new[:10]]),
        np.concatenate([z, place.rows.projected[again], z[:10]]),
    )
    report = place.check(NOVEMBER)
    assert report.verdict == Verdict.accepted
    assert report.duplicates == tuple(range(140, 180))
    assert report.accepted_rows == 140
    origins = {one["row"]: (one["of"], one["its_row"]) for one in report.check("duplicates").offenders}
    assert origins
    for row, (month, its_row) in origins.items():
        expected = ("2026-01", again[row - 140]) if row < 170 else ("this drop", row - 170)
        assert (month, its_row) == expected


@pytest.mark.parametrize("order", ["reversed", "rotated"])
def test_landmarks_in_another_order_are_refused(place: Place, order: str) -> None:
    originals, z = place.some()
    landmarks = place.landmark_originals
    moved = landmarks[::-1] if order == "reversed" else np.roll(landmarks, 1, axis=0)
    place.make(NOVEMBER, originals, z, landmark_originals=moved)
    assert failed(place.check(NOVEMBER)) == ["landmarks"]


def test_landmarks_with_other_originals_are_listed(place: Place) -> None:
    originals, z = place.some()
    landmarks = place.landmark_originals.copy()
    landmarks[[4, 9]] = place.rows.originals[-2:]
    cosines = originals @ landmarks.T
    make_drop(place.folder, NOVEMBER, z, landmark_cosines=cosines)
    report = place.check(NOVEMBER)
    assert failed(report) == ["landmarks"]
    assert {one["landmark"] for one in report.check("landmarks").offenders} >= {4, 9}


def test_a_row_with_impossible_cosines_is_quarantined(place: Place) -> None:
    originals, z = place.some()
    cosines = originals @ place.landmark_originals.T
    cosines[17] = np.random.default_rng(0).uniform(-1, 1, cosines.shape[1])
    make_drop(place.folder, NOVEMBER, z, landmark_cosines=cosines)
    report = place.check(NOVEMBER)
    assert report.verdict == Verdict.quarantine
    assert report.quarantined == (17,)


def test_half_precision_is_accepted_and_still_judged(place: Place) -> None:
    originals, z = place.some()
    z[[3, 70]] = z[[70, 3]]
    place.make(NOVEMBER, originals, z, half_precision=True)
    assert np.load(place.folder.drop_path(NOVEMBER) / LANDMARK_COSINES).dtype == np.float16
    assert place.check(NOVEMBER).quarantined == (3, 70)


def test_drift_warns_and_lets_the_drop_through(place: Place) -> None:
    rng = np.random.default_rng(3)
    one_topic = unit(rng.standard_normal(DIMS) * 1.5 + rng.standard_normal((LATER, DIMS)) * 0.4 + 0.2)
    known = place.rows
    place.make(NOVEMBER, one_topic, _projected_like(known, one_topic))
    report = place.check(NOVEMBER)
    assert report.accepted
    for name in ("drift_of_z", "drift_of_coordinates"):
        check = report.check(name)
        assert check.status == Status.warning
        assert check.figures["energy_distance"] > 2 * check.figures["energy_by_chance"]
        assert check.offenders[0]["psi"] > 0.25


def _projected_like(known: Rows, originals: NDArray[np.float32]) -> NDArray[np.float32]:
    """z of other originals by the map of the known rows, which is recovered as a checker would."""
    from embup_core.geometry.transform import recover_transform

    return recover_transform(known.projected, known.originals).project(originals).astype(np.float32)


def test_a_changed_byte_is_found(place: Place) -> None:
    place.make(NOVEMBER, *place.some())
    path = place.folder.drop_path(NOVEMBER) / PROJECTED
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    report = place.check(NOVEMBER)
    assert failed(report) == ["files"]
    assert report.check("files").offenders[0]["file"] == PROJECTED


@pytest.mark.parametrize("trouble", ["nan", "long", "columns", "range", "dims", "no cosines"])
def test_a_broken_array_is_refused(place: Place, trouble: str) -> None:
    originals, z = place.some()
    cosines = originals @ place.landmark_originals.T
    match trouble:
        case "nan":
            cosines[5, 7] = np.nan
        case "long":
            z[5] *= 2
        case "columns":
            cosines = cosines[:, :-1]
        case "range":
            cosines[5, 7] = 1.5
        case "dims":
            z = unit(z[:, :-1])
    known = place.folder.known(place.folder.accepted())
    assert known is not None
    arrays = {PROJECTED: z} | ({} if trouble == "no cosines" else {LANDMARK_COSINES: cosines})
    write_drop(place.folder.drop_path(NOVEMBER), NOVEMBER, arrays, basis=known.basis.id)
    report = place.check(NOVEMBER)
    assert failed(report) == ["schema"]
    assert report.check("schema").remedy


def test_a_drop_of_another_basis_is_refused(place: Place) -> None:
    originals, z = place.some()
    cosines = originals @ place.landmark_originals.T
    folder = place.folder.drop_path(NOVEMBER)
    write_drop(folder, NOVEMBER, {PROJECTED: z, LANDMARK_COSINES: cosines}, basis="0" * 16)
    assert failed(place.check(NOVEMBER)) == ["schema"]


def test_too_few_rows_are_refused(place: Place) -> None:
    originals, z = place.some(count=120)
    place.make(NOVEMBER, np.concatenate([originals[:90]] * 2), np.concatenate([z[:90]] * 2))
    report = place.check(NOVEMBER)
    assert failed(report) == ["enough_rows"]
    assert report.check("enough_rows").figures["rows"] == 90


def test_a_first_drop_without_all_cosines_is_refused(tmp_path: Path, rows: Rows) -> None:
    place = DropsFolder(tmp_path)
    write_drop(place.drop_path(NOVEMBER), NOVEMBER, {PROJECTED: rows.projected[:200]})
    report = check_drop(place, NOVEMBER, output_dims=DIMS).report
    assert failed(report) == ["schema"]


def test_wrong_rows_of_a_first_drop_are_quarantined(tmp_path: Path, rows: Rows) -> None:
    place, z = DropsFolder(tmp_path), rows.projected[:FIRST].copy()
    z[[3, 70]] = z[[70, 3]]
    cosines = rows.originals[:FIRST] @ rows.originals[:FIRST].T
    write_drop(place.drop_path(NOVEMBER), NOVEMBER, {PROJECTED: z, COSINES: cosines})
    assert check_drop(place, NOVEMBER, output_dims=DIMS).report.quarantined == (3, 70)


def test_a_half_uploaded_drop_is_never_taken(place: Place) -> None:
    place.make(NOVEMBER, *place.some())
    (place.folder.drop_path(NOVEMBER) / "drop.json").unlink()
    assert place.folder.months() == ["2026-01"]
    assert place.folder.incomplete() == [NOVEMBER]
    with pytest.raises(SourceUnavailableError):
        place.check(NOVEMBER)


def test_a_drop_in_the_folder_of_another_month_is_refused(place: Place) -> None:
    place.make(NOVEMBER, *place.some())
    place.folder.drop_path(NOVEMBER).rename(place.folder.drop_path("2026-12"))
    assert failed(place.check("2026-12")) == ["files"]


@pytest.mark.parametrize("description", [b"", b"[]", b'{"format": 1}', b'{"format": 2, "files": {}}'])
def test_a_damaged_description_is_refused_and_stops_no_other_month(place: Place, description: bytes) -> None:
    place.make(NOVEMBER, *place.some())
    (place.folder.drop_path(NOVEMBER) / DROP_FILE).write_bytes(description)
    report = place.check(NOVEMBER)
    assert failed(report) == ["files"]
    assert place.folder.report(NOVEMBER) == report
    place.make("2026-12", *place.some())
    assert place.check("2026-12").verdict == Verdict.accepted


def test_a_verdict_is_about_one_delivery(place: Place) -> None:
    place.make(NOVEMBER, *place.some())
    place.check(NOVEMBER)
    place.make(NOVEMBER, *place.some(FIRST + LATER), overwrite=True)
    assert place.folder.report(NOVEMBER) is None
    assert [one.month for one in place.folder.accepted()] == ["2026-01"]


def test_the_first_drop_keeps_its_basis_when_it_is_checked_again(place: Place) -> None:
    place.make(NOVEMBER, *place.some())
    place.check(NOVEMBER)
    before = place.folder.known(place.folder.accepted())
    again = place.check("2026-01")
    after = place.folder.known(place.folder.accepted())
    assert before is not None
    assert after is not None
    assert before.basis.id == after.basis.id == again.basis
