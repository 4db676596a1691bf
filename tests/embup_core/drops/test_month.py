"""A month in one call: check, training set, training, publication."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.decoders import DECODERS
from embup_core.drops import run_month
from embup_core.errors import SourceUnavailableError
from tests.embup_core.drops.conftest import DIMS, FIRST, LATER

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.decoders import Decoder
    from embup_core.drops import MonthResult
    from tests.embup_core.drops.conftest import Place


def run(place: Place, tmp_path: Path, month: str | None = None) -> MonthResult:
    return run_month(
        place.folder,
        tmp_path / "registry",
        month,
        work=tmp_path / "data",
        decoder="kriging",
        output_dims=DIMS,
    )


def test_the_first_month_is_promoted_and_a_refused_one_changes_nothing(place: Place, tmp_path: Path) -> None:
    first = run(place, tmp_path, "2026-01")
    assert first.month == "2026-01"
    assert first.decision == "promoted"
    assert first.training is not None
    originals, z = place.some()
    place.make("2026-02", originals, z[::-1].copy())
    refused = run(place, tmp_path)
    assert refused.month == "2026-02"
    assert refused.decision == "refused"
    assert refused.training is None
    assert refused.training_set is None
    assert refused.reasons
    registry = Registry(tmp_path / "registry")
    assert registry.current_version() == first.training.version
    assert len(registry.versions()) == 1


def test_the_next_month_trains_on_all_rows_in_the_kept_basis(place: Place, tmp_path: Path) -> None:
    first = run(place, tmp_path, "2026-01")
    originals, z = place.some()
    z[[3, 70]] = z[[70, 3]]
    place.make("2026-02", originals, z)
    second = run(place, tmp_path)
    assert second.training_set is not None
    assert second.training is not None
    assert first.training is not None
    assert second.training_set.rows == FIRST + LATER - 2
    assert second.report.quarantined == (3, 70)
    registry = Registry(tmp_path / "registry")
    versions = (first.training, second.training)
    one, other = (registry.read_basis(result.version) for result in versions)
    assert one is not None
    assert other is not None
    assert one.id == other.id == second.report.basis
    manifest = registry.info(second.training.version).manifest
    assert manifest["split"]["test"] == second.training_set.held_out_rows
    assert manifest["data"]["source"] == "drops-2026-02"
    assert manifest["data"]["rows"] == second.training_set.rows
    # Rows decoded by both versions can be compared: they lie where their coordinates do.
    before, after = (result.model.upsample(z[100:])[0] for result in versions)
    assert np.median(np.sum(before * after, axis=1)) > 0.7
    sets = [path.name for path in (tmp_path / "data" / "training-sets").iterdir()]
    assert sets == ["drops-2026-02"]


def test_a_month_is_run_again(place: Place, tmp_path: Path) -> None:
    place.make("2026-02", *place.some())
    for _ in range(2):
        result = run(place, tmp_path, "2026-02")
        assert result.training_set is not None
        assert result.training_set.rows == FIRST + LATER


def test_a_month_without_a_drop_is_an_error(place: Place, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError):
        run(place, tmp_path, "2026-07")


def test_the_decoder_of_the_report_is_published_as_a_fit_of_its_rows_would_be(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder_type, fitted = DECODERS["kriging"], []
    fit = decoder_type.fit

    def counted(self: Decoder, *rows: Any, **beside: Any) -> Decoder:
        fitted.append((rows, beside))
        return fit(self, *rows, **beside)

    monkeypatch.setattr(decoder_type, "fit", counted)
    result = run(place, tmp_path, "2026-01")
    assert result.training is not None
    assert result.checks_s < result.seconds
    assert len(fitted) == 2  # to choose by, and to report; the second one is published
    held_out = np.load(tmp_path / "data" / "training-sets" / "drops-2026-01" / "held_out.npy")
    (z, coordinates), beside = fitted[-1]
    assert len(z) == len(coordinates) == np.sum(~held_out)
    again = fit(decoder_type(), z, coordinates, **beside).arrays()
    published = Registry(tmp_path / "registry").load_artifact(result.training.version).decoder.arrays()
    assert again.keys() == published.keys()
    for name, values in again.items():
        np.testing.assert_array_equal(published[name], values)
