"""The registry knows the way back, whatever happened between two moves of CURRENT."""

from __future__ import annotations

import json
import shutil
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts import registry as registry_module
from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.registry import Registry
from embup_core.errors import ArtifactError, InvalidArtifactError, NoArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Path:
    """A registry with three versions, published one after the other."""
    root = tmp_path_factory.mktemp("three") / "registry"
    made = Registry(root)
    artifact = registry.load_artifact()
    for seed in range(3):
        artifact.decoder.nugget = 0.001 * (seed + 1)  # type: ignore[attr-defined]
        made.publish(
            artifact.decoder,
            golden=np.array(artifact.manifest["golden"]["inputs"], np.float32),
            provenance=Provenance("sample", "0" * 64, 600, {}, {}, {}),
        )
    return root


@pytest.fixture
def published(three: Path, tmp_path: Path) -> tuple[Registry, list[str]]:
    """A copy of it, and its versions from the first to the last."""
    root = tmp_path / "registry"
    shutil.copytree(three, root)
    lines = (root / "DEPLOYMENTS").read_text().splitlines()
    return Registry(root), [json.loads(line)["version"] for line in lines]


def test_rollbacks_lead_back_version_by_version(published: tuple[Registry, list[str]]) -> None:
    registry, (a, b, c) = published
    assert registry.current_version() == c
    assert registry.roll_back().version == b
    assert registry.roll_back().version == a
    with pytest.raises(NoArtifactError, match=f"No version was in service before {a}"):
        registry.roll_back()
    assert registry.current_version() == a


def test_a_promotion_is_a_step_forward_that_a_rollback_takes_back(
    published: tuple[Registry, list[str]],
) -> None:
    registry, (a, b, c) = published
    registry.promote(a)
    assert registry.roll_back().version == c
    registry.roll_back()
    registry.promote(c)
    assert registry.roll_back().version == b
    registry.promote(b)
    assert registry.roll_back().version == a, "b was in service already: nothing was moved"


def test_a_bad_version_is_neither_promoted_nor_rolled_back_to(
    published: tuple[Registry, list[str]],
) -> None:
    registry, (a, b, c) = published
    (registry.root / b / "plots" / "x").write_text("not listed")
    (registry.root / b / "evaluation.json").write_text("{")
    moves: list[Callable[[], object]] = [lambda: registry.promote(b), registry.roll_back]
    for move in moves:
        with pytest.raises(InvalidArtifactError, match=r"evaluation\.json"):
            move()
        assert registry.current_version() == c
    with pytest.raises(NoArtifactError, match="is not in"):
        registry.promote("20200101-000000-00000000")
    registry.promote(a)
    assert registry.current_version() == a


def test_a_crash_between_the_record_and_the_pointer_leaves_the_way_back_right(
    published: tuple[Registry, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, (a, b, c) = published

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(registry_module, "replace_durably", crash)
        moves: list[Callable[[], object]] = [
            lambda: registry.promote(a),
            registry.roll_back,
            lambda: registry.promote(b),
        ]
        for move in moves:
            with pytest.raises(KeyboardInterrupt):
                move()
    assert registry.current_version() == c
    assert registry.roll_back().version == b
    with monkeypatch.context() as patched:
        patched.setattr(registry_module, "replace_durably", crash)
        with pytest.raises(KeyboardInterrupt):
            registry.promote(c)
    assert registry.roll_back().version == a


@pytest.mark.parametrize(
    "left", [b'{"at": "2026-01-31T1', b"\xff\x00\n", b"[]\n{}\n" + b"[" * 5000, b"null\n"]
)
def test_a_line_cut_short_or_foreign_costs_nothing_else(
    published: tuple[Registry, list[str]], left: bytes
) -> None:
    registry, (a, b, c) = published
    with (registry.root / "DEPLOYMENTS").open("ab") as file:
        file.write(left)
    registry.promote(a)
    assert registry.roll_back().version == c
    assert registry.roll_back().version == b


def test_moves_by_hand_are_allowed_for(published: tuple[Registry, list[str]]) -> None:
    registry, (a, b, c) = published
    (registry.root / "CURRENT").write_text(f"{b}\n")
    assert registry.earlier_version() == a, "back by hand is as a rollback"
    registry.promote(a)
    (registry.root / "CURRENT").write_text(f"{c}\n")
    assert registry.roll_back().version == a, "forth by hand is as a promotion"


def test_without_a_record_the_way_back_is_the_version_published_before(
    published: tuple[Registry, list[str]],
) -> None:
    registry, versions = published
    (registry.root / "DEPLOYMENTS").unlink()
    a, b, c = sorted(versions)
    (registry.root / "CURRENT").write_text(f"{c}\n")
    assert registry.roll_back().version == b
    assert registry.roll_back().version == a


def test_a_damaged_pointer_is_mended_by_a_promotion(published: tuple[Registry, list[str]]) -> None:
    registry, (a, _, c) = published
    (registry.root / "CURRENT").write_text("nonsense\n")
    with pytest.raises(InvalidArtifactError, match="expected a version"):
        registry.roll_back()
    registry.promote(a)
    assert registry.current_version() == a
    assert registry.roll_back().version == c


def test_many_moves_at_once_are_done_one_after_the_other(published: tuple[Registry, list[str]]) -> None:
    registry, versions = published
    failed: list[BaseException] = []

    def move(first: int) -> None:
        try:
            for i in range(12):
                Registry(registry.root).promote(versions[(first + i) % 3])
        except BaseException as error:  # noqa: BLE001 - looked at below
            failed.append(error)

    moving = [threading.Thread(target=move, args=(first,)) for first in range(3)]
    for thread in moving:
        thread.start()
    for thread in moving:
        thread.join()
    assert not failed
    lines = [json.loads(line) for line in (registry.root / "DEPLOYMENTS").read_text().splitlines()]
    befores = [line["before"] for line in lines[1:]]
    assert befores == [line["version"] for line in lines[:-1]], "each line goes on where the last one ended"
    assert registry.current_version() == lines[-1]["version"]
    assert sorted(path.name for path in registry.root.iterdir()) == sorted(
        [*versions, "CURRENT", "DEPLOYMENTS"]
    )


def test_a_rollback_does_not_undo_what_was_published_meanwhile(
    published: tuple[Registry, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, (a, b, c) = published
    load = registry.load_artifact

    def publish_meanwhile(version: str | None = None) -> object:
        Registry(registry.root).promote(a)
        return load(version)

    monkeypatch.setattr(registry, "load_artifact", publish_meanwhile)
    with pytest.raises(ArtifactError, match=f"Expected {c} in service, found {a}"):
        registry.roll_back()
    assert registry.current_version() == a
    assert b != a


def test_the_state_of_the_pointer_changes_with_all_that_a_load_would_find(
    published: tuple[Registry, list[str]],
) -> None:
    registry, (a, _, c) = published
    seen = [registry.pointer_state()]
    assert registry.pointer_state() == seen[0]
    assert seen[0] is not None
    assert seen[0].version == c
    decoder = registry.root / c / "decoder.safetensors"
    content = decoder.read_bytes()
    for change in (
        lambda: registry.promote(c),
        lambda: decoder.write_bytes(content[:-1]),
        lambda: shutil.move(registry.root / c, registry.root / "kept"),
        lambda: shutil.move(registry.root / "kept", registry.root / c),
        lambda: registry.promote(a),
        lambda: (registry.root / "CURRENT").write_text("nonsense"),
        (registry.root / "CURRENT").unlink,
    ):
        change()
        state = registry.pointer_state()
        assert state != seen[-1]
        seen.append(state)
    assert seen[-1] is None
