"""The length that a regression does not explain, filled with a direction orthogonal to everything else.

A regression mu(z) = E[c | z] is shorter than 1, because z does not determine c. Stretching it to length 1
would raise every cosine. Instead f(z) = [mu(z) ; sqrt(1 - |mu(z)|^2) r(z)], where the complement r(z) is a
unit vector and r(z).r(z') falls to 0 as z and z' move apart. Then f is unit by construction and f(z).f(z') is
mu(z).mu(z') for distinct inputs: the mean-square-optimal prediction of the cosine. r consists of random
Fourier features [cos(Wz), sin(Wz)] (Rahimi & Recht, 2007): their length is exactly 1 and their dot product
approximates a Gaussian kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embup_core.decoders.base import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = 8


def complement_frequencies(
    input_dims: int, n_frequencies: int, *, length_scale: float, seed: int
) -> NDArray[np.float32]:
    """Random frequencies of a Gaussian kernel in standard units: float32, shape (input_dims, n_frequencies).

    Each makes a cosine and a sine: two dimensions of the complement.
    """
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((input_dims, n_frequencies)) / length_scale).astype(np.float32)


def read_complement(
    complement: NDArray[np.float32], start: NDArray[np.float32], frequencies: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points that complements were made of: their phases, unwrapped about a start, solved for the points.

    Gauss-Newton steps. From a start within about 2 standard units a few of many phases are a turn off; the
    first step leaves none.

    Parameters
    ----------
    complement
        Of decoded rows, of any length above 0: float32, shape (n, 2 m) or with one more column.
    start
        Near the points: float32, shape (n, input_dims).
    frequencies
        W: float32, shape (input_dims, m).

    Returns
    -------
    points
        float64, shape (n, input_dims).
    error
        Root mean square of the phases that are left, in radians: float64, shape (n,). About 1.8 where the
        complement was not made of any point near the start.
    """
    m = frequencies.shape[1]
    exact = frequencies.astype(np.float64)
    inverse = np.linalg.pinv(exact)  # (m, input_dims)
    phases = np.arctan2(complement[:, m : 2 * m], complement[:, :m]).astype(np.float64)  # (n, m)
    points = start.astype(np.float64)
    for _ in range(_STEPS):
        points += _wrapped(phases - points @ exact) @ inverse
    left = _wrapped(phases - points @ exact)
    return points, np.sqrt(np.mean(np.square(left), axis=1))


def _wrapped(phases: NDArray[np.float64]) -> NDArray[np.float64]:
    """Phases less whole turns: from -pi to pi."""
    return phases - 2 * np.pi * np.rint(phases / (2 * np.pi))


def complete_to_unit(
    mean: NDArray[np.float32],
    points: NDArray[np.float32],
    frequencies: NDArray[np.float32],
    output_dims: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The regression's rows completed to unit rows.

    Parameters
    ----------
    mean
        mu: float32, shape (n, d).
    points
        z in standard units: float32, shape (n, input_dims).
    frequencies
        W: float32, shape (input_dims, m) with d + 2 m = output_dims, or one less where that is odd.
    output_dims
        Of the rows.

    Returns
    -------
    rows
        float32, shape (n, output_dims), unit rows.
    explained
        |mu|^2: float32, shape (n,), at most 1.
    """
    n, d = mean.shape
    m = frequencies.shape[1]
    rows = np.empty((n, output_dims), np.float32)
    explained = np.vecdot(mean, mean)  # (n,)
    phases = points @ frequencies  # (n, m)
    rows[:, :d] = mean
    np.cos(phases, out=rows[:, d : d + m])
    np.sin(phases, out=rows[:, d + m : d + 2 * m])
    rows[:, d + 2 * m :] = 0  # no column, or the last one
    # [cos, sin] of m phases has length sqrt(m): divided by it, the complement is a unit vector
    rows[:, d:] *= np.sqrt(np.maximum(1 - explained, 0) / np.float32(m))[:, None]
    return unit_rows(rows), np.minimum(explained, 1)
