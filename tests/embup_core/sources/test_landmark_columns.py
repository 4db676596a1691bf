"""Wrong landmark columns are refused with the file, the row, the column and a remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.errors import InvalidDataError, SourceError, SourceUnavailableError
from embup_core.sources import resolve_source, validate_pair
from embup_core.sources.folder import files_in_folder
from tests.landmarks import LandmarkFolder, landmark_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS, LANDMARKS = 300, 40


@pytest.fixture
def made(tmp_path: Path) -> LandmarkFolder:
    """A valid source that a test may damage."""
    return landmark_folder(tmp_path / "source", rows=ROWS, landmarks=LANDMARKS, dims=20)


def validated(made: LandmarkFolder, tmp_path: Path) -> Any:
    return validate_pair(resolve_source(str(made.folder), cache_dir=tmp_path / "cache"))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_valid_columns_are_described(tmp_path: Path, dtype: str) -> None:
    made = landmark_folder(tmp_path / "s", rows=ROWS, landmarks=LANDMARKS, dims=20, dtype=dtype)
    profile = validated(made, tmp_path)
    true = made.originals @ made.originals[made.rows].T
    others = true[np.arange(ROWS)[:, None] != made.rows]
    assert profile.rows == ROWS
    assert profile.mean_cosine == pytest.approx(others.mean(), abs=2e-4)
    assert profile.cosine_deviation == pytest.approx(others.std(), rel=1e-3)
    assert profile.lowest_cosine == pytest.approx(others.min(), abs=1e-3)
    assert profile.highest_cosine == pytest.approx(others.max(), abs=1e-3)
    assert profile.cosine_bytes == made.cosines.stat().st_size


def test_the_fingerprint_is_of_all_three_files(made: LandmarkFolder, tmp_path: Path) -> None:
    found = [validated(made, tmp_path).fingerprint, validated(made, tmp_path).fingerprint]
    assert found[0] == found[1]
    z, columns = np.load(made.folder / "projected_train_embs.npy"), np.load(made.cosines)
    order = np.random.default_rng(1).permutation(LANDMARKS)
    np.save(made.cosines, columns[:, order])
    np.save(made.landmark_rows, made.rows[order])
    found.append(validated(made, tmp_path).fingerprint)
    np.save(made.folder / "projected_train_embs.npy", z[::-1])
    found.append(validated(made, tmp_path).fingerprint)
    columns[not_a_landmark(made.rows), 3] += 1e-3
    np.save(made.cosines, columns[:, order])
    found.append(validated(made, tmp_path).fingerprint)
    assert len(set(found)) == 4


def cosines(change: Callable[[Any, Any], Any]) -> Callable[[LandmarkFolder], None]:
    def damage(made: LandmarkFolder) -> None:
        array = np.load(made.cosines)
        changed = change(array, made.rows)
        np.save(made.cosines, array if changed is None else changed)

    return damage


def landmark_rows(change: Callable[[Any], Any]) -> Callable[[LandmarkFolder], None]:
    def damage(made: LandmarkFolder) -> None:
        array = np.load(made.landmark_rows)
        changed = change(array)
        np.save(made.landmark_rows, array if changed is None else changed)

    return damage


def put(array: Any, row: int, column: int, value: float) -> None:
    array[row, column] = value


def not_a_landmark(rows: Any) -> int:
    return int(np.setdiff1d(np.arange(ROWS), rows)[3])


FAULTS: dict[str, tuple[Callable[[LandmarkFolder], None], tuple[str, ...]]] = {
    "one row fewer": (cosines(lambda g, _: g[:-1]), ("landmark_cosines.npy", "299", "300")),
    "one dimension": (cosines(lambda g, _: g[:, 0]), ("landmark_cosines.npy", "(300,)")),
    "two columns": (
        cosines(lambda g, _: g[:, :2]),
        ("landmark_cosines.npy", "(300, 2)"),
    ),
    "integers": (cosines(lambda g, _: g.astype(np.int32)), ("landmark_cosines.npy", "i4")),
    "not finite": (
        cosines(lambda g, rows: put(g, not_a_landmark(rows), 7, np.nan)),
        ("landmark_cosines.npy", "column 7", "nan"),
    ),
    "infinite": (
        cosines(lambda g, rows: put(g, not_a_landmark(rows), 39, -np.inf)),
        ("landmark_cosines.npy", "column 39", "inf"),
    ),
    "out of range": (
        cosines(lambda g, rows: put(g, not_a_landmark(rows), 5, 1.02)),
        ("landmark_cosines.npy", "column 5", "1.02"),
    ),
    "a landmark is not finite": (
        cosines(lambda g, rows: put(g, rows[4], 9, np.nan)),
        ("landmark_cosines.npy", "not symmetric"),
    ),
    "diagonal": (
        cosines(lambda g, rows: put(g, rows[11], 11, 0.9)),
        ("landmark_cosines.npy", "column 11", "0.9", "1 of 40"),
    ),
    "not symmetric": (
        cosines(lambda g, rows: put(g, rows[3], 30, g[rows[3], 30] - 0.01)),
        ("landmark_cosines.npy", "not symmetric", "column 30", "column 3 "),
    ),
    "columns in another order": (
        cosines(lambda g, _: g[:, ::-1].copy()),
        ("landmark_cosines.npy", "landmark"),
    ),
    "a landmark twice": (
        landmark_rows(lambda rows: put(rows[None], 0, 5, rows[6])),
        ("landmark_rows.npy", "entry 5", "2 times"),
    ),
    "a landmark that there is not": (
        landmark_rows(lambda rows: put(rows[None], 0, 8, ROWS)),
        ("landmark_rows.npy", "entry 8", "300"),
    ),
    "a negative landmark": (
        landmark_rows(lambda rows: put(rows[None], 0, 2, -1)),
        ("landmark_rows.npy", "entry 2", "-1"),
    ),
    "a landmark fewer": (landmark_rows(lambda rows: rows[:-1]), ("landmark_rows.npy", "(39,)", "(40,)")),
    "landmarks as floats": (
        landmark_rows(lambda rows: rows.astype(np.float64)),
        ("landmark_rows.npy", "f8"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(made: LandmarkFolder, tmp_path: Path, fault: str) -> None:
    validated(made, tmp_path)  # valid before
    damage, named = FAULTS[fault]
    damage(made)
    with pytest.raises(InvalidDataError) as caught:
        validated(made, tmp_path)
    assert caught.value.remedy
    for text in named:
        assert text in caught.value.message


def test_the_row_of_a_wrong_value_is_the_one_in_the_file(made: LandmarkFolder, tmp_path: Path) -> None:
    row = not_a_landmark(made.rows)
    cosines(lambda g, _: put(g, row, 0, np.nan))(made)
    with pytest.raises(InvalidDataError) as caught:
        validated(made, tmp_path)
    assert f"row {row}, column 0" in caught.value.message


def test_row_numbers_that_are_not_there_are_named(made: LandmarkFolder, tmp_path: Path) -> None:
    made.landmark_rows.unlink()
    with pytest.raises(SourceUnavailableError) as caught:
        resolve_source(str(made.folder), cache_dir=tmp_path)
    assert "landmark_rows.npy" in caught.value.message


def test_a_truncated_file_is_named(made: LandmarkFolder, tmp_path: Path) -> None:
    content = made.cosines.read_bytes()
    made.cosines.write_bytes(content[:-100])
    with pytest.raises(SourceError) as caught:
        validated(made, tmp_path)
    assert "truncated" in caught.value.message


@pytest.mark.parametrize("name", ["og_train_cos_theta.npy", "og_train_cos_theta.npz", "coordinates.npy"])
def test_columns_beside_what_takes_their_place_are_refused(tmp_path: Path, name: str) -> None:
    made = landmark_folder(tmp_path / "s", rows=200, landmarks=30, dims=10)
    (made.folder / name).write_bytes(b"")
    with pytest.raises(SourceUnavailableError, match="has both"):
        files_in_folder(made.folder)
