"""`embup models`: what a registry holds."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.registry import Registry


def test_the_published_decoders_are_listed(embup: Callable[..., Any], registry: Registry) -> None:
    result = embup("models", "--registry", registry.root)
    assert result.returncode == 0, result.stderr
    assert registry.latest_version() in result.stdout
    assert "kriging" in result.stdout


def test_json_marks_the_latest(embup: Callable[..., Any], registry: Registry) -> None:
    answer = json.loads(embup("models", "--registry", registry.root, "--json").stdout)
    assert answer["latest"] == registry.latest_version()
    assert [model["version"] for model in answer["models"]] == [info.version for info in registry.versions()]


def test_an_empty_registry_is_no_error_and_says_how_to_fill_it(
    embup: Callable[..., Any], tmp_path: Path
) -> None:
    result = embup("models", "--registry", tmp_path)
    assert result.returncode == 0
    assert "embup train" in result.stderr
    assert json.loads(embup("models", "--registry", tmp_path, "--json").stdout) == {
        "latest": None,
        "models": [],
    }


@pytest.mark.parametrize("pointer", ["nonsense", "20260101-000000-00000000"])
def test_a_damaged_registry_is_an_error(embup: Callable[..., Any], tmp_path: Path, pointer: str) -> None:
    (tmp_path / "LATEST").write_text(pointer)
    result = embup("models", "--registry", tmp_path)
    assert result.returncode == 1
    assert pointer in result.stderr
    assert result.stdout == ""


def test_what_a_damaged_pointer_may_name_is_listed_all_the_same(
    embup: Callable[..., Any], registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(registry.root, tmp_path / "copy")
    (tmp_path / "copy" / "LATEST").write_text("nonsense")
    for options in ((), ("--json",)):
        result = embup("models", "--registry", tmp_path / "copy", *options)
        assert result.returncode == 1
        assert registry.latest_version() in result.stdout
        assert "nonsense" in result.stderr


def test_a_version_without_a_manifest_is_an_error_while_it_is_the_latest(
    embup: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "LATEST").write_text("20260101-000000-00000000")
    (tmp_path / "20260101-000000-00000000").mkdir()
    result = embup("models", "--registry", tmp_path)
    assert result.returncode == 1
    assert "manifest.json" in result.stderr


@pytest.fixture
def two(registry: Registry, publish_another: Callable[[Registry, int], str], tmp_path: Path) -> Registry:
    """A registry with two versions, the second one promoted."""
    shutil.copytree(registry.root, tmp_path / "two")
    made = type(registry)(tmp_path / "two")
    publish_another(made, 7)
    return made


def test_a_version_is_promoted_and_rolled_back(embup: Callable[..., Any], two: Registry) -> None:
    newer = two.latest_version()
    older = two.earlier_version()
    result = embup("models", "rollback", "--registry", two.root, "--json")
    assert json.loads(result.stdout) == {"latest": older, "before": newer}
    assert two.latest_version() == older
    result = embup("models", "rollback", EMBUP_REGISTRY=str(two.root))
    assert result.returncode == 2
    assert f"No version was in service before {older}" in result.stderr
    result = embup("models", "--registry", two.root, "promote", newer)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["latest", newer, "before", older]
    assert two.latest_version() == newer


def test_a_bad_version_is_found_and_not_promoted(embup: Callable[..., Any], two: Registry) -> None:
    newer, older = two.latest_version(), two.earlier_version()
    result = embup("models", "verify", "--registry", two.root)
    assert result.returncode == 0, result.stderr
    (two.root / older / "MODEL_CARD.md").write_text("mine")
    result = embup("models", "verify", "--registry", two.root, "--json")
    assert result.returncode == 1
    problems = {one["version"]: one["problem"] for one in json.loads(result.stdout)["models"]}
    assert problems[newer] is None
    assert "MODEL_CARD.md" in problems[older]
    assert embup("models", "verify", newer, "--registry", two.root).returncode == 0
    for command in (("promote", older), ("rollback",)):
        result = embup("models", *command, "--registry", two.root)
        assert result.returncode == 1
        assert "MODEL_CARD.md" in result.stderr
    assert two.latest_version() == newer


@pytest.mark.parametrize("command", ["promote", "rollback", "verify"])
def test_each_subcommand_explains_itself(embup: Callable[..., Any], command: str) -> None:
    result = embup("models", command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: embup models {command} ")
