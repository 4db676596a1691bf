"""Settings come from EMBUP_* variables, are frozen, and every one of them is described."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from embup_core.training.data_folder import remember_source
from pipelines.defs.resources import resources_for
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


def test_the_source_is_that_of_the_data_folder_unless_it_is_set(tmp_path: Path) -> None:
    assert PipelineSettings(data=tmp_path).training_source == "sample"
    remember_source(tmp_path, "/data/march", fingerprint="a", promoted=True)
    assert PipelineSettings(data=tmp_path).training_source == "/data/march"
    assert PipelineSettings(data=tmp_path, source="sample").training_source == "sample"
    assert resources_for(PipelineSettings(data=tmp_path))["source"].spec == "/data/march"


@pytest.mark.parametrize(("value", "promote"), [("true", True), ("0", False), ("", None)])
def test_promotion_is_asked_for_refused_or_left_open(
    monkeypatch: pytest.MonkeyPatch, value: str, promote: bool | None
) -> None:
    monkeypatch.setenv("EMBUP_PROMOTE", value)
    assert PipelineSettings().promote is promote


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
