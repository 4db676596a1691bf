"""A registry in a bucket is read and written as a folder is; of two who move its pointer, one wins."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.artifacts.remote import open_registry
from embup_core.errors import (
    ArtifactError,
    InvalidArtifactError,
    NoArtifactError,
    PromotionConflictError,
    RegistryUnavailableError,
)
from embup_core.object_store import ObjectStore
from tests.s3 import KEY_ID, SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.embup_core.artifacts.remote.conftest import Open, Publish
    from tests.s3 import S3Server

Z = np.eye(1, 4, dtype=np.float32)


def test_what_one_process_publishes_another_reads(address: str, opened: Open, publish: Publish) -> None:
    with pytest.raises(NoArtifactError) as nothing:
        opened("reader").current()
    assert f"--registry {address}" in nothing.value.remedy
    writer = opened("writer")
    first, second = publish(writer, 1), publish(writer, 2)
    reader = opened("reader")
    assert reader.version_names() == [second, first]
    assert [(one.version, one.is_current) for one in reader.versions()] == [(second, True), (first, False)]
    assert not (reader.root / second).exists(), "a list needs no artifacts"
    assert np.array_equal(reader.load().upsample(Z)[0], writer.load().upsample(Z)[0])
    assert (reader.path(second) / "plots" / "a.png").read_bytes() == b"a plot"
    assert not (reader.root / first).exists()
    assert Registry(reader.root).current_version() == second, "the copy is a registry, too"
    assert not list(reader.root.glob(".staging-*"))
    with pytest.raises(NoArtifactError):
        reader.path("20200101-000000-00000000")


def test_versions_go_into_service_and_back(opened: Open, publish: Publish) -> None:
    one = opened("one")
    a, b, c = (publish(one, number) for number in (1, 2, 3))
    other = opened("other")
    assert other.earlier_version() == b
    assert other.roll_back().version == b
    assert other.promote(a).is_current
    one.look()
    assert (one.current_version(), one.earlier_version()) == (a, b)
    assert one.roll_back().version == b
    assert opened("third").current_version() == b
    assert opened("third").earlier_version() == a, "as in a folder: a promotion of a followed the rollback"
    assert c in one.version_names()


def test_of_two_publishers_at_once_one_wins_and_nothing_is_lost(opened: Open, publish: Publish) -> None:
    for number in range(4):  # the first time there is no pointer, then there is one
        publishers = [opened(f"publisher {who}") for who in range(2)]
        barrier = threading.Barrier(2)

        def publish_at_once(who: int, number: int = number) -> str | PromotionConflictError:
            barrier.wait()  # noqa: B023 - the threads end before the next one is made
            try:
                return publish(publishers[who], 10 * number + who)  # noqa: B023
            except PromotionConflictError as error:
                return error

        with ThreadPoolExecutor(2) as threads:
            outcomes = list(threads.map(publish_at_once, range(2)))
        (winner,) = (one for one in outcomes if isinstance(one, str))
        (told,) = (one for one in outcomes if isinstance(one, PromotionConflictError))
        seen = opened("somebody")
        assert seen.load().version == winner
        (loser,) = set(seen.version_names()[:2]) - {winner}
        assert loser in told.message
        assert winner in told.message
        assert f"embup models promote {loser}" in told.remedy
        seen.load_artifact(loser)
        lost = publishers[outcomes.index(told)]
        assert lost.promote(loser).is_current, "knowing what is there, it may decide anew"
    assert len(opened("somebody").version_names()) == 8


def test_who_has_not_seen_a_promotion_does_not_undo_it(opened: Open, publish: Publish) -> None:
    slow = opened("slow")
    publish(slow, 1)
    fast = publish(opened("fast"), 2)
    with pytest.raises(PromotionConflictError):
        publish(slow, 3)
    assert opened("somebody").current_version() == fast
    assert publish(slow, 4) == slow.current_version(), "it has looked since"


def test_an_answer_that_is_lost_is_no_defeat(opened: Open, publish: Publish, s3: S3Server) -> None:
    registry = opened()
    publish(registry, 1)
    for path in ("CURRENT", "manifest.json", "DEPLOYMENTS"):
        number = len(registry.version_names()) + 1
        with s3.failing("lost answer", times=1, method="PUT", path=path):
            version = publish(registry, number)
        assert opened("other").load().version == version


@pytest.mark.parametrize("path", ["decoder.safetensors", "plots", "manifest.json", "CURRENT"])
def test_an_outage_while_publishing_leaves_the_old_version_in_service(
    path: str, address: str, opened: Open, publish: Publish, s3: S3Server
) -> None:
    registry = opened()
    first = publish(registry, 1)
    with s3.failing("unavailable", method="PUT", path=path), pytest.raises(RegistryUnavailableError) as told:
        publish(registry, 2)
    second = Registry(registry.root).version_names()[0]
    other = opened("other")
    assert other.load().version == first
    assert (second in other.version_names()) == (path == "CURRENT")
    if path != "CURRENT":
        assert f"embup models promote {second} --registry {address}" in told.value.remedy
    assert registry.promote(second).is_current, "uploads what is missing"
    assert other.path(second).is_dir()
    assert opened("third").load().version == second


def test_a_wrong_etag_is_noticed_before_the_pointer_moves(
    opened: Open, publish: Publish, s3: S3Server
) -> None:
    registry = opened()
    first = publish(registry, 1)
    with (
        s3.failing("other etag", method="PUT", path="decoder.safetensors"),
        pytest.raises(ArtifactError, match="another process"),
    ):
        publish(registry, 2)
    assert opened("other").load().version == first


def test_a_damaged_or_cut_version_is_not_taken(
    address: str, opened: Open, publish: Publish, s3: S3Server
) -> None:
    registry = opened()
    first, second = publish(registry, 1), publish(registry, 2)
    store = ObjectStore(address)
    found = store.read(f"{second}/decoder.safetensors", max_bytes=1 << 20)
    assert found is not None
    reader = opened("reader")
    for bad in (found[0][:-1] + bytes([found[0][-1] ^ 1]), found[0][:-1]):
        store.write(f"{second}/decoder.safetensors", bad)
        with pytest.raises(InvalidArtifactError) as told:
            reader.load()
        assert f"{address}/{second}/decoder.safetensors" in told.value.message
        assert not (reader.root / second).exists()
    store.delete([f"{second}/decoder.safetensors"])
    with pytest.raises(InvalidArtifactError, match="found no file"):
        reader.load()
    with s3.failing("cut", method="GET", path=first), pytest.raises(RegistryUnavailableError):
        reader.load(first)
    assert reader.load(first).version == first
    assert reader.promote(first).is_current


def test_a_damaged_pointer_is_told_and_mended(address: str, opened: Open, publish: Publish) -> None:
    version = publish(opened(), 1)
    ObjectStore(address).write("CURRENT", b"nonsense")
    other = opened("other")
    with pytest.raises(InvalidArtifactError, match=f"{address}/CURRENT: expected a version"):
        other.current()
    assert [one.version for one in other.versions()] == [version]
    assert other.promote(version).is_current


def test_without_the_store_the_copy_is_read_and_the_outage_told(
    opened: Open, publish: Publish, s3: S3Server
) -> None:
    first = publish(opened("writer"), 1)
    with s3.failing("denied"), pytest.raises(RegistryUnavailableError):
        opened("service")
    with s3.failing("expired"):
        empty = opened("service", look=False)
        assert empty.pointer_state() is None
        with pytest.raises(RegistryUnavailableError, match="credentials have expired") as told:
            empty.load()
        assert KEY_ID not in str(told.value)
        assert SECRET not in str(told.value)
    service = opened("service", look=False)
    service.pointer_state()
    assert service.load().version == first
    second = publish(opened("writer"), 2)
    state = service.pointer_state()
    assert state is not None
    assert state.version == second
    with s3.failing("unavailable"):
        assert service.pointer_state() == state
        assert service.pointer_state() == state
        assert service.store_state.failed_looks == 2
        assert "not available" in str(service.store_state.outage)
        assert service.version_names() == [first], "what is here"
        with pytest.raises(RegistryUnavailableError):
            service.load()
        again = opened("service", look=False)
        again.pointer_state()
        assert again.load().version == first, "a restart serves what was verified here"
    service.pointer_state()
    assert service.store_state.outage is None
    assert service.load().version == second


def test_old_versions_are_removed_and_what_is_needed_stays(
    address: str, opened: Open, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = opened()
    a, b, c, d, e = (publish(registry, number) for number in range(5))
    registry.promote(a)
    store = ObjectStore(address)
    abandoned = "20200101-000000-00000000"
    store.write(f"{abandoned}/decoder.safetensors", b"a part")
    reader = opened("reader")
    reader.path(b)
    assert reader.prunable(1) == [b, c, d]
    assert reader.prune(1) == [b, c, d]
    assert reader.version_names() == [e, a]
    assert not (reader.root / b).exists()
    assert store.objects(f"{abandoned}/"), "may be under way"
    monkeypatch.setattr("embup_core.artifacts.remote.stored._ABANDONED_AFTER", timedelta(-1))
    assert reader.prune(1) == []
    assert {one.key.split("/")[0] for one in store.objects()} == {a, e, "CURRENT", "DEPLOYMENTS"}


def test_copies_of_old_versions_are_removed_while_the_store_has_them(
    opened: Open, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embup_core.artifacts.remote.mirrored._KEPT_COPIES", 2)
    registry = opened()
    versions = [publish(registry, number) for number in range(5)]
    registry.promote(versions[0])
    reader = opened("reader")
    for version in versions:
        reader.path(version)
    reader.load()
    copies = set(Registry(reader.root).version_names())
    assert copies == {versions[0], versions[3], versions[4]}, "the newest, and in service with the one before"
    assert set(reader.version_names()) == set(versions)
    assert reader.load(versions[1]).version == versions[1], "fetched again"


def test_a_version_promoted_while_it_is_pruned_stays_whole(
    opened: Open, publish: Publish, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = opened()
    a, b, c = (publish(registry, number) for number in range(3))
    pruner, promoter = opened("pruner"), opened("promoter")
    promoter.path(a)
    look = pruner.look

    def promoted_before_the_look() -> None:
        if not ObjectStore(pruner.address).find(f"{a}/manifest.json"):
            promoter._store.write("CURRENT", f"{a}\n".encode())
        look()

    monkeypatch.setattr(pruner, "look", promoted_before_the_look)
    assert pruner.prune(0) == []
    assert opened("somebody").load().version == a
    assert c in opened("somebody").version_names()
    assert b in opened("somebody").version_names()


def test_two_artifacts_of_one_name_do_not_mix(address: str, opened: Open, publish: Publish) -> None:
    version = publish(opened(), 1)
    store = ObjectStore(address)
    found = store.read(f"{version}/manifest.json", max_bytes=1 << 20)
    assert found is not None
    publish(opened("same"), 1)  # the same content in the same second: the same version
    store.write(f"{version}/manifest.json", found[0] + b"\n")
    with pytest.raises(ArtifactError, match="under this name"):
        publish(opened("other"), 1)


def test_a_folder_is_opened_as_ever(tmp_path: Path) -> None:
    found = open_registry(tmp_path / "registry")
    assert type(found) is Registry
    assert (found.root, found.address) == (tmp_path / "registry", str(tmp_path / "registry"))
    assert found.store_state is None


def test_the_users_cache_is_where_copies_lie_by_default(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EMBUP_REGISTRY_CACHE", raising=False)
    assert open_registry(address).root.parent == tmp_path / "embup" / "registries"
    monkeypatch.setenv("EMBUP_REGISTRY_CACHE", str(tmp_path / "mine"))
    assert open_registry(f"{address}/").root.parent == tmp_path / "mine"
