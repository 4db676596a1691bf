"""The table of docs/reference/file-formats.md is that of the code."""

from __future__ import annotations

from pathlib import Path

from embup_core.batch.inputs.columns import VECTOR_NAMES
from embup_core.batch.inputs.formats import FORMATS

PAGE = Path(__file__).parents[3] / "docs/reference/file-formats.md"


def test_the_page_shows_the_table_of_formats() -> None:
    rows = ["| format | endings | accepted |", "|---|---|---|"]
    for one in FORMATS:
        endings = ", ".join(f"`{ending}`" if ending else "any other" for ending in one.endings)
        rows.append(f"| {one.name} | {endings} | {one.accepts} |")
    found = PAGE.read_text().partition("<!-- formats -->")[2].partition("<!-- end of formats -->")[0]
    assert found.strip().splitlines() == rows


def test_the_page_names_the_usual_names() -> None:
    text = PAGE.read_text()
    assert [name for name in VECTOR_NAMES if f"`{name}`" not in text] == []
