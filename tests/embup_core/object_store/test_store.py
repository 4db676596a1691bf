"""Objects are listed, read and written under conditions; failures are told without what is secret."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from embup_core.errors import (
    InvalidArgumentError,
    ObjectChangedError,
    ObjectStoreError,
)
from embup_core.object_store import NEW, ObjectStore, is_address, parsed_address
from tests.s3 import KEY_ID, SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.s3 import Fault, S3Server

MANY_BYTES = 19 << 20  # five blocks of a download, three parts of an upload


@pytest.fixture
def store(s3: S3Server) -> ObjectStore:
    return ObjectStore(f"{s3.new_bucket()}/some/prefix/")


def test_addresses_have_one_spelling_and_no_secrets() -> None:
    assert parsed_address(" S3://Bucket.x/a/b//") == "s3://Bucket.x/a/b"
    assert parsed_address("gs://b") == "gs://b"
    assert is_address("az://c/p")
    assert not any(map(is_address, ("folder", "/a/s3:/b", "http://h/x", None)))
    for wrong in ("s3://", "s3://user:word@bucket/x", "s3://b/x?word=1", "ftp://b/x", "s3://b /x"):
        with pytest.raises(InvalidArgumentError) as caught:
            parsed_address(wrong)
        assert "word" not in str(caught.value)


def test_what_is_written_is_listed_and_read(store: ObjectStore) -> None:
    assert store.objects() == []
    assert store.find("a/b") is None
    assert store.read("a/b", max_bytes=9) is None
    written = store.write("a/b", b"content")
    store.write("c", b"")
    assert [(one.key, one.size_bytes) for one in store.objects()] == [("a/b", 7), ("c", 0)]
    assert [one.key for one in store.objects("a/")] == ["a/b"]
    assert store.folders() == ["a"]
    content, stored = store.read("a/b", max_bytes=9) or (b"", written)
    assert (content, stored.etag) == (b"content", written.etag)
    assert store.read("a/b", max_bytes=9, unless=stored) == (b"", stored)
    assert store.read_range(stored, 2, 5) == b"nte"
    with pytest.raises(ObjectStoreError, match="at most 6 bytes"):
        store.read("a/b", max_bytes=6)
    store.delete(["a/b", "c"])
    assert store.objects() == []


def test_a_write_holds_to_its_condition(store: ObjectStore) -> None:
    first = store.write("p", b"1", only=NEW)
    with pytest.raises(ObjectChangedError):
        store.write("p", b"2", only=NEW)
    second = store.write("p", b"2", only=first)
    with pytest.raises(ObjectChangedError):
        store.write("p", b"3", only=first)
    assert store.read("p", max_bytes=9) == (b"2", store.find("p"))
    store.delete(["p"])
    with pytest.raises(ObjectChangedError):
        store.write("p", b"3", only=second)


def test_large_files_go_up_in_parts_and_come_down_in_blocks(
    store: ObjectStore, s3: S3Server, tmp_path: Path
) -> None:
    content = os.urandom(MANY_BYTES)
    (tmp_path / "up").write_bytes(content)
    sent = store.upload(tmp_path / "up", "large")
    stored = store.find("large")
    assert stored is not None
    assert (stored.size_bytes, stored.etag) == (MANY_BYTES, sent.etag)
    told: list[tuple[str, float, float | None]] = []
    s3.requests.clear()
    store.download(stored, tmp_path / "down", progress=lambda *found: told.append(found))
    assert (tmp_path / "down").read_bytes() == content
    assert told[-1] == ("downloading large", MANY_BYTES, MANY_BYTES)
    assert [status[:3] for _, _, status in s3.requests] == ["206"] * 5
    store.write("large", content[:-1] + b"x")
    with pytest.raises(ObjectChangedError):
        store.download(stored, tmp_path / "again")


@pytest.mark.parametrize("fault", ["unavailable", "cut", "lost answer"])
def test_a_failure_that_passes_is_not_noticed(
    fault: Fault, store: ObjectStore, s3: S3Server, tmp_path: Path
) -> None:
    content = os.urandom(MANY_BYTES)
    (tmp_path / "up").write_bytes(content)
    store.upload(tmp_path / "up", "large")
    stored = store.find("large")
    assert stored is not None
    with s3.failing(fault, times=2, method="GET"):
        store.download(stored, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == content
    with s3.failing(fault, times=2, method="PUT"):
        store.upload(tmp_path / "up", "again")
    assert (store.find("again") or stored).size_bytes == MANY_BYTES


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("unavailable", "not available (answer 503, SlowDown)"),
        ("expired", "the credentials have expired (answer 400, ExpiredToken)"),
        ("denied", "these credentials may not do that (answer 403, AccessDenied)"),
    ],
)
def test_a_failure_that_stays_is_told_without_secrets(fault: Fault, words: str, s3: S3Server) -> None:
    store = ObjectStore(f"{s3.new_bucket()}/p", quick=True)
    with s3.failing(fault), pytest.raises(ObjectStoreError) as caught:
        store.read("key", max_bytes=9)
    error = caught.value
    assert words in error.message
    assert f"{store.address}/key" in error.message
    assert error.remedy
    assert error.__cause__ is None
    assert error.__suppress_context__, "a traceback must not show the library's text"
    assert KEY_ID not in str(error)
    assert SECRET not in str(error)


def test_a_store_that_is_not_there_is_told_as_such(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ObjectStoreError, match="there is no such bucket"):
        ObjectStore("s3://no-such-bucket/p").write("a", b"")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    with pytest.raises(ObjectStoreError, match="http, not https"):
        ObjectStore("s3://bucket/p").objects()
    monkeypatch.setenv("AWS_ALLOW_HTTP", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ObjectStoreError, match="cannot be reached"):
        ObjectStore("s3://bucket/p", quick=True).objects()
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ObjectStoreError, match="no account is named"):
        ObjectStore("az://container/p")
    assert ObjectStore("gs://bucket/p").address == "gs://bucket/p"
