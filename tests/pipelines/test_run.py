"""Training from a program: the result, the progress, errors as our own, nothing on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from embup_core.decoders import DECODERS
from embup_core.errors import InputError, SourceUnavailableError, TrainingError
from embup_core.registry import Registry
from pipelines.run import train_and_publish

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.settings import PipelineSettings


def test_a_named_decoder_is_trained_published_and_recorded(
    tmp_path: Path, settings: PipelineSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[float, float | None, str]] = []

    def progress(done: float, total: float | None = None, note: str = "") -> None:
        seen.append((done, total, note))

    result = train_and_publish(
        settings.source, settings.registry, settings.data, "kriging", progress, settings=settings
    )
    assert result.champion == "kriging"
    assert Registry(settings.registry).latest_version() == result.version
    columns, rows = result.table
    assert columns[0] == "decoder"
    assert [row[0] for row in rows][-1] == "kriging"
    assert (
        result.evaluation.test["kriging"].test_test.r2
        > result.evaluation.test["linear_residual"].test_test.r2
    )
    assert "No service is running" in result.service
    assert result.rows == 600
    assert 0 < result.recovery_s < 60

    done = [one[0] for one in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1]
    assert {note.partition(":")[0] for _, _, note in seen} >= {
        "cosine_matrix",
        "evaluation",
        "decoder_artifact",
    }
    assert capfd.readouterr() == ("", "")

    with dg.DagsterInstance.from_config(str(settings.data / ".dagster")) as instance:
        assert not instance.telemetry_enabled
        record = instance.get_run_by_id(result.run_id)
        assert record is not None
        assert record.status == dg.DagsterRunStatus.SUCCESS


def test_an_unknown_decoder_is_refused_before_anything_happens(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"expected auto, fast or one of {', '.join(DECODERS)}"):
        train_and_publish("sample", tmp_path / "r", tmp_path / "d", "oracle")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_not_there_is_the_sources_own_error(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        train_and_publish(str(tmp_path / "none"), tmp_path / "r", tmp_path / "d")
    assert not (tmp_path / "r").exists()


def test_a_failed_check_is_an_error_that_says_what_the_check_said(settings: PipelineSettings) -> None:
    with pytest.raises(TrainingError, match=r"linear reaches R2 -.* on validation rows") as caught:
        train_and_publish(settings.source, settings.registry, settings.data, "linear", settings=settings)
    assert caught.value.remedy
    assert Registry(settings.registry).versions() == []


def test_a_variable_that_cannot_be_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBUP_SERVICE_URL", "here")
    with pytest.raises(InputError, match="EMBUP_SERVICE_URL cannot be 'here'"):
        train_and_publish("sample", tmp_path / "r", tmp_path / "d")
