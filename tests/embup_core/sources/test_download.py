"""Downloads from a real server on this machine, with the faults that real servers have."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.errors import SourceUnavailableError
from embup_core.sources.download import download, without_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from tests.embup_core.sources.conftest import FileServer

BODY = os.urandom(3_000_000)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "z.npy"


def fetch(server: FileServer, target: Path, **options: Any) -> Path:
    settings: dict[str, Any] = {"max_bytes": 10**7, "attempts": 3, "first_wait_s": 0.001} | options
    return download(f"{server.url}/z.npy", target, **settings)


def test_a_file_arrives_whole_and_leaves_no_part_behind(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    seen: list[tuple[str, int, int | None]] = []
    assert fetch(server, target, progress=lambda *event: seen.append(event)) == target
    assert target.read_bytes() == BODY
    assert sorted(path.name for path in target.parent.iterdir()) == ["z.npy", "z.npy.json"]
    assert seen[-1] == ("downloading z.npy", len(BODY), len(BODY))


def test_an_unchanged_file_is_not_downloaded_again(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    fetch(server, target)
    fetch(server, target)
    assert server.answers == [200, 304]
    assert server.sent_bytes == len(BODY)


@pytest.mark.parametrize("validators", [True, False])
def test_an_unchanged_file_is_recognised_though_the_server_ignores_conditions(
    server: FileServer, target: Path, validators: bool
) -> None:
    server.files["/z.npy"] = BODY
    server.conditions, server.validators = False, validators
    fetch(server, target)
    before = target.stat()
    fetch(server, target)
    assert server.answers == [200, 200]
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_changed_file_is_downloaded_again(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    fetch(server, target)
    server.files["/z.npy"] = BODY[::-1]
    fetch(server, target)
    assert target.read_bytes() == BODY[::-1]


def test_a_file_damaged_on_disk_is_downloaded_again(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    fetch(server, target)
    target.write_bytes(BODY[:1000])
    fetch(server, target)
    assert target.read_bytes() == BODY


def test_a_dropped_connection_is_resumed_where_it_broke(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    server.drop_after_bytes, server.drops_left = 1_000_000, 2
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.answers == [200, 206, 206]
    assert server.requests[1]["If-Range"] == server.etag(BODY)
    assert server.sent_bytes == len(BODY)


def test_a_line_that_keeps_breaking_arrives_as_long_as_it_moves(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    server.drop_after_bytes, server.drops_left = 300_000, 9
    fetch(server, target, attempts=2)
    assert target.read_bytes() == BODY
    assert server.sent_bytes == len(BODY)


def test_a_part_left_by_another_process_is_resumed(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    server.drop_after_bytes, server.drops_left = 1_000_000, 1
    server.failures = []
    with pytest.raises(SourceUnavailableError, match=r"1 attempts.*1000000 bytes are kept"):
        fetch_until_stuck(server, target)
    server.failures = []
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.answers[-1] == 206


def fetch_until_stuck(server: FileServer, target: Path) -> None:
    def fail_from_now_on(_: str, done: int, __: int | None) -> None:
        if done >= 900_000:
            server.failures = [503] * 10

    fetch(server, target, attempts=1, progress=fail_from_now_on)


def test_a_part_of_a_file_that_changed_since_is_not_continued(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    server.drop_after_bytes, server.drops_left = 1_000_000, 1
    with pytest.raises(SourceUnavailableError):
        fetch_until_stuck(server, target)
    server.failures = []
    server.files["/z.npy"] = BODY[::-1]
    fetch(server, target)
    assert target.read_bytes() == BODY[::-1]
    assert server.answers[-1] == 200


def test_a_range_of_a_changed_file_is_refused_though_the_server_ignores_if_range(
    server: FileServer, target: Path
) -> None:
    server.files["/z.npy"] = BODY
    server.drop_after_bytes, server.drops_left, server.conditions = 1_000_000, 1, False
    with pytest.raises(SourceUnavailableError):
        fetch_until_stuck(server, target)
    server.failures = []
    server.files["/z.npy"] = BODY[::-1]
    fetch(server, target)
    assert target.read_bytes() == BODY[::-1]
    assert server.answers[-2:] == [206, 200]


def test_a_part_longer_than_the_file_on_the_server_is_thrown_away(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    server.drop_after_bytes, server.drops_left, server.conditions = 1_000_000, 1, False
    with pytest.raises(SourceUnavailableError):
        fetch_until_stuck(server, target)
    server.failures = []
    server.files["/z.npy"] = BODY[:500]
    fetch(server, target)
    assert target.read_bytes() == BODY[:500]
    assert server.answers[-2:] == [416, 200]


def test_passing_trouble_of_the_server_is_waited_for(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    server.failures = [503, 429]
    fetch(server, target)
    assert target.read_bytes() == BODY


def test_a_server_that_promises_more_than_it_sends_is_an_error(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    server.claim_extra_bytes = 10
    with pytest.raises(SourceUnavailableError, match="could not be fetched in 3 attempts"):
        fetch(server, target)
    assert not target.exists()


def test_a_file_over_the_limit_is_refused_before_a_byte_is_written(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    with pytest.raises(
        SourceUnavailableError, match=r"too large: the server says it has 3000000 bytes.*2000000"
    ):
        fetch(server, target, max_bytes=2_000_000)
    assert list(target.parent.iterdir()) == []
    assert server.answers == [200]


def test_the_limit_holds_where_the_server_does_not_say_how_much_comes(
    server: FileServer, target: Path
) -> None:
    server.files["/z.npy"] = BODY
    server.chunked = True
    with pytest.raises(SourceUnavailableError, match="too large: the server has sent"):
        fetch(server, target, max_bytes=2_000_000)
    assert list(target.parent.iterdir()) == []


def test_a_body_without_a_length_arrives(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    server.chunked = True
    fetch(server, target)
    assert target.read_bytes() == BODY


def test_the_right_hash_is_accepted_in_either_case(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    fetch(server, target, sha256=hashlib.sha256(BODY).hexdigest().upper())
    assert target.exists()


def test_the_wrong_hash_removes_the_file_and_says_both(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    with pytest.raises(
        SourceUnavailableError, match=f"{hashlib.sha256(BODY).hexdigest()}, expected {'0' * 64}"
    ):
        fetch(server, target, sha256="0" * 64)
    assert list(target.parent.iterdir()) == []


def test_the_hash_is_of_the_bytes_on_disk_not_of_the_record(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    fetch(server, target)
    target.write_bytes(BODY[::-1])
    with pytest.raises(SourceUnavailableError, match="SHA-256"):
        fetch(server, target, sha256=hashlib.sha256(BODY).hexdigest())


def test_a_missing_file_is_not_asked_for_twice(server: FileServer, target: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="answered 404"):
        fetch(server, target)
    assert server.answers == [404]


def test_a_compressed_answer_is_refused(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    server.content_encoding = "gzip"
    with pytest.raises(SourceUnavailableError, match="Content-Encoding gzip"):
        fetch(server, target)


def test_a_server_that_is_not_there_is_named_with_the_copy_that_is(server: FileServer, target: Path) -> None:
    server.files["/z.npy"] = BODY
    fetch(server, target)
    with pytest.raises(SourceUnavailableError, match=f"the folder {target.parent}"):
        download("http://127.0.0.1:9/z.npy", target, max_bytes=10**7, attempts=2, first_wait_s=0.001)
    assert target.read_bytes() == BODY


def test_secrets_of_an_address_are_neither_recorded_nor_shown(server: FileServer, target: Path) -> None:
    assert without_secrets("https://me:pw@host:1/a/b.npy?sig=s#f") == "https://host:1/a/b.npy"
    server.files["/z.npy"] = BODY
    url = server.url.replace("http://", "http://me:hidden@") + "/z.npy?signature=hidden"
    download(url, target, max_bytes=10**7)
    assert "hidden" not in json.dumps(json.loads((target.parent / "z.npy.json").read_text()))
    with pytest.raises(SourceUnavailableError) as caught:
        download(url.replace("z.npy", "y.npy"), target, max_bytes=10**7)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://h:abc/x", "http://[bad/x", "http://me:hid/den@h/x", "https://h:99999/x", "http://h]/x"]
)
def test_a_malformed_address_is_refused_and_not_repeated(url: str, target: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="URL of the source is malformed") as caught:
        download(url, target, max_bytes=10)
    assert caught.value.remedy
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/z.npy", "http:///z.npy"])
def test_an_address_that_cannot_be_fetched_is_not_tried_again(url: str, target: Path) -> None:
    # A second attempt would wait for minutes, longer than a test may.
    with pytest.raises(SourceUnavailableError, match=r"cannot be fetched: .*protocol"):
        download(url, target, max_bytes=10, first_wait_s=600)


def test_an_address_with_an_ipv6_host_keeps_its_brackets() -> None:
    assert without_secrets("http://me@[::1]:8000/z.npy") == "http://[::1]:8000/z.npy"
