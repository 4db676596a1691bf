"""Whether the nearest rows stay the nearest: what a search among decoded rows would find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embup_core.blocks import row_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def shared_nearest(
    predicted: NDArray[np.float32], true: NDArray[np.float32], ks: Sequence[int]
) -> NDArray[np.int64]:
    """How many of the k largest columns of each row are among the k largest of the other.

    Parameters
    ----------
    predicted, true
        float32, shape (n, m).
    ks
        Each at most m.

    Returns
    -------
    int64, shape (n, len(ks)). Among equal cosines at the last place any may count.
    """
    most = max(ks)
    same = (
        largest_columns(predicted, most)[:, :, None] == largest_columns(true, most)[:, None, :]
    )  # (n, most, most)
    return np.stack([same[:, :k, :k].sum(axis=(1, 2)) for k in ks], axis=1)


def trustworthiness(predicted: NDArray[np.float32], true: NDArray[np.float32], k: int) -> float | None:
    """How far the k predicted neighbours of a row are from being true ones, by true rank; 1 is perfect.

    T(k) = 1 - 2 / (n k (2n - 3k - 1)) sum_i sum_{j in U_k(i)} (r(i, j) - k), U_k(i) the rows that are among
    the k nearest of row i by `predicted` and not by `true`, r(i, j) the rank of j by `true` (Venna & Kaski,
    2001). With the two swapped it is their *continuity*.

    Parameters
    ----------
    predicted, true
        Cosines between the same n rows: float32, shape (n, n). The diagonal is not looked at.
    k
        Neighbours.

    Returns
    -------
    0 to 1; None where k is not below n / 2, for which it is not defined.
    """
    n = len(true)
    if not 2 * k < n:
        return None
    beyond = 0
    for block in row_blocks(n):
        near, far = predicted[block].copy(), true[block].copy()
        itself = np.arange(len(near)), np.arange(block.start, block.stop)
        near[itself] = far[itself] = -np.inf
        neighbours = np.argpartition(near, -k, axis=1)[:, -k:]  # (m, k)
        reached = np.take_along_axis(far, neighbours, axis=1)
        for column in range(k):
            rank = 1 + (far > reached[:, column, None]).sum(axis=1)
            beyond += int(np.maximum(rank - k, 0).sum())
    return 1 - 2 * beyond / (n * k * (2 * n - 3 * k - 1))


def largest_columns(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k largest values of each row, the largest first: int64, shape (n, k); values: (n, m)."""
    columns = np.argpartition(values, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(values, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)
