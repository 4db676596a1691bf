"""The map from originals to z, extended to directions that a drop has added to the basis.

In the old directions the map A is known. With u = c A + b, and d a row's coordinates in the new directions,
s z = u + d A' for an unknown length s. Its part across z has no s and is linear in A':
(I - z z^T) (u + d A') = 0. Weights of 1 / angle make the fit one of least absolute errors, which rows that do
not belong hardly move.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.drops.row_checks import angles_to
from embup_core.geometry.transform import ANGLE_FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.artifacts.recovered_map import RecoveredMap

    Floats = NDArray[np.float64]

MOST_UNKNOWNS: Final = 6_000
"""Numbers of A' that are solved for: 0.3 GB of normal equations."""
_SPARE: Final = 1.1
_ROUNDS: Final = 12
_FIT_ROWS: Final = 4_000
_LEAST_ANGLE: Final = 1e-4


def extend_map(
    found: RecoveredMap,
    projected: NDArray[np.float32],
    unit: NDArray[np.float32],
    considered: NDArray[np.bool_],
) -> RecoveredMap | None:
    """Fit the map in the new directions to the rows of the drop that has them.

    Parameters
    ----------
    found
        The map in the old directions, an affine one.
    projected
        z: float32, shape (n, d), unit rows.
    unit
        Coordinates, the new directions last: float32, shape (n, r + a), unit rows.
    considered
        Rows to fit to: bool, shape (n,).

    Returns
    -------
    None where there are too few rows, or too many directions.
    """
    if found.matrix is None or found.offset is None:
        return None
    old, dims = found.matrix.shape
    added = unit.shape[1] - old
    rows = np.random.default_rng(0).permutation(np.flatnonzero(considered))[:_FIT_ROWS]
    short, long = projected[rows], unit[rows]
    z, c = short.astype(np.float64), long.astype(np.float64)
    if added * dims > MOST_UNKNOWNS or len(z) * (dims - 1) < _SPARE * added * dims:
        return None
    u = c[:, :old] @ found.matrix.astype(np.float64) + found.offset.astype(np.float64)  # (n, d)
    weights, angles, extended = np.ones(len(z)), np.zeros(len(z)), found
    for _ in range(_ROUNDS):
        new = _solve(z, u, c[:, old:], weights)
        extended = replace(found, matrix=np.concatenate([found.matrix, new.astype(np.float32)]))
        angles = angles_to(extended, short, long)
        weights = 1 / np.maximum(angles, _LEAST_ANGLE)
    right = angles <= max(ANGLE_FLOOR, 3 * found.p99_angle)
    if not right.any():
        return extended
    return replace(
        extended,
        median_angle=float(np.median(angles[right])),
        p99_angle=max(found.p99_angle, float(np.quantile(angles[right], 0.99))),
    )


def _solve(z: Floats, u: Floats, d: Floats, weights: Floats) -> Floats:
    """A' of the least weighted squares: float64, shape (a, d)."""
    (rows, dims), added = z.shape, d.shape[1]
    beside = np.eye(dims) - z[:, :, None] * z[:, None, :]  # (n, d, d): without the part along z
    outer = (d[:, :, None] * d[:, None, :] * weights[:, None, None]).reshape(rows, -1)  # (n, a * a)
    products = (outer.T @ beside.reshape(rows, -1)).reshape(added, added, dims, dims)
    normal = products.transpose(0, 2, 1, 3).reshape(added * dims, added * dims)
    right = -np.einsum("n,ni,nk->ik", weights, d, np.einsum("nkl,nl->nk", beside, u)).reshape(-1)
    return np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0]).reshape(added, dims)
