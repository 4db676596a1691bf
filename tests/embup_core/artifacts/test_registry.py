"""The registry publishes whole artifacts or none, and knows the one in service."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from embup_core.artifacts import registry as registry_module
from embup_core.artifacts.registry import Registry
from embup_core.errors import InvalidArtifactError, NoArtifactError
from tests.conftest import publish_kriging

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.sources import SourceFiles

    PublishAnother: TypeAlias = Callable[[Registry, int], str]


def test_an_empty_registry_says_what_to_run(tmp_path: Path) -> None:
    empty = Registry(tmp_path / "nowhere")
    assert empty.versions() == []
    with pytest.raises(NoArtifactError, match="embup train"):
        empty.load()


def test_the_last_published_is_in_service_and_earlier_ones_stay(
    tmp_path: Path, publish_another: PublishAnother
) -> None:
    registry = Registry(tmp_path)
    first, second = publish_another(registry, 1), publish_another(registry, 2)
    assert registry.current_version() == second
    assert registry.load().version == second
    assert registry.load(first).version == first
    listed = {(info.version, info.is_current) for info in registry.versions()}
    assert listed == {(first, False), (second, True)}


def test_versions_are_newest_first(registry: Registry) -> None:
    names = [info.version for info in registry.versions()]
    assert names == sorted(names, reverse=True)


def test_what_does_not_load_back_is_not_published(
    tmp_path: Path, publish_another: PublishAnother, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path)
    before = publish_another(registry, 1)

    def refuse(_: Path) -> None:
        raise InvalidArtifactError("damaged while it was written")

    monkeypatch.setattr(registry_module, "load_artifact", refuse)
    with pytest.raises(InvalidArtifactError):
        publish_another(registry, 2)
    assert registry.current_version() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([before, "CURRENT", "DEPLOYMENTS"])


@pytest.mark.parametrize("version", ["20990101-000000-deadbeef", "..", "../../etc", ""])
def test_a_version_that_is_not_there_is_said(registry: Registry, version: str) -> None:
    with pytest.raises(NoArtifactError, match="embup models"):
        registry.path(version)


def test_a_pointer_to_a_version_that_is_gone_is_damage_not_emptiness(
    tmp_path: Path, publish_another: PublishAnother
) -> None:
    registry = Registry(tmp_path)
    publish_another(registry, 1)
    (tmp_path / "CURRENT").write_text("20990101-000000-deadbeef\n")
    with pytest.raises(InvalidArtifactError, match=r"CURRENT names 20990101-000000-deadbeef"):
        registry.load()


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_pointer_that_cannot_be_read_is_said(tmp_path: Path, content: bytes | None) -> None:
    pointer = tmp_path / "CURRENT"
    pointer.mkdir() if content is None else pointer.write_bytes(content)
    with pytest.raises(InvalidArtifactError, match="cannot be read"):
        Registry(tmp_path).load()


def test_what_a_killed_publish_left_is_removed_a_day_later(
    tmp_path: Path, publish_another: PublishAnother
) -> None:
    old, young = tmp_path / ".staging-old", tmp_path / ".staging-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    publish_another(Registry(tmp_path), 1)
    assert not old.exists()
    assert young.exists()


def test_a_damaged_pointer_is_said(tmp_path: Path, publish_another: PublishAnother) -> None:
    registry = Registry(tmp_path)
    publish_another(registry, 1)
    (tmp_path / "CURRENT").write_text("../somewhere\n")
    with pytest.raises(InvalidArtifactError, match="expected a version"):
        registry.load()


def test_a_folder_without_manifest_is_passed_over(tmp_path: Path, publish_another: PublishAnother) -> None:
    registry = Registry(tmp_path)
    version = publish_another(registry, 1)
    (tmp_path / "20200101-000000-00000000").mkdir()
    assert [info.version for info in registry.versions()] == [version]


def test_the_same_bytes_in_give_the_same_content_hash(
    tmp_path: Path, publish_another: PublishAnother
) -> None:
    first = publish_another(Registry(tmp_path / "a"), 5)
    second = publish_another(Registry(tmp_path / "b"), 5)
    assert first[-8:] == second[-8:]
    assert publish_another(Registry(tmp_path / "c"), 6)[-8:] != first[-8:]


def test_another_user_may_read_it(registry: Registry) -> None:
    assert registry.path(registry.current_version()).stat().st_mode & 0o055 == 0o055


def test_a_loaded_version_answers_as_the_decoder_did(
    tmp_path: Path, publish_another: PublishAnother, sample_projected: np.ndarray
) -> None:
    registry = Registry(tmp_path)
    publish_another(registry, 3)
    rows, _ = registry.load().upsample(sample_projected)
    expected = registry.load_artifact().decoder.predict(sample_projected)
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_a_version_may_be_published_without_going_into_service(
    tmp_path: Path, sample_projected: np.ndarray, sample_coordinates: np.ndarray, registry: Registry
) -> None:
    mine = Registry(tmp_path)
    first = publish_kriging(mine, sample_projected, sample_coordinates, seed=1)
    second = publish_kriging(mine, sample_projected, sample_coordinates, seed=2, promote=False)
    assert mine.current_version() == first
    assert mine.load(second).version == second
    mine.promote(second)
    assert mine.earlier_version() == first


def test_the_same_decoder_published_twice_in_a_second_is_two_versions(
    tmp_path: Path, publish_another: PublishAnother
) -> None:
    registry = Registry(tmp_path)
    versions = {publish_another(registry, 1) for _ in range(3)}
    assert len(versions) == 3
    assert {version[-8:] for version in versions} == {max(versions)[-8:]}
    assert registry.current_version() in versions


PUBLISH = """
import sys
from pathlib import Path
import numpy as np
from embup_core.artifacts.registry import Registry
from embup_core.decoders import LinearResidual
from embup_core.artifacts.artifact import Provenance
registry, source, ready = map(Path, sys.argv[1:])
z = np.load(source)
decoder = LinearResidual().fit(z, np.pad(z, ((0, 0), (0, 64))))
provenance = Provenance("sample", "0" * 64, len(z), {}, {}, {})
ready.touch()
while len(list(ready.parent.iterdir())) < 2:
    pass
