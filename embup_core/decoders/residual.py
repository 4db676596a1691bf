"""The length that a regression does not explain, filled with a direction orthogonal to everything else.

A regression mu(z) = E[c | z] is shorter than 1, because z does not determine c. Stretching it to length 1
would raise every cosine. Instead f(z) = [mu(z) ; sqrt(1 - |mu(z)|^2) r(z)], with r(z) of unit length and
r(z).r(z') falling to 0 as z and z' move apart. Then f is unit by construction and f(z).f(z') is mu(z).mu(z')
for distinct inputs: the mean-square-optimal prediction of the cosine. r is made of random Fourier features
[cos(Wz), sin(Wz)] (Rahimi & Recht, 2007): their length is exactly 1 and their dot product is close to a
Gaussian kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embup_core.decoders.base import unit_rows
from embup_core.dims import OUTPUT_DIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def residual_frequencies(
    dims: int, input_dims: int, *, length_scale: float, seed: int
) -> NDArray[np.float32]:
    """Random frequencies of a Gaussian kernel, in standard units: float32, shape (input_dims, dims // 2)."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((input_dims, dims // 2)) / length_scale).astype(np.float32)


def completed(
    mean: NDArray[np.float32], standardised: NDArray[np.float32], frequencies: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The regression's rows completed to unit rows.

    Parameters
    ----------
    mean
        mu: float32, shape (n, k).
    standardised
        z in standard units: float32, shape (n, 32).
    frequencies
        W: float32, shape (32, (1536 - k) / 2).

    Returns
    -------
    rows
        float32, shape (n, 1536), unit rows.
    confidence
        |mu|^2: float32, shape (n,), at most 1.
    """
    n, k = mean.shape
    half = frequencies.shape[1]
    rows = np.empty((n, OUTPUT_DIMS), np.float32)
    explained = np.vecdot(mean, mean)
    phases = standardised @ frequencies  # (n, half)
    rows[:, :k] = mean
    np.cos(phases, out=rows[:, k : k + half])
    np.sin(phases, out=rows[:, k + half :])
    rows[:, k:] *= np.sqrt(np.maximum(1 - explained, 0) / np.float32(half))[:, None]
    return unit_rows(rows), np.minimum(explained, 1)
