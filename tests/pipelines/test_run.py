"""Training from a program: the result, the progress, errors as our own, nothing on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.decoders import DECODERS
from embup_core.errors import InputError, NoArtifactError, SourceUnavailableError, TrainingError
from pipelines.run import train_and_publish

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.training.result import TrainingResult
    from pipelines.settings import PipelineSettings


def test_a_named_decoder_is_trained_published_and_recorded(
    tmp_path: Path, settings: PipelineSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[float, float | None, str]] = []

    def progress(note: str, done: float, total: float | None) -> None:
        seen.append((done, total, note))

    result = train_and_publish(
        settings.source, settings.registry, settings.data, "kriging", progress, settings=settings
    )
    assert result.champion == "kriging"
    assert Registry(settings.registry).current_version() == result.version
    columns, rows = result.table
    assert columns[0] == "decoder"
    assert [row[0] for row in rows][-1] == "kriging"
    assert (
        result.evaluation.test["kriging"].test_test.r2
        > result.evaluation.test["linear_residual"].test_test.r2
    )
    assert "No service is running" in result.service
    assert result.published
    assert result.promoted
    assert result.model.version == result.version
    assert result.scores == result.evaluation.test["kriging"]
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
        record = instance.get_run_by_id(result.run_id or "")
        assert record is not None
        assert record.status == dg.DagsterRunStatus.SUCCESS
        assert record.tags["champion"] == "kriging"
        assert record.tags["r2"] == f"{result.scores.test_test.r2:.3f}"
        assert record.tags["source"] == settings.source


def test_the_basis_of_the_version_in_service_is_kept_unless_a_new_one_is_asked_for(
    settings: PipelineSettings,
) -> None:
    def trained(basis: str | None, decoder: str) -> TrainingResult:
        return train_and_publish(
            settings.source, settings.registry, settings.data, decoder, basis=basis, settings=settings
        )

    first = trained(None, "linear_residual")
    second = trained(None, "kriging")
    assert second.basis == f"{first.model.basis_id}, kept from {first.version}"
    assert second.model.basis_id == first.model.basis_id
    assert trained("new", "kriging").basis.endswith("new: as asked")
    with pytest.raises(NoArtifactError):
        trained("20260101-000000-00000000", "kriging")


def test_an_unknown_decoder_is_refused_before_anything_happens(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"expected auto, ladder or one of {', '.join(DECODERS)}"):
        train_and_publish("sample", tmp_path / "r", tmp_path / "d", "oracle")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_not_there_is_the_sources_own_error(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        train_and_publish(str(tmp_path / "none"), tmp_path / "r", tmp_path / "d")
    assert not (tmp_path / "r").exists()


def test_a_failed_check_is_an_error_that_says_what_the_check_said(settings: PipelineSettings) -> None:
    with pytest.raises(TrainingError, match=r"^linear .*R2 -") as caught:
        train_and_publish(settings.source, settings.registry, settings.data, "linear", settings=settings)
    assert caught.value.remedy
    assert Registry(settings.registry).versions() == []


def test_a_variable_that_cannot_be_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBUP_SERVICE_URL", "here")
    with pytest.raises(InputError, match="EMBUP_SERVICE_URL cannot be 'here'"):
        train_and_publish("sample", tmp_path / "r", tmp_path / "d")
