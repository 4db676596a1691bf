"""Training data below an address is fetched once for each ETag, whole or not at all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.errors import SourceUnavailableError
from embup_core.object_store import ObjectStore
from embup_core.sources import COSINES_FILE, GROUPS_FILE, PROJECTED_FILE, resolve_source, validate_pair
from tests.s3 import KEY_ID

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.sources import SourceFiles
    from tests.s3 import S3Server


@pytest.fixture
def store(pair: SourceFiles, s3: S3Server) -> ObjectStore:
    """A prefix that holds the two files, and one that is none of ours."""
    made = ObjectStore(f"{s3.new_bucket()}/training/2026")
    made.upload(pair.projected, PROJECTED_FILE)
    made.upload(pair.cosines, COSINES_FILE)
    made.write("notes.txt", b"not fetched")
    return made


def fetched(s3: S3Server) -> set[str]:
    """Names of the files whose content was sent since the last call."""
    found = {path.rpartition("/")[2] for _, path, status in s3.requests if status.startswith("206")}
    s3.requests.clear()
    return found


def test_the_files_are_fetched_once_and_again_where_they_changed(
    store: ObjectStore, s3: S3Server, tmp_path: Path
) -> None:
    s3.requests.clear()
    told: list[str] = []
    files = resolve_source(
        f"{store.address}/", cache_dir=tmp_path, progress=lambda what, *_: told.append(what)
    )
    assert validate_pair(files).rows == 200
    assert files.name == store.address
    assert files.projected.is_relative_to(tmp_path)
    assert set(told) == {f"downloading {PROJECTED_FILE}", f"downloading {COSINES_FILE}"}
    assert fetched(s3) == {PROJECTED_FILE, COSINES_FILE}
    assert resolve_source(store.address, cache_dir=tmp_path) == files
    assert fetched(s3) == set()
    np.save(tmp_path / "groups.npy", np.arange(200))
    store.upload(tmp_path / "groups.npy", GROUPS_FILE)
    store.upload(files.cosines, PROJECTED_FILE)
    changed = resolve_source(store.address, cache_dir=tmp_path)
    assert fetched(s3) == {PROJECTED_FILE, GROUPS_FILE}
    assert changed.groups is not None
    assert changed.projected.read_bytes() == files.cosines.read_bytes()
    store.delete([GROUPS_FILE])
    assert resolve_source(store.address, cache_dir=tmp_path).groups is None


def test_what_cannot_be_had_is_told_and_leaves_no_part(
    store: ObjectStore, s3: S3Server, tmp_path: Path, pair: SourceFiles
) -> None:
    with pytest.raises(SourceUnavailableError, match=f"{COSINES_FILE} is too large"):
        resolve_source(store.address, cache_dir=tmp_path, max_bytes=pair.projected.stat().st_size)
    with s3.failing("expired"), pytest.raises(SourceUnavailableError, match="have expired") as told:
        resolve_source(store.address, cache_dir=tmp_path)
    assert KEY_ID not in str(told.value)
    with pytest.raises(SourceUnavailableError, match="another form"):
        resolve_source("s3://user:secret@bucket/x", cache_dir=tmp_path)
    digest = hashlib.sha256(pair.projected.read_bytes()).hexdigest()
    resolve_source(store.address, cache_dir=tmp_path, sha256=(digest.upper(), None))
    with pytest.raises(SourceUnavailableError, match=f"{COSINES_FILE} has SHA-256"):
        resolve_source(store.address, cache_dir=tmp_path, sha256=(digest, "00"))
    store.delete([COSINES_FILE])
    with pytest.raises(SourceUnavailableError, match=f"{store.address} has no {COSINES_FILE}"):
        resolve_source(store.address, cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_a_transfer_that_is_cut_goes_on(store: ObjectStore, s3: S3Server, tmp_path: Path) -> None:
    with s3.failing("cut", times=2, method="GET", path=COSINES_FILE):
        assert validate_pair(resolve_source(store.address, cache_dir=tmp_path)).rows == 200
