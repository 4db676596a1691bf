"""Drops in a bucket: made here, checked elsewhere, the verdict known to a third machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embup_core.artifacts.registry import Registry
from embup_core.drops import check_drop, keep_verdict, open_drops, run_month
from embup_core.drops.make import make_drop
from embup_core.object_store import ObjectStore
from tests.embup_core.drops.conftest import DIMS, FIRST, LATER, Rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.s3 import S3Server


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


def test_a_delivery_under_way_is_not_fetched(s3: S3Server, tmp_path: Path, rows: Rows) -> None:
    address = f"{s3.new_bucket()}/embup"
    maker = open_drops(address, cache=tmp_path / "maker")
    make_drop(maker, "2026-01", rows.projected[:FIRST], originals=rows.originals[:FIRST])
    ObjectStore(address).delete(["drops/2026-01/drop.json"])
    assert open_drops(address, cache=tmp_path / "other").months() == []
