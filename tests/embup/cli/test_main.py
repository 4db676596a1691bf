"""What holds for every command: help, version, speed of the start, and mention in the README."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from embup.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]
GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands
HEAVY = (
    "numpy",
    "httpx",
    "rich",
    "dagster",
    "litestar",
    "duckdb",
    "pydantic",
    "torch",
    "sklearn",
    "matplotlib",
    "faiss",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = COMMANDS[name]
    assert command.help, f"embup {name} has no help"
    without = [parameter.name for parameter in command.params if not getattr(parameter, "help", None)]
    assert not without, f"embup {name} does not explain {without}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_mentioned_in_the_readme(name: str) -> None:
    page = (ROOT / "README.md").read_text()
    assert f"embup {name}" in page or f"`{name}`" in page


def test_the_commands_are_those_promised() -> None:
    local = (
        "check train evaluate anchors upsample export project models drops monthly notify clean demo debug"
    )
    of_a_service = "serve submit status watch cancel list sql keys"
    assert set(COMMANDS) == {*local.split(), *of_a_service.split()}


def test_help_is_printed_and_lists_every_command(embup: Callable[..., Any]) -> None:
    result = embup("--help")
    assert result.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout
    assert "..." not in result.stdout.partition("Commands:")[2], (
        "the first line of some command's help is too long for the list"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_prints_its_help(name: str, embup: Callable[..., Any]) -> None:
    result = embup(name, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: embup {name} ")


def test_version_is_that_of_the_installed_package(embup: Callable[..., Any]) -> None:
    result = embup("--version")
    assert (result.returncode, result.stdout) == (0, f"embup {version('embup')}\n")


def test_no_arguments_print_the_help_as_a_usage_error(embup: Callable[..., Any]) -> None:
    result = embup()
    assert result.returncode == 2
    assert "Commands:" in result.stdout + result.stderr


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, embup.cli.main; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
