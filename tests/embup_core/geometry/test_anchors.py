"""Anchors give the rotation into the originals' basis, and rows turned by it stay unit vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.errors import InvalidArgumentError
from embup_core.geometry.anchors import FEWEST_ANCHORS, OriginalBasis, fit_rotation

if TYPE_CHECKING:
    from numpy.typing import NDArray

D, DIMS = 12, 48


def _unit(rows: int, dims: int, seed: int = 0) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((rows, dims))
    unit: NDArray[np.float32] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _rotation(dims: int, seed: int = 1) -> NDArray[np.float32]:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dims, dims)))
    return turn.astype(np.float32)


def test_the_rotation_of_exact_coordinates_is_found() -> None:
    true = _rotation(DIMS)[:D]
    means = _unit(200, D)
    np.testing.assert_allclose(fit_rotation(means, means @ true), true, atol=1e-5)


def test_few_anchors_still_give_orthonormal_rows() -> None:
    means = np.zeros((FEWEST_ANCHORS, D), np.float32)
    means[:, :3] = _unit(FEWEST_ANCHORS, 3)
    true = _rotation(DIMS)[:D]
    found = fit_rotation(means, means @ true)
    np.testing.assert_allclose(found @ found.T, np.eye(D), atol=1e-5)
    np.testing.assert_allclose(found[:3], true[:3], atol=1e-5)


@pytest.mark.parametrize(
    "rotation",
    [
        _rotation(DIMS)[:D],
        _rotation(DIMS),
        np.eye(DIMS, dtype=np.float32)[:D],
        np.eye(DIMS, dtype=np.float32)[D : 2 * D],
        -np.eye(DIMS, dtype=np.float32)[:D],
        np.roll(np.eye(DIMS, dtype=np.float32), 1, axis=0)[:D],
    ],
    ids=["some dimensions", "all dimensions", "none is turned", "moved", "mirrored", "rolled"],
)
def test_rows_are_turned_as_a_whole(rotation: NDArray[np.float32]) -> None:
    rows = _unit(30, DIMS, seed=2)
    turned = OriginalBasis.from_rotation(rotation)(rows)
    np.testing.assert_allclose(np.linalg.norm(turned.astype(np.float64), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-5)
    # The regression's part is where the rotation says; the complement's is orthogonal to all of that.
    np.testing.assert_allclose(turned @ rotation.T, rows[:, : len(rotation)], atol=1e-5)
    assert (turned.dtype.name, turned.flags.c_contiguous) == ("float32", True)


def test_turning_leaves_its_argument_alone() -> None:
    rows = _unit(3, DIMS)
    before = rows.copy()
    OriginalBasis.from_rotation(_rotation(DIMS)[:D])(rows)
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize(
    ("means", "originals", "message"),
    [
        (_unit(FEWEST_ANCHORS - 1, D), _unit(FEWEST_ANCHORS - 1, DIMS), "at least 50 anchors, found 49"),
        (_unit(60, D), _unit(61, DIMS), r"\(60, 12\) and \(61, 48\)"),
        (_unit(60, DIMS), _unit(60, D), "at least 48 dimensions, found 12"),
        (_unit(60, D), np.where(np.arange(60)[:, None] == 7, 3, 1) * _unit(60, DIMS), "in row 7"),
        (_unit(60, D), np.where(np.arange(60)[:, None] == 8, np.nan, 1) * _unit(60, DIMS), "in row 8"),
    ],
    ids=["few", "unlike lengths", "too narrow", "not unit", "nan"],
)
def test_what_cannot_be_anchors_is_refused(
    means: NDArray[np.float32], originals: NDArray[np.float32], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        fit_rotation(means, originals)


@pytest.mark.parametrize("spoiled", [2.0, np.nan])
def test_what_is_no_rotation_is_refused(spoiled: float) -> None:
    rotation = _rotation(DIMS)[:D].copy()
    rotation[3, 4] = spoiled
    with pytest.raises(InvalidArgumentError, match="orthonormal"):
        OriginalBasis.from_rotation(rotation)
