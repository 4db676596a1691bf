"""Settings come from EMBUP_* variables, are frozen, and every one of them is described."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.settings import PipelineSettings, settings_table


def test_variables_set_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBUP_SOURCE", "/data/march")
    monkeypatch.setenv("EMBUP_REGISTRY", "/srv/registry")
    monkeypatch.setenv("EMBUP_DATA", "there")
    settings = PipelineSettings()
    assert settings.source == "/data/march"
    assert settings.registry == Path("/srv/registry")
    assert settings.data == Path.cwd() / "there"


def test_folders_are_absolute_whether_set_or_not() -> None:
    assert PipelineSettings().data == Path.cwd() / "data"
    assert PipelineSettings().registry == Path.cwd() / "data" / "registry"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        PipelineSettings().source = "other"


@pytest.mark.parametrize(
    ("name", "value"),
    [("EMBUP_SERVICE_URL", "localhost"), ("EMBUP_SOURCE_SHA256", "12"), ("EMBUP_MAX_DOWNLOAD_BYTES", "0")],
)
def test_what_cannot_be_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        PipelineSettings()


def test_the_table_describes_every_setting() -> None:
    table = settings_table()
    assert table.count("\n") == len(PipelineSettings.model_fields) + 2
    for name, field in PipelineSettings.model_fields.items():
        assert f"| `EMBUP_{name.upper()}` |" in table
        assert field.description
