"""Drops in a bucket: made here, checked elsewhere, the verdict known to a third machine."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.drops import check_drop, keep_verdict, open_drops, run_month
from embup_core.drops import stored as stored_drops
from embup_core.drops.make import make_drop
from embup_core.errors import ObjectChangedError, ObjectStoreError, OutputError
from embup_core.object_store import ObjectStore
from embup_core.object_store import store as store_module
from tests.embup_core.drops.conftest import DIMS, FIRST, LATER, Rows
from tests.s3 import KEY_ID, SECRET, SLOW_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.s3 import Fault, S3Server


def test_a_place_in_a_bucket_is_used_from_several_machines(s3: S3Server, tmp_path: Path, rows: Rows) -> None:
    address = f"{s3.new_bucket()}/embup"
    maker = open_drops(address, cache=tmp_path / "maker")
    make_drop(maker, "2026-01", rows.projected[:FIRST], originals=rows.originals[:FIRST])
    first = run_month(
        address, tmp_path / "registry", work=tmp_path / "trainer", decoder="kriging", output_dims=DIMS
    )
    assert first.month == "2026-01"
    assert first.decision == "promoted"
    assert Registry(tmp_path / "registry").versions()
    maker = open_drops(address, cache=tmp_path / "maker")
    report = maker.report("2026-01")
    assert report is not None
    assert report.accepted
    keys = [one.key for one in ObjectStore(address).objects("landmarks/")]
    assert "landmarks/rows.npy" in keys

    known = maker.known(maker.accepted())
    assert known is not None
    z = rows.projected[FIRST : FIRST + LATER].copy()
    z[[3, 70]] = z[[70, 3]]
    make_drop(
        maker,
        "2026-02",
        z,
        originals=rows.originals[FIRST : FIRST + LATER],
        landmark_originals=rows.originals[known.landmark_rows],
    )
    checker = open_drops(address, cache=tmp_path / "another")
    checked = check_drop(checker, "2026-02", output_dims=DIMS)
    keep_verdict(checker, checked)
    assert checked.report.quarantined == (3, 70)
    third = open_drops(address, cache=tmp_path / "third")
    assert [one.month for one in third.accepted()] == ["2026-01", "2026-02"]
    np.testing.assert_array_equal(third.accepted()[1].rows(), np.setdiff1d(np.arange(LATER), [3, 70]))


def test_a_look_fetches_descriptions_alone_and_cosines_are_here_while_they_are_checked(
    s3: S3Server, tmp_path: Path, rows: Rows
) -> None:
    address = f"{s3.new_bucket()}/embup"
    maker = open_drops(address, cache=tmp_path / "maker")
    make_drop(maker, "2026-01", rows.projected[:FIRST], originals=rows.originals[:FIRST])
    ObjectStore(address).write("drops/2026-02/projected.npy", b"under way")

    def fetched() -> set[str]:
        return {path.rpartition("/")[2] for method, path, _ in s3.requests if method == "GET"} & {
            "projected.npy", "cosines.npy", "drop.json", "report.json", "coordinates.npy"
        }  # fmt: skip

    s3.requests.clear()
    look = open_drops(address, cache=tmp_path / "data", look=True)
    assert (look.months(), look.incomplete(), look.report("2026-01")) == (["2026-01"], ["2026-02"], None)
    assert fetched() == {"drop.json"}
    place = open_drops(address, cache=tmp_path / "data")
    assert fetched() == {"drop.json", "projected.npy"}
    cosines = place.drop_path("2026-01") / "cosines.npy"
    reports = []
    for _ in range(2):  # checked again it comes again
        s3.requests.clear()
        former, store = place.kept_path("2026-01").name, ObjectStore(address)
        for left in ("kept-another/rows.npy", "rows.npy"):
            store.write(f"state/2026-01/{left}", b"x")
        checked = check_drop(place, "2026-01", output_dims=DIMS)
        assert checked.report.accepted
        assert "cosines.npy" in fetched()
        assert cosines.is_file()
        keep_verdict(place, checked)
        assert not cosines.exists()
        there = {one.key.split("/")[2] for one in store.objects("state/2026-01/")}
        present = place.kept_path("2026-01").name
        assert present != former
        assert there == {"report.json", present, "kept-another"}  # which a check elsewhere is writing
        reports.append(checked.report)
    s3.requests.clear()
    look = open_drops(address, cache=tmp_path / "data", look=True)
    assert [look.report("2026-01")] * 2 == reports
    assert fetched() <= {"drop.json", "report.json"}
    ObjectStore(address).write("drops/2026-01/drop.json", b"another")
    with pytest.raises(ObjectChangedError):
        check_drop(place, "2026-01", output_dims=DIMS)


@pytest.mark.parametrize("fault", ["unavailable", "cut", "lost answer", "slow"])
def test_faults_that_pass_change_nothing(
    fault: Fault, s3: S3Server, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store_module._PATIENT, "timeout_s", SLOW_S / 3)  # so that slow is too slow
    address = f"{s3.new_bucket()}/embup"
    make_drop(
        open_drops(address, cache=tmp_path / "maker"),
        "2026-01",
        rows.projected[:FIRST],
        originals=rows.originals[:FIRST],
    )
    times = 1 if fault == "slow" else 2
    with s3.failing(fault, times=times, method="GET", path="drops/2026-01/projected"):
        place = open_drops(address, cache=tmp_path / "data")
    with s3.failing(fault, times=times, method="GET", path="drops/2026-01/cosines"):
        checked = check_drop(place, "2026-01", output_dims=DIMS)
    assert checked.report.accepted
    with s3.failing(fault, times=times, method="PUT", path="state/2026-01/"):
        keep_verdict(place, checked)
    [accepted] = open_drops(address, cache=tmp_path / "other").accepted()
    np.testing.assert_array_equal(accepted.coordinates(), checked.coordinates)


@pytest.mark.parametrize(
    ("fault", "method"), [("expired", "GET"), ("denied", "HEAD"), ("other etag", "HEAD"), ("cut", "GET")]
)
def test_faults_that_stay_refuse_no_drop(
    fault: Fault, method: str, s3: S3Server, tmp_path: Path, rows: Rows
) -> None:
    address = f"{s3.new_bucket()}/embup"
    make_drop(
        open_drops(address, cache=tmp_path / "maker"),
        "2026-01",
        rows.projected[:FIRST],
        originals=rows.originals[:FIRST],
    )
    place = open_drops(address, cache=tmp_path / "data")
    failing = s3.failing(fault, method=method, path="drops/2026-01/cosines")
    with failing, pytest.raises(ObjectStoreError) as told:
        run_month(place, tmp_path / "registry", "2026-01", work=tmp_path / "data", output_dims=DIMS)
    assert KEY_ID not in str(told.value)
    assert SECRET not in str(told.value)
    assert place.report("2026-01") is None  # the store's fault is no verdict on the drop
    assert not Registry(tmp_path / "registry").versions()
    assert not (place.drop_path("2026-01") / "cosines.npy").exists()
    assert check_drop(place, "2026-01", output_dims=DIMS).report.accepted


def test_a_verdict_that_is_not_uploaded_to_its_end_leaves_the_former(
    s3: S3Server, tmp_path: Path, rows: Rows
) -> None:
    address = f"{s3.new_bucket()}/embup"
    maker = open_drops(address, cache=tmp_path / "maker")
    make_drop(maker, "2026-01", rows.projected[:FIRST], originals=rows.originals[:FIRST])
    checked = check_drop(maker, "2026-01", output_dims=DIMS)
    keep_verdict(maker, checked)
    with s3.failing("denied", method="PUT", path="report.json"), pytest.raises(ObjectStoreError):
        keep_verdict(maker, checked)
    other = open_drops(address, cache=tmp_path / "other")
    [accepted] = other.accepted()
    assert accepted.report == checked.report
    np.testing.assert_array_equal(accepted.rows(), checked.rows)
    keep_verdict(maker, checked)
    kept = {one.key.split("/")[2] for one in ObjectStore(address).objects("state/2026-01/")}
    assert len(kept) == 2


def test_copies_that_another_process_holds_are_waited_for_within_limits(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{s3.new_bucket()}/embup"
    place = open_drops(address, cache=tmp_path)
    monkeypatch.setattr(stored_drops, "LOCK_WAIT_S", 0.2)
    with (place.root / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputError):
            open_drops(address, cache=tmp_path)
        open_drops(address, cache=tmp_path, look=True)  # a tick does not wait for a run that fetches
    assert open_drops(address, cache=tmp_path).months() == []


def test_a_delivery_under_way_is_not_fetched(s3: S3Server, tmp_path: Path, rows: Rows) -> None:
    address = f"{s3.new_bucket()}/embup"
    maker = open_drops(address, cache=tmp_path / "maker")
    make_drop(maker, "2026-01", rows.projected[:FIRST], originals=rows.originals[:FIRST])
    ObjectStore(address).delete(["drops/2026-01/drop.json"])
    assert open_drops(address, cache=tmp_path / "other").months() == []
