"""Coordinates recovered from landmark columns: those of the matrix, in bounded memory, once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.manifest import BASIS_FILE
from embup_core.errors import InvalidDataError, SourceUnavailableError
from embup_core.geometry import landmark_source
from embup_core.geometry.basis import Basis, recover_in_new_basis
from embup_core.geometry.landmark_source import recorded_recovery, with_coordinates
from embup_core.geometry.source_check import check_source, rows_to_leave_out
from embup_core.sources import SourceFiles, resolve_source, validate_pair
from embup_core.sources.cosine_matrix import CosineMatrix
from tests.landmarks import LandmarkFolder, landmark_folder

if TYPE_CHECKING:
    from pathlib import Path

DIMS = 40


@pytest.fixture
def made(tmp_path: Path) -> LandmarkFolder:
    return landmark_folder(tmp_path / "source", rows=1500, landmarks=128, dims=DIMS)


def recovered(made: LandmarkFolder, cache: Path, *, kept: Basis | None = None) -> SourceFiles:
    files = resolve_source(str(made.folder), cache_dir=cache)
    return with_coordinates(files, cache, output_dims=DIMS, kept=kept)


def basis_of(files: SourceFiles) -> Basis:
    return Basis.from_bytes(files.cosines.with_name(BASIS_FILE).read_bytes())


def cosine_error(files: SourceFiles, made: LandmarkFolder) -> float:
    coordinates = np.load(files.cosines)
    error = coordinates @ coordinates.T - made.originals @ made.originals.T
    np.fill_diagonal(error, 0)
    return float(np.sqrt(np.mean(error**2)))


def test_float32_columns_give_the_cosines_of_all_pairs(made: LandmarkFolder, tmp_path: Path) -> None:
    files = recovered(made, tmp_path / "cache")
    coordinates = np.load(files.cosines)
    assert coordinates.dtype == np.float32
    assert coordinates.shape == (1500, DIMS)
    np.testing.assert_allclose(np.linalg.norm(coordinates, axis=1), 1, atol=1e-6)
    assert cosine_error(files, made) < 2e-6


def test_they_are_those_of_the_matrix(made: LandmarkFolder, tmp_path: Path) -> None:
    """Up to a rotation, so their products are compared, and the basis of each serves the other."""
    matrix_file = tmp_path / "matrix.npy"
    np.save(matrix_file, made.originals @ made.originals.T)
    matrix = CosineMatrix.open(matrix_file)
    whole = recover_in_new_basis(matrix, made.projected, output_dims=DIMS).coordinates
    coordinates = np.load(recovered(made, tmp_path / "cache").cosines)
    np.testing.assert_allclose(coordinates @ coordinates.T, whole @ whole.T, atol=2e-5)


def test_float16_columns_lose_what_rounding_takes(tmp_path: Path) -> None:
    made = landmark_folder(tmp_path / "s", rows=1500, landmarks=128, dims=DIMS, dtype="float16")
    files = recovered(made, tmp_path / "cache")
    record = recorded_recovery(files.cosines)
    assert record is not None
    assert record.noise.rounding == pytest.approx(1.4e-4, rel=0.2)
    assert (record.landmarks, record.checking) == (124, 4)
    # Columns that took no part tell the error of all pairs, and have been rounded themselves.
    expected = np.hypot(cosine_error(files, made), record.noise.rounding)
    assert record.noise.residual == pytest.approx(expected, rel=0.2)
    assert cosine_error(files, made) < 1e-3
    assert "4 landmarks" in record.describe()


def test_rows_are_judged_and_the_map_is_found(made: LandmarkFolder, tmp_path: Path) -> None:
    z = np.load(made.folder / "projected_train_embs.npy")
    z[[100, 700]] = z[[700, 100]]
    np.save(made.folder / "projected_train_embs.npy", z)
    report = check_source(recovered(made, tmp_path / "cache"), output_dims=DIMS)
    assert report.rows.transform.is_affine
    assert report.rows.transform.median_angle < 1e-3
    assert report.rows.wrong_rows.tolist() == [100, 700]
    assert report.rows.belongs_to.tolist() == [700, 100]
    assert (
        report.profile.fingerprint
        == validate_pair(resolve_source(str(made.folder), cache_dir=tmp_path)).fingerprint
    )


def test_a_second_time_nothing_is_recovered(
    made: LandmarkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = recovered(made, tmp_path / "cache")
    before = first.cosines.stat().st_mtime_ns
    with monkeypatch.context() as patched:
        patched.setattr(landmark_source, "validate_pair", None)
        assert recovered(made, tmp_path / "cache") == first
    assert first.cosines.stat().st_mtime_ns == before
    columns = np.load(made.cosines)
    np.save(made.cosines, columns.astype(np.float16))
    assert recovered(made, tmp_path / "cache").cosines != first.cosines


def test_a_basis_is_kept_where_its_landmarks_are_landmarks(made: LandmarkFolder, tmp_path: Path) -> None:
    first = recovered(made, tmp_path / "cache")
    basis = basis_of(first)
    more = landmark_folder(tmp_path / "more", rows=1500, landmarks=128, dims=DIMS)
    np.save(more.folder / "projected_train_embs.npy", more.projected[::-1])
    np.save(more.cosines, np.load(more.cosines)[::-1])
    np.save(more.landmark_rows, 1499 - more.rows)
    again = recovered(more, tmp_path / "cache", kept=basis)
    assert again.cosines != first.cosines
    assert basis_of(again).id == basis.id
    np.testing.assert_allclose(np.load(again.cosines)[::-1], np.load(first.cosines), atol=2e-5)


def test_a_basis_of_these_columns_needs_no_second_copy(made: LandmarkFolder, tmp_path: Path) -> None:
    first = recovered(made, tmp_path / "cache")
    assert recovered(made, tmp_path / "cache", kept=basis_of(first)) == first


def test_columns_that_change_meanwhile_are_refused(made: LandmarkFolder, tmp_path: Path) -> None:
    files = resolve_source(str(made.folder), cache_dir=tmp_path)

    def change(label: str, _: float, __: float | None) -> None:
        if label == "writing the coordinates":
            os.utime(made.cosines)

    with pytest.raises(InvalidDataError, match="changed while"):
        with_coordinates(files, tmp_path / "cache", output_dims=DIMS, progress=change)
    assert not list((tmp_path / "cache").iterdir())


def test_wrong_rows_are_not_sent_to_a_repair_that_refuses_them(made: LandmarkFolder, tmp_path: Path) -> None:
    z = np.load(made.folder / "projected_train_embs.npy")
    z[[100, 700]] = z[[700, 100]]
    np.save(made.folder / "projected_train_embs.npy", z)
    files = recovered(made, tmp_path / "cache")
    report = check_source(files, output_dims=DIMS)
    with pytest.raises(InvalidDataError) as caught:
        rows_to_leave_out(report.rows, files)
    assert "--repair" not in str(caught.value)
    assert "landmark_cosines.npy" in str(caught.value)


def test_another_basis_is_made_where_they_are_not(made: LandmarkFolder, tmp_path: Path) -> None:
    basis = basis_of(recovered(made, tmp_path / "cache"))
    other = landmark_folder(tmp_path / "other", rows=1500, landmarks=128, dims=DIMS, seed=1)
    files = recovered(other, tmp_path / "cache", kept=basis)
    assert basis_of(files).id != basis.id
    assert cosine_error(files, other) < 2e-6


@pytest.mark.parametrize("landmarks", [12, 36])
def test_too_few_landmarks_are_refused(tmp_path: Path, landmarks: int) -> None:
    made = landmark_folder(tmp_path / "s", rows=1500, landmarks=landmarks, dims=DIMS)
    cache = tmp_path / "cache"
    with pytest.raises(InvalidDataError) as caught:
        recovered(made, cache)
    assert "landmark" in caught.value.message + caught.value.remedy
    assert not cache.exists() or not list(cache.iterdir())


def test_originals_of_more_dimensions_than_said_are_refused(made: LandmarkFolder, tmp_path: Path) -> None:
    files = resolve_source(str(made.folder), cache_dir=tmp_path)
    with pytest.raises(InvalidDataError) as caught:
        with_coordinates(files, tmp_path / "cache", output_dims=DIMS // 2)
    assert "--output-dims" in caught.value.remedy


def test_a_row_outside_the_span_is_named(made: LandmarkFolder, tmp_path: Path) -> None:
    row = int(np.setdiff1d(np.arange(1500), made.rows)[1000])
    columns = np.load(made.cosines)
    columns[row] = 0.0
    np.save(made.cosines, columns)
    cache = tmp_path / "cache"
    with pytest.raises(InvalidDataError) as caught:
        recovered(made, cache)
    assert f"row {row} " in caught.value.message
    assert not list(cache.glob("*"))


def test_a_cache_that_cannot_be_written_is_named(made: LandmarkFolder, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SourceUnavailableError) as caught:
        recovered(made, blocked)
    assert str(blocked) in caught.value.message


_MEASURED = """
import sys
from pathlib import Path
from embup_core.geometry.landmark_source import with_coordinates
from embup_core.geometry.source_check import check_source
from embup_core.sources import resolve_source

def own_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split(maxsplit=1)[0])

folder, cache, dims = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
import numpy, scipy.linalg, scipy.sparse.linalg
most = before = own_bytes()
def look(*_):
    global most
    most = max(most, own_bytes())
files = resolve_source(str(folder), cache_dir=cache)
files = with_coordinates(files, cache, output_dims=dims, progress=look)
look()
report = check_source(files, output_dims=dims, progress=look)
look()
assert report.ok
print(report.profile.rows, most - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_columns(tmp_path: Path) -> None:
    """100,000 rows of 512 columns are 205 MB, and their coordinates 154 MB: neither is held."""
    own = {}
    for rows in (30_000, 100_000):
        folder = landmark_folder(
            tmp_path / str(rows), rows=rows, landmarks=512, dims=384, input_dims=32
        ).folder
        arguments = [sys.executable, "-c", _MEASURED, str(folder), str(tmp_path / "cache"), "384"]
        ended = subprocess.run(arguments, check=False, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        found, own[rows] = map(int, ended.stdout.split())
        assert found == rows
    # 70,000 rows more have z in both precisions and some figures each, 35 MB; columns would be 143 MB more.
    assert own[100_000] - own[30_000] < 70e6
