"""Complete deliveries come into a folder whole, once; incomplete ones stay away."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from embup_core.errors import ObjectStoreError
from embup_core.object_store import ObjectStore, mirror_prefix

if TYPE_CHECKING:
    from pathlib import Path

    from tests.s3 import S3Server


@pytest.fixture
def store(s3: S3Server) -> ObjectStore:
    made = ObjectStore(f"{s3.new_bucket()}/drops")
    for month in ("2026-10", "2026-11"):
        made.write(f"{month}/projected.npy", f"rows of {month}".encode())
        made.write(f"{month}/more/labels.npy", b"")
        made.write(f"{month}/drop.json", b"{}")
    made.write("2026-12/projected.npy", b"under way")
    made.write("README", b"none of them")
    return made


def test_complete_deliveries_are_fetched_once_and_again_when_they_change(
    store: ObjectStore, s3: S3Server, tmp_path: Path
) -> None:
    folder = tmp_path / "drops"
    found = mirror_prefix(store.address, folder)
    assert [(one.name, one.fetched) for one in found] == [("2026-10", True), ("2026-11", True)]
    assert (found[1].folder / "projected.npy").read_bytes() == b"rows of 2026-11"
    assert (found[1].folder / "more" / "labels.npy").is_file()
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == ["2026-10", "2026-11"]
    s3.requests.clear()
    assert [one.fetched for one in mirror_prefix(store.address, folder)] == [False, False]
    assert not [path for method, path, _ in s3.requests if method == "GET" and path.endswith(".npy")]
    store.write("2026-10/projected.npy", b"corrected")
    store.delete(["2026-10/more/labels.npy"])
    store.write("2026-12/drop.json", b"{}")
    found = mirror_prefix(store.address, folder)
    assert [one.name for one in found if one.fetched] == ["2026-10", "2026-12"]
    assert (folder / "2026-10" / "projected.npy").read_bytes() == b"corrected"
    assert not (folder / "2026-10" / "more").exists()
    assert not list(folder.glob(".staging-*"))


def test_a_failure_leaves_what_was_there_and_no_part(
    store: ObjectStore, s3: S3Server, tmp_path: Path
) -> None:
    mirror_prefix(store.address, tmp_path)
    store.write("2026-10/projected.npy", b"corrected")
    with s3.failing("denied", method="GET", path="2026-10/projected"), pytest.raises(ObjectStoreError):
        mirror_prefix(store.address, tmp_path)
    assert (tmp_path / "2026-10" / "projected.npy").read_bytes() == b"rows of 2026-10"
    assert not list(tmp_path.glob(".staging-*"))
    (found, _) = mirror_prefix(store.address, tmp_path)
    assert found.fetched
    assert (tmp_path / "2026-10" / "projected.npy").read_bytes() == b"corrected"


def test_a_key_that_leads_elsewhere_is_refused(store: ObjectStore, s3: S3Server, tmp_path: Path) -> None:
    bucket = store.address.removeprefix("s3://").partition("/")[0]
    httpx.put(f"{s3.endpoint}/{bucket}/drops/2026-10/%2e%2e/%2e%2e/out", content=b"x")
    folder = tmp_path / "drops"
    with suppress(ObjectStoreError):  # the library refuses such a key, or this package does
        mirror_prefix(store.address, folder)
    assert not list(tmp_path.rglob("out"))