for _ in range(10):
    print(Registry(registry).publish(decoder, golden=z[:4], provenance=provenance).version)
"""


def test_two_processes_publish_at_the_same_time(tmp_path: Path, sample_source: SourceFiles) -> None:
    (tmp_path / "ready").mkdir()
    (tmp_path / "registry").mkdir()
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PUBLISH,
                tmp_path / "registry",
                sample_source.projected,
                tmp_path / "ready" / name,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    outcomes = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    published = [version for out, _ in outcomes for version in out.split()]
    registry = Registry(tmp_path / "registry")
    assert len(set(published)) == 20
    assert set(registry.version_names()) == set(published)
    assert registry.load().version in published
    assert not list(registry.root.glob(".staging-*"))


def test_prune_keeps_what_is_needed(tmp_path: Path, publish_another: PublishAnother) -> None:
    registry = Registry(tmp_path)
    assert registry.prune(0) == []
    versions = [publish_another(registry, seed) for seed in range(5)]
    registry.promote(versions[1])
    registry.promote(versions[0])
    in_order = sorted(versions)
    needed = {versions[0], versions[1]}
    assert registry.prunable(0) == [name for name in in_order if name not in needed]
    assert registry.version_names() == in_order[::-1]
    kept = needed | {in_order[-1]}
    assert registry.prune(1) == [name for name in in_order if name not in kept]
    assert set(registry.version_names()) == kept
    assert registry.roll_back().version == versions[1]
    assert registry.prune(10) == []


def test_prune_keeps_what_is_pinned_and_one_version_a_quarter(tmp_path: Path) -> None:
    months = [f"2026{month:02}01-000000-0000000{month:x}" for month in range(1, 13)]
    for version in months:
        (tmp_path / version).mkdir()
    registry = Registry(tmp_path)
    registry.point_at(months[4], "promote")
    quarters = {months[2], months[4], months[8], months[11]}  # of the second the one that was in service
    kept = {*months[-2:], months[4], *quarters, months[0]}
    removed = registry.prune(2, quarterly=True, pinned=[months[0]])
    assert removed == [name for name in months if name not in kept]
    assert set(registry.version_names()) == kept


def test_prune_refuses_where_it_is_not_known_what_is_in_service(
    tmp_path: Path, publish_another: PublishAnother
) -> None:
    registry = Registry(tmp_path)
    version = publish_another(registry, 1)
    (tmp_path / "CURRENT").write_text("nonsense")
    with pytest.raises(InvalidArtifactError):
        registry.prune(0)
    assert registry.version_names() == [version]
