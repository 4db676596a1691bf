"""The tables of docs/reference/settings.md are those that the code prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pipelines.settings
import serving.settings

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


@pytest.mark.parametrize(
    ("shell", "settings_table"),
    [("pipelines", pipelines.settings.settings_table), ("serving", serving.settings.settings_table)],
)
def test_the_table_is_the_generated_one(shell: str, settings_table: Callable[[], str]) -> None:
    _, found, rest = PAGE.read_text().partition(f"<!-- settings: {shell} -->\n")
    assert found, f"docs/reference/settings.md has no marker of the settings of {shell}"
    table, found, _ = rest.partition("<!-- end -->")
    assert found, f"docs/reference/settings.md has no end of the settings of {shell}"
    assert table == settings_table(), f"paste what `python -m {shell}.settings` prints"
