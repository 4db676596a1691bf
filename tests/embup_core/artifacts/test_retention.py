"""Old versions go; each reason to keep one has a case in which it alone keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embup_core.artifacts.registry import Registry
from embup_core.artifacts.retention import reasons_to_keep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def version(month: str, day: int = 1) -> str:
    return f"{month}{day:02}-120000-00000000"


MONTHS = [version(f"20{year}{month:02}") for year in (25, 26) for month in range(1, 13)]


def kept(names: list[str] = MONTHS, **given: object) -> dict[str, str]:
    usual: dict[str, object] = {"keep": 0, "current": None, "earlier": None, "deployed": (), "pinned": ()}
    found = reasons_to_keep(names, **(usual | given))  # type: ignore[arg-type]
    assert list(found) == sorted(names, reverse=True)
    return {name: why for name, why in found.items() if why}


def test_of_each_quarter_the_newest_stays_where_none_was_in_service() -> None:
    assert list(kept()) == [MONTHS[place] for place in (23, 20, 17, 14, 11, 8, 5, 2)]


def test_of_each_quarter_the_last_in_service_stays() -> None:
    # March and May were held; February served again after a rollback.
    found = kept(MONTHS[:6], deployed=[MONTHS[0], MONTHS[1], MONTHS[0], MONTHS[3]])
    assert found == {MONTHS[0]: "the one of 2025-Q1", MONTHS[3]: "the one of 2025-Q2"}


def test_without_quarters_none_is_kept_for_one() -> None:
    assert kept(deployed=None) == {}
    assert list(kept(deployed=None, keep=1)) == [MONTHS[23]]


def test_every_reason_keeps_a_version() -> None:
    found = kept(keep=2, current=MONTHS[0], earlier=MONTHS[3], pinned=[MONTHS[6], "gone"])
    assert found[MONTHS[0]] == "in service"
    assert found[MONTHS[3]] == "a rollback needs it"
    assert found[MONTHS[6]] == "a batch that has not ended needs it"
    assert found[MONTHS[22]] == found[MONTHS[23]] == "among the newest 2"
    assert MONTHS[21] not in found
    assert "gone" not in found


def test_a_pinned_version_outlives_a_pruning(
    tmp_path: Path, publish_another: Callable[[Registry, int], str]
) -> None:
    registry = Registry(tmp_path)
    published = [publish_another(registry, seed) for seed in range(4)]  # each goes into service
    assert registry.prune(0, pinned=[published[0]]) == [published[1]]
    assert set(registry.version_names()) == {published[0], published[2], published[3]}
    assert registry.prune(0) == [published[0]]


def test_who_and_how_are_in_the_history(
    tmp_path: Path, publish_another: Callable[[Registry, int], str]
) -> None:
    registry = Registry(tmp_path)
    assert registry.deployments() == []
    first, second = publish_another(registry, 1), publish_another(registry, 2)
    registry.promote(first)
    moves = registry.deployments()
    assert [(move.how, move.version, move.before) for move in moves] == [
        ("publish", first, None),
        ("publish", second, first),
        ("promote", first, second),
    ]
    assert all(move.by and move.at.startswith("20") and not move.note for move in moves)
