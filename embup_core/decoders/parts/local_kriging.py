"""Kriging on the nearest training rows: the weight of each of them in a prediction.

Kriging is Gaussian-process regression; here on the nearest rows only (simple kriging with a moving
neighbourhood: Cressie, 1993; Matheron, 1963). The covariance is Laplacian, exp(-distance / length_scale): it
assumes no smoothness, which the map from z to the originals does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def kriging_weights(
    offsets: NDArray[np.float32], squared: NDArray[np.float32], *, length_scale: float, nugget: float
) -> NDArray[np.float32]:
    """(K + nugget I)^-1 k for each query, K the covariance among its neighbours and k with the query.

    Parameters
    ----------
    offsets
        Neighbours minus query: float32, shape (n, k, d).
    squared
        Squared lengths of the offsets: float32, shape (n, k).
    length_scale
        Of the covariance, in the units of the offsets.
    nugget
        Variance of the noise, as a share of the covariance at 0; keeps near duplicates from cancelling.

    Returns
    -------
    weights
        float32, shape (n, k).
    """
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b with the query as origin, where numbers and so rounding are small.
    between = offsets @ offsets.transpose(0, 2, 1)  # (n, k, d) @ (n, d, k) -> (n, k, k)
    between *= -2
    between += squared[:, :, None]
    between += squared[:, None, :]
    rate = np.float32(-1 / length_scale)
    np.maximum(between, 0, out=between)  # rounding may leave less than 0
    np.sqrt(between, out=between)
    between *= rate
    covariance = np.exp(between, out=between)  # (n, k, k)
    diagonal = np.arange(squared.shape[1])
    covariance[:, diagonal, diagonal] = np.float32(1 + nugget)
    to_query = np.exp(rate * np.sqrt(squared))  # (n, k)
    # solve takes a stack of matrices, so right-hand sides need a column axis: (n, k, 1)
    return np.linalg.solve(covariance, to_query[:, :, None])[:, :, 0].astype(np.float32, copy=False)
