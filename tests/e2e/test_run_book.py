"""The pages for operators name commands and settings that exist, and every message that is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from embup.cli.main import app
from pipelines.notifications import Kind
from pipelines.settings import PipelineSettings
from serving.settings import ServingSettings

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("run-book", "messages", "deploy-aws")
ELSEWHERE = {"EMBUP_API_KEY"}  # of clients


def text(page: str) -> str:
    return (DOCS / "how-to" / f"{page}.md").read_text(encoding="utf-8")


def named_commands(page: str) -> list[list[str]]:
    """Words of each command of embup in a line of code."""
    code = re.findall(r"`(embup [^`]+)`", text(page))
    for block in re.findall(r"```sh\n(.*?)```", text(page), re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        code += [found for line in lines for found in re.findall(r"(?:^|\|\| )\s*(embup .*)", line)]
    return [command.split()[1:] for command in code]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_exists(page: str) -> None:
    commands = named_commands(page)
    assert commands
    for words in commands:
        command: Any = get_command(app)
        rest = list(words)
        while (groups := getattr(command, "commands", None)) and rest:
            if rest[0].startswith("-"):
                break
            assert rest[0] in groups, words
            command = groups[rest.pop(0)]
        known = {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        options = {word.partition("=")[0] for word in rest if re.fullmatch(r"--[a-z-]+(=.*)?", word)}
        assert options <= known, words


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_exists(page: str) -> None:
    known = {
        f"EMBUP_{name.upper()}" for name in (*PipelineSettings.model_fields, *ServingSettings.model_fields)
    }
    assert set(re.findall(r"EMBUP_[A-Z_]+[A-Z]", text(page))) <= known | ELSEWHERE


def test_every_kind_of_message_is_explained() -> None:
    for kind in set(Kind) - {Kind.test}:
        assert f"| `{kind}` |" in text("messages"), kind
        assert re.search(rf"\| `{kind}`", text("run-book")), kind
        severities = {"failure", "success", "warning"}
        assert kind.severity in severities
        assert f"| `{kind}` | {kind.severity} |" in text("messages")
