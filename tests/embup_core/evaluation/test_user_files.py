"""Files of somebody's own rows are read as they are meant, or refused by file, row and value."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.errors import EmbupError, InputError
from embup_core.evaluation.user_files import UserData, UserFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

load = partial(UserData.load, input_dims=32, output_dims=1536)
BY_ORIGINALS = ("projected", "originals", "reference_projected", "reference_originals")
BY_COSINES = ("projected", "cosines", "reference_projected", "reference_cosines")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 rows and 510 reference rows, none of which is unit."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for prefix, rows in (("", 90), ("reference_", 510)):
        np.save(folder / f"{prefix}projected.npy", rng.standard_normal((rows, 32)))
        np.save(folder / f"{prefix}originals.npy", rng.standard_normal((rows, 1536)).astype(np.float32))
        np.save(folder / f"{prefix}labels.npy", np.arange(rows) % 3)
    x, known = (_unit(np.load(folder / f"{prefix}originals.npy")) for prefix in ("", "reference_"))
    np.save(folder / "cosines.npy", x @ x.T)
    np.save(folder / "reference_cosines.npy", x @ known.T)
    return folder


def _unit(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _files(folder: Path, *names: str) -> UserFiles:
    return UserFiles(
        **({"projected": folder / "none.npy"} | {name: folder / f"{name}.npy" for name in names})
    )


def test_originals_and_cosines_tell_the_same_truth(folder: Path) -> None:
    told: list[str] = []
    rows = load(_files(folder, *BY_ORIGINALS, "labels", "reference_labels"))
    by_cosines = load(_files(folder, *BY_COSINES), progress=lambda label, *_: told.append(label))
    assert rows.test_reference is not None
    assert by_cosines.test_reference is not None
    for truth in (rows, by_cosines):
        assert truth.test_test.shape == (90, 90)
        np.testing.assert_allclose(
            truth.test_test.block(20, 50), np.load(folder / "cosines.npy")[20:50], atol=1e-6
        )
        assert truth.test_reference is not None
        np.testing.assert_allclose(
            truth.test_reference.block(0, 90), np.load(folder / "reference_cosines.npy"), atol=1e-6
        )
    np.testing.assert_allclose(rows.projected, _unit(np.load(folder / "projected.npy")), atol=1e-6)
    assert rows.labels is not None
    assert (len(rows.labels), by_cosines.labels, by_cosines.originals) == (90, None, None)
    assert set(told) == {"checking the cosine matrix", "checking the cosines"}


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_only_the_direction_of_a_row_counts(folder: Path, tmp_path: Path, scale: float) -> None:
    np.save(tmp_path / "projected.npy", np.load(folder / "projected.npy") * scale)
    found = load(UserFiles(projected=tmp_path / "projected.npy", originals=folder / "originals.npy"))
    np.testing.assert_allclose(found.projected, _unit(np.load(folder / "projected.npy")), atol=1e-6)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("projected",), "Expected originals or cosines, found neither."),
        (("projected", "originals", "cosines"), "Expected originals or cosines, found both."),
        (
            (*BY_ORIGINALS, "reference_cosines"),
            "Expected reference originals or reference cosines, found both.",
        ),
        (
            ("projected", "cosines", "reference_projected", "reference_originals"),
            "Reference originals need originals",
        ),
        (("projected", "cosines", "labels"), "Expected labels and reference labels, found one of the two."),
        (("projected", "cosines", "reference_cosines"), "need the reference rows' projected embeddings"),
        (("projected", "cosines", "reference_projected"), "alone cannot be compared with anything"),
    ],
)
def test_files_that_make_no_sense_together_are_refused(
    folder: Path, names: tuple[str, ...], told: str
) -> None:
    with pytest.raises(InputError) as caught:
        load(_files(folder, *names))
    assert told in caught.value.message
    assert caught.value.remedy


def _set(row: int, column: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[row, column] = value
        return array

    return change


def _zeros(row: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[row] = 0
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("projected", _set(7, 3, np.nan), "projected.npy, row 7, column 3: nan, expected a finite number"),
        ("projected", _zeros(4), "projected.npy, row 4: only zeros, expected a direction"),
        ("projected", lambda a: a[:, :31], "projected.npy has shape (90, 31), expected (n, 32)"),
        ("projected", lambda a: a[:5], "projected.npy has 5 rows, expected at least 20"),
        ("projected", lambda a: a.astype(object), "projected.npy holds pickled Python objects"),
        ("originals", _set(80, 9, np.inf), "originals.npy, row 80, column 9: inf"),
        ("originals", _zeros(11), "originals.npy, row 11: only zeros"),
        ("originals", lambda a: a[:89], "originals.npy has 89 rows and"),
        ("originals", lambda a: a[:, :512], "originals.npy has shape (90, 512), expected (n, 1536)"),
        ("originals", np.ones_like, "originals.npy: all cosines are 1, expected cosines that differ"),
        ("reference_originals", _set(300, 0, np.nan), "reference_originals.npy, row 300, column 0: nan"),
        ("reference_projected", lambda a: a[:500], "reference_originals.npy has 510 rows and"),
        (
            "reference_projected",
            lambda a: a[:0],
            "shape (0, 32), expected (n, 32) with n at least 1",
        ),
    ],
)
def test_bad_vectors_are_named(
    folder: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    told: str,
) -> None:
    _refused(folder, tmp_path, BY_ORIGINALS, name, change, told)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("cosines", lambda a: a[:, :80], "cosines.npy has shape (90, 80), expected a square matrix"),
        ("cosines", lambda a: a[:80, :80], "cosines.npy has 80 rows and"),
        ("cosines", _set(3, 4, 0.1), "cosines.npy is not symmetric: row 3, column 4"),
        ("cosines", _set(5, 5, 0.5), "cosines.npy, row 5, column 5: 0.5 on the diagonal"),
        (
            "reference_cosines",
            _set(2, 400, 1.5),
            "reference_cosines.npy, row 2, column 400: 1.5, expected a cosine",
        ),
        ("reference_cosines", _set(2, 400, np.nan), "reference_cosines.npy, row 2, column 400: nan"),
        ("reference_cosines", lambda a: a.T.copy(), "Save its transpose."),
        ("labels", lambda a: a[:50], "labels.npy has 50 entries and"),
        ("reference_labels", lambda a: a.astype(object), "reference_labels.npy holds pickled Python objects"),
        (
            "reference_labels",
            np.ones_like,
            "reference_labels.npy: All 510 labels are 1, expected at least two",
        ),
        (
            "reference_labels",
            lambda a: np.arange(len(a)),
            "510 rows have 510 different labels, expected at most",
        ),
        ("labels", lambda a: a + 100, "No label of"),
        (
            "reference_cosines",
            lambda a: np.full_like(a, 0.5),
            "reference_cosines.npy: all cosines are 0.5, expected",
        ),
        ("reference_labels", lambda a: a.astype(str), "expected integers in both or strings in both"),
    ],
)
def test_bad_cosines_and_labels_are_named(
    folder: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    told: str,
) -> None:
    _refused(folder, tmp_path, (*BY_COSINES, "labels", "reference_labels"), name, change, told)


def _refused(
    folder: Path,
    tmp_path: Path,
    names: tuple[str, ...],
    damaged: str,
    change: Callable[[np.ndarray], np.ndarray],
    told: str,
) -> None:
    files = {name: folder / f"{name}.npy" for name in names}
    files[damaged] = tmp_path / f"{damaged}.npy"
    np.save(files[damaged], change(np.load(folder / f"{damaged}.npy")), allow_pickle=True)
    with pytest.raises(EmbupError) as caught:
        load(UserFiles(**files))
    assert told in str(caught.value)
    assert caught.value.remedy
