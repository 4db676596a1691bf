"""Anchors of a source are checked by themselves, and against the cosine matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.errors import InvalidDataError, SourceUnavailableError
from embup_core.sources import (
    ANCHOR_ROWS_FILE,
    ANCHORS_FILE,
    load_anchors,
    require_agreement,
    resolve_source,
)
from embup_core.sources.anchors import AnchorFiles
from embup_core.sources.cosine_matrix import CosineMatrix

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.conftest import AnchoredSource

M, SAMPLE_ROWS, DIMS = 60, 200, 30


@pytest.fixture
def originals() -> NDArray[np.float32]:
    """Of all sample rows."""
    x = np.random.default_rng(0).standard_normal((SAMPLE_ROWS, DIMS)) + 0.3
    unit: NDArray[np.float32] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture
def matrix(originals: NDArray[np.float32], tmp_path: Path) -> CosineMatrix:
    np.save(tmp_path / "g.npy", originals @ originals.T)
    return CosineMatrix.open(tmp_path / "g.npy")


def _save(folder: Path, originals: NDArray[np.float32], rows: NDArray[np.int64]) -> AnchorFiles:
    np.save(folder / ANCHORS_FILE, originals)
    np.save(folder / ANCHOR_ROWS_FILE, rows)
    return AnchorFiles(folder / ANCHORS_FILE, folder / ANCHOR_ROWS_FILE)


def test_right_anchors_are_taken_as_they_are(
    originals: NDArray[np.float32], matrix: CosineMatrix, tmp_path: Path
) -> None:
    rows = np.arange(SAMPLE_ROWS)[::3]
    files = _save(tmp_path, originals[rows], rows.astype(np.uint16))
    found = load_anchors(files, SAMPLE_ROWS, output_dims=DIMS)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.originals, originals[rows], atol=1e-6)
    require_agreement(found, matrix, files)


@pytest.mark.parametrize(
    ("spoil", "file", "message"),
    [
        (lambda x, r: (x[:49], r[:49]), ANCHORS_FILE, "has 49 rows, expected at least 50"),
        (lambda x, r: (x[:, 0], r), ANCHORS_FILE, r"has shape \(60,\), expected \(m, 30\)"),
        (lambda x, r: (x[:, 1:], r), ANCHORS_FILE, r"has shape \(60, 29\), expected \(m, 30\)"),
        (lambda x, r: (x * np.where(r == 9, 2, 1)[:, None], r), ANCHORS_FILE, "row 3: length 2"),
        (lambda x, r: (x * np.where(r == 9, np.nan, 1)[:, None], r), ANCHORS_FILE, "row 3: length nan"),
        (lambda x, r: (x.astype(int), r), ANCHORS_FILE, "expected floating-point numbers"),
        (lambda x, r: (x, r[1:]), ANCHOR_ROWS_FILE, r"has shape \(59,\), expected \(60,\)"),
        (lambda x, r: (x, r.astype(float)), ANCHOR_ROWS_FILE, "expected integers"),
        (lambda x, r: (x, r + 23), ANCHOR_ROWS_FILE, "entry 59: row 200, expected one from 0 to 199"),
        (lambda x, r: (x, np.where(r == 0, -1, r)), ANCHOR_ROWS_FILE, "entry 0: row -1"),
        (lambda x, r: (x, np.where(r == 9, 0, r)), ANCHOR_ROWS_FILE, "entry 0: row 0 is given 2 times"),
    ],
    ids=["few", "flat", "narrow", "long", "nan", "int", "fewer", "float", "beyond", "below", "twice"],
)
def test_wrong_files_are_named(
    originals: NDArray[np.float32],
    tmp_path: Path,
    spoil: Callable[..., tuple[NDArray[np.float32], NDArray[np.int64]]],
    file: str,
    message: str,
) -> None:
    rows = np.arange(0, 3 * M, 3)
    files = _save(tmp_path, *spoil(originals[rows], rows))
    with pytest.raises(InvalidDataError, match=message) as caught:
        load_anchors(files, SAMPLE_ROWS, output_dims=DIMS)
    assert caught.value.message.startswith(str(tmp_path / file))


def test_the_anchor_of_another_row_is_named(
    originals: NDArray[np.float32], matrix: CosineMatrix, tmp_path: Path
) -> None:
    rows = np.arange(M)
    wrong = originals[:M].copy()
    wrong[41] = originals[120]
    files = _save(tmp_path, wrong, rows)
    with pytest.raises(InvalidDataError, match=r"row 41: .* sample row 41 .*\(1 of 60 anchors are off\)"):
        require_agreement(load_anchors(files, SAMPLE_ROWS, output_dims=DIMS), matrix, files)


def test_anchors_of_another_model_are_all_refused(matrix: CosineMatrix, tmp_path: Path) -> None:
    other = np.random.default_rng(1).standard_normal((M, DIMS)).astype(np.float32)
    files = _save(tmp_path, other / np.linalg.norm(other, axis=1, keepdims=True), np.arange(M))
    with pytest.raises(InvalidDataError, match="60 of 60"):
        require_agreement(load_anchors(files, SAMPLE_ROWS, output_dims=DIMS), matrix, files)


@pytest.mark.parametrize("noise", [4e-4, 1.5e-3])
def test_the_noise_of_the_matrix_is_no_fault_of_the_anchors(
    originals: NDArray[np.float32], tmp_path: Path, noise: float
) -> None:
    """As a matrix of float16 or bfloat16 has."""
    g = originals @ originals.T
    np.save(tmp_path / "g.npy", g + noise * np.random.default_rng(2).standard_normal(g.shape))
    files = _save(tmp_path, originals[:M], np.arange(M))
    require_agreement(
        load_anchors(files, SAMPLE_ROWS, output_dims=DIMS), CosineMatrix.open(tmp_path / "g.npy"), files
    )


def test_a_folder_has_both_files_or_neither(anchored_source: AnchoredSource, tmp_path: Path) -> None:
    files = resolve_source(anchored_source.files.name, cache_dir=tmp_path)
    assert files.anchors is not None
    assert (files.anchors.originals.name, files.anchors.rows.name) == (ANCHORS_FILE, ANCHOR_ROWS_FILE)
    for kept, gone in ((ANCHORS_FILE, ANCHOR_ROWS_FILE), (ANCHOR_ROWS_FILE, ANCHORS_FILE)):
        folder = tmp_path / kept
        folder.mkdir()
        for path in (files.projected, files.cosines, files.projected.parent / kept):
            (folder / path.name).symlink_to(path)
        with pytest.raises(SourceUnavailableError, match=f"has {kept} and no {gone}"):
            resolve_source(str(folder), cache_dir=tmp_path)
