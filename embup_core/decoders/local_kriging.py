"""Kriging on the nearest training rows: how much each of them says about a query.

Kriging is Gaussian-process regression; here on the nearest rows only (simple kriging with a moving
neighbourhood: Cressie, 1993; Matheron, 1963). The covariance is Laplacian, exp(-distance / length_scale): it
makes no assumption of smoothness, which the map from z to the originals does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def kriging_weights(
    offsets: NDArray[np.float32], squared: NDArray[np.float32], *, length_scale: float, nugget: float
) -> NDArray[np.float32]:
    """(K + nugget I)^-1 k for each query.

    Parameters
    ----------
    offsets
        Neighbours minus query: float32, shape (n, k, d).
    squared
        Squared lengths of the offsets: float32, shape (n, k).
    length_scale
        Of the covariance, in the units of the offsets.
    nugget
        Variance of the noise, as a share of the covariance at 0; keeps near twins from cancelling.

    Returns
    -------
    weights
        float32, shape (n, k).
    """
    # Distances among neighbours from dot products of offsets: the query as origin keeps rounding small.
    between = offsets @ offsets.transpose(0, 2, 1)
    between *= -2
    between += squared[:, :, None]
    between += squared[:, None, :]
    rate = np.float32(-1 / length_scale)
    np.maximum(between, 0, out=between)
    np.sqrt(between, out=between)
    between *= rate
    covariance = np.exp(between, out=between)  # (n, k, k)
    diagonal = np.arange(squared.shape[1])
    covariance[:, diagonal, diagonal] = np.float32(1 + nugget)
    to_query = np.exp(rate * np.sqrt(squared))
    return np.linalg.solve(covariance, to_query[:, :, None])[:, :, 0].astype(np.float32, copy=False)
