"""`embup models`: what a registry holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

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
