"""Drops that are checked again, replaced, changed, or come out of order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.drops import check_drop, keep_verdict, run_month
from embup_core.drops import folder as folder_module
from embup_core.drops.training_set import write_training_set
from embup_core.errors import InvalidDataError, SourceUnavailableError
from tests.embup_core.drops.conftest import DIMS, FIRST, LATER, unit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.embup_core.drops.conftest import Place


def test_no_verdict_replaces_one_that_later_drops_rest_on(place: Place) -> None:
    place.make("2026-02", *place.some())
    assert place.check("2026-02").accepted
    before = sorted(path.name for path in place.folder.kept_path("2026-01").iterdir())
    refused = check_drop(place.folder, "2026-01", output_dims=DIMS // 2)  # fewer than the rank
    assert not refused.report.accepted
    with pytest.raises(InvalidDataError, match="2026-02 rest on"):
        keep_verdict(place.folder, refused)
    assert sorted(path.name for path in place.folder.kept_path("2026-01").iterdir()) == before
    assert place.check("2026-02").accepted


def test_a_verdict_that_is_not_written_to_its_end_leaves_the_former(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(path: Path, _: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    before = place.folder.accepted()[0]
    rows, basis = before.rows(), place.folder.known([before])
    assert basis is not None
    checked = check_drop(place.folder, "2026-01", output_dims=DIMS)
    with monkeypatch.context() as patched:
        patched.setattr(folder_module, "replace_durably", cut_off)
        with pytest.raises(OSError, match="No space"):
            keep_verdict(place.folder, checked)
    [after] = place.folder.accepted()
    assert after.report == before.report
    np.testing.assert_array_equal(after.rows(), rows)
    again = place.folder.known([after])
    assert again is not None
    assert again.basis.id == basis.basis.id
    keep_verdict(place.folder, checked)
    state = place.folder.state_path("2026-01")
    assert len(list(state.iterdir())) == 2  # nothing is left of the one that was cut off


def test_a_verdict_leaves_what_another_process_is_writing(place: Place) -> None:
    state, former = place.folder.state_path("2026-01"), place.folder.kept_path("2026-01")
    under_way, abandoned, legacy = state / "kept-another", state / "kept-old", state / "rows.npy"
    for path in (under_way, abandoned):
        path.mkdir()
    legacy.touch()
    os.utime(abandoned, (0, 0))
    keep_verdict(place.folder, check_drop(place.folder, "2026-01", output_dims=DIMS))
    present = place.folder.kept_path("2026-01")
    assert present != former
    assert set(state.iterdir()) == {state / "report.json", present, under_way}


def test_a_first_drop_that_is_replaced_keeps_its_basis(place: Place) -> None:
    before = place.check("2026-01").basis
    place.make("2026-02", *place.some())
    assert place.check("2026-02").accepted
    less = np.arange(FIRST) != 7
    originals, z = place.some(0, FIRST)
    place.make("2026-01", originals[less], z[less], overwrite=True, landmark_originals=None)
    with pytest.raises(SourceUnavailableError, match="2026-01 has no verdict"):
        check_drop(place.folder, "2026-02", output_dims=DIMS)
    again = place.check("2026-01")
    assert again.accepted
    assert again.basis == before
    assert place.check("2026-02").accepted


def test_a_file_that_changed_since_its_drop_was_accepted_stops_training(place: Place, tmp_path: Path) -> None:
    path = place.folder.drop_path("2026-01") / "projected.npy"
    np.save(path, np.load(path)[::-1])
    with pytest.raises(InvalidDataError, match="has changed since the drop was accepted"):
        write_training_set(place.folder, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_copies_of_later_months_are_left_out_of_a_drop_that_comes_late(place: Place) -> None:
    originals, z = place.some()
    place.make("2026-04", originals, z)
    assert place.check("2026-04").accepted
    nearly = unit(z + 1e-7 * np.random.default_rng(0).standard_normal(z.shape))
    more, more_z = place.some(FIRST + LATER, 150)
    place.make("2026-03", np.concatenate([originals, more]), np.concatenate([nearly, more_z]))
    report = place.check("2026-03")
    assert report.accepted
    assert list(report.duplicates) == list(range(LATER))


@pytest.mark.parametrize("copies", [10, 60])
def test_all_copies_of_a_row_are_found(place: Place, copies: int) -> None:
    originals, z = place.some()
    noise = 1e-7 * np.random.default_rng(0).standard_normal((copies, z.shape[1]))
    place.make(
        "2026-02",
        np.concatenate([originals, np.repeat(originals[:1], copies, axis=0)]),
        np.concatenate([z, unit(z[:1] + noise)]),
    )
    assert list(place.check("2026-02").duplicates) == list(range(LATER, LATER + copies))


def test_an_older_month_goes_into_service_only_if_it_is_asked_to(place: Place, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")

    def run(month: str | None, *, promote: bool | None = None) -> str:
        result = run_month(
            place.folder,
            registry,
            month,
            work=tmp_path,
            promote=promote,
            decoder="kriging",
            output_dims=DIMS,
        )
        assert result.training is not None
        return result.training.version

    first = run("2026-01")
    assert registry.current_version() == first
    place.make("2026-02", *place.some())
    second = run(None, promote=True)
    again = run("2026-01")
    assert registry.current_version() == second
    assert again in registry.version_names()
    with pytest.raises(SourceUnavailableError, match="no new drop"):
        run(None)
    asked = run("2026-01", promote=True)
    assert registry.current_version() == asked
