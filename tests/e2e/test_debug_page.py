"""docs/how-to/debug-your-data.md is run, on generated rows; the reference of tables is the generated one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from debugger.store.schema import reference
from tests.debugger.chatbot import generate_chat

if TYPE_CHECKING:
    from types import SimpleNamespace

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "how-to" / "debug-your-data.md"


@pytest.mark.timeout(300)
def test_the_commands_of_the_page_do_what_they_show(tmp_path: Path, pages: SimpleNamespace) -> None:
    (tmp_path / "chat.json").write_text(json.dumps(generate_chat(600, seed=1).records))
    place = pages.Place(tmp_path, 8000)
    for block in pages.parse_blocks(PAGE.read_text()):
        if block.reason is None:
            pages.check(PAGE, block, place)
    assert len(json.loads((tmp_path / "chat-clean.json").read_text())) == 600
    assert (tmp_path / "next.csv").exists()


def test_the_tables_of_the_reference_are_the_generated_ones() -> None:
    page = (DOCS / "reference" / "debug-tables.md").read_text()
    _, found, rest = page.partition("<!-- tables -->\n")
    assert found
    assert rest.partition("<!-- end -->")[0] == reference(), (
        "paste what `python -m debugger.store.schema` prints"
    )
