"""Settings in words: a row each, and a refusal that names the variable."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field, ValidationError

from embup_core.settings_table import markdown_settings, refused_setting


class Two(BaseModel):
    port: int = Field(default=80, description="Where to listen.")
    roots: tuple[str, ...] = Field(default=(), description="Where to look.")


def test_a_setting_is_a_row_and_an_empty_default_is_left_out() -> None:
    assert markdown_settings(Two.model_fields).splitlines()[2:] == [
        "| `EMBUP_PORT` | `80` | Where to listen. |",
        "| `EMBUP_ROOTS` |  | Where to look. |",
    ]


def test_a_refusal_names_variable_value_and_where_the_bounds_are() -> None:
    with pytest.raises(ValidationError) as caught:
        Two.model_validate({"port": "here"})
    refused = refused_setting(caught.value.errors(), listed_by="list them")
    assert refused.message.startswith("EMBUP_PORT cannot be 'here': ")
    assert "`list them`" in refused.remedy
