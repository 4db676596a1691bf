"""A service over a data set that was imported and analysed for real, with hostile texts among its rows."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from debugger.importing.annotated import import_annotated
from debugger.runs import run
from tests.debugger.chatbot import Chat, generate_chat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.artifacts.registry import Registry

NAME = "chat"
HOSTILE = (
    '<img src=x onerror="window.executed = 1"><script>window.executed = 1</script>',
    "\u202ereversed \u2066isolated",
    "nul \x00 and bell \x07",
    "A" * 1_000_000,
)
HOSTILE_LABEL = "<b onclick='window.executed = 1'>a & b</b>"


class Debugged(NamedTuple):
    """A service, the data set's rows, and a row with a hostile label."""

    service: Any
    chat: Chat
    data: Path


@pytest.fixture(scope="session")
def analysed_chat(tmp_path_factory: pytest.TempPathFactory) -> tuple[Chat, Path]:
    """A data folder with the data set `chat`, analysed once."""
    folder = tmp_path_factory.mktemp("debugged")
    chat = generate_chat(600)
    for row, text in enumerate(HOSTILE):
        fields = json.loads(chat.records[row]["data"])
        chat.records[row]["data"] = json.dumps(fields | {"text": text})
    fields = json.loads(chat.records[5]["data"])
    chat.records[5] |= {"data": json.dumps(fields | {"intent": HOSTILE_LABEL}), "complete": True}
    file = folder / "chat.json"
    file.write_text(json.dumps(chat.records))
    import_annotated(file, folder / "data", NAME)
    run(folder / "data", NAME)
    import_annotated(file, folder / "data", "not-analysed")
    return chat, folder / "data"


@pytest.fixture(scope="session")
def looked_at(service_class: Any, registry: Registry, analysed_chat: tuple[Chat, Path]) -> Iterator[Debugged]:
    """A service whose data set no test changes."""
    chat, data = analysed_chat
    yield from serve(service_class, registry, chat, data)


@pytest.fixture
def debugged(
    service_class: Any, registry: Registry, analysed_chat: tuple[Chat, Path], tmp_path: Path
) -> Iterator[Debugged]:
    """A service of its own over a copy of the data set."""
    chat, data = analysed_chat
    shutil.copytree(data / "debug", tmp_path / "data" / "debug")
    yield from serve(service_class, registry, chat, tmp_path / "data")


def serve(service_class: Any, registry: Registry, chat: Chat, data: Path) -> Iterator[Debugged]:
    service = service_class(registry.root, data)
    try:
        yield Debugged(service, chat, data)
    finally:
        code = service.end()
    assert code == 0, service.log.read_text()
    assert "Traceback" not in service.log.read_text()
