"""Whether a drop holds other rows than the drops before it. Drift is no error: it is reported.

Two measures: the population stability index (PSI) of each dimension over the deciles of the earlier rows, and
the energy distance between the two samples (Szekely and Rizzo, 2013) against what permutations of both give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.drops.report import WORST_OFFENDERS, Check, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGE_PSI: Final = 0.25
"""The usual limit: 0.1 is a change to watch, 0.25 a large one."""
LEADING_DIMS: Final = 32
"""Coordinates are in principal axes, so the first ones hold most of what can change."""
SAMPLED_ROWS: Final = 500
PERMUTATIONS: Final = 400
_BINS: Final = 10
_FEWEST_ROWS: Final = 50


def population_stability(earlier: NDArray[np.float32], now: NDArray[np.float32]) -> NDArray[np.float64]:
    """PSI by dimension: sum of (p - q) ln(p / q) over the deciles of the earlier rows.

    Parameters
    ----------
    earlier, now
        Shapes (m, d) and (n, d).

    Returns
    -------
    float64, shape (d,)
    """
    found = np.empty(earlier.shape[1])
    for dim in range(earlier.shape[1]):
        edges = np.quantile(earlier[:, dim], np.arange(1, _BINS) / _BINS)
        shares = []
        for rows in (earlier, now):
            counts = np.bincount(np.searchsorted(edges, rows[:, dim]), minlength=_BINS)
            shares.append((counts + 0.5) / (len(rows) + 0.5 * _BINS))  # no bin is empty
        found[dim] = np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1]))
    return found


def energy_distance(
    earlier: NDArray[np.float32], now: NDArray[np.float32], *, seed: int = 0
) -> tuple[float, float]:
    """Energy distance between samples of both, and the 95 % quantile of permutations of the two.

    Parameters
    ----------
    earlier, now
        Shapes (m, d) and (n, d); at most 500 random rows of each are compared.
    seed
        Of samples and permutations.
    """
    rng = np.random.default_rng(seed)
    samples = [rows[np.sort(rng.permutation(len(rows))[:SAMPLED_ROWS])] for rows in (earlier, now)]
    pooled = np.concatenate(samples).astype(np.float64)
    squares = np.einsum("ij,ij->i", pooled, pooled)
    between = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * pooled @ pooled.T, 0))
    first = len(samples[0])
    # With weights 1/m and -1/n the distance is -w^T D w; one product serves all permutations: (m + n, 1 + p)
    weights = np.concatenate([np.full(first, 1 / first), np.full(len(samples[1]), -1 / len(samples[1]))])
    orders = [weights, *(rng.permutation(weights) for _ in range(PERMUTATIONS))]
    columns = np.stack(orders, axis=1)
    distances = -np.einsum("ij,ij->j", columns, between @ columns)
    return float(distances[0]), float(np.quantile(distances[1:], 0.95))


def check_drift(
    name: str, earlier: NDArray[np.float32] | None, now: NDArray[np.float32], *, what: str
) -> Check:
    """Compare a drop with the rows before it.

    Parameters
    ----------
    name
        ``drift_of_z`` or ``drift_of_coordinates``.
    earlier, now
        Rows before, and rows of this drop: float32, shapes (m, d) and (n, d). None where there are none.
    what
        What is compared, as messages call it.
    """
    if earlier is None or min(len(earlier), len(now)) < _FEWEST_ROWS:
        return Check.not_run(name, "There are too few rows to compare.")
    psi = population_stability(earlier, now)
    distance, chance = energy_distance(earlier, now)
    worst = np.argsort(-psi)[:WORST_OFFENDERS]
    drifted = int(np.sum(psi > LARGE_PSI))
    figures = {
        "largest_psi": float(psi.max()),
        "drifted_dimensions": float(drifted),
        "energy_distance": distance,
        "energy_by_chance": chance,
    }
    found = (
        f"PSI is at most {psi.max():.2f}, the energy distance {distance:.2g} "
        f"(95 % of permutations: at most {chance:.2g})"
    )
    expected = f"PSI of at most {LARGE_PSI:g} in each dimension, and an energy distance within chance"
    if not drifted and distance <= chance:
        return Check(name, Status.passed, expected, found, figures=figures)
    return Check(
        name,
        Status.warning,
        expected,
        f"{what} of this drop are distributed unlike those of earlier drops: {found}; {drifted} dimensions "
        f"are above {LARGE_PSI:g}.",
        "No error: look whether the rows are those that were to be delivered.",
        tuple({"dimension": int(dim), "psi": float(psi[dim])} for dim in worst),
        figures=figures,
    )
