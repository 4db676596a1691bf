"""Rows of a drop that were delivered before, in an earlier drop or higher up in the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.drops.report import WORST_OFFENDERS, Check, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.drops.folder import AcceptedDrop

SAME_COSINE: Final = 0.9999
SAME_Z: Final = 1e-3
"""Distance of z below which a cosine of `SAME_ROUNDED` will do: a copy with cosines rounded to float16."""
SAME_ROUNDED: Final = 0.99
_NEAR_Z: Final = 0.05
"""Rows with a cosine above 0.9999 are at most 0.014 apart, and the map moves them apart by little more."""
_NEIGHBOURS: Final = 4


def check_duplicates(
    projected: NDArray[np.float32],
    unit: NDArray[np.float32],
    considered: NDArray[np.bool_],
    earlier: Sequence[AcceptedDrop],
) -> Check:
    """Find rows that repeat an earlier one.

    Candidates are neighbours in z, of which there are few; their cosine decides.

    Parameters
    ----------
    projected, unit
        z, float32 (n, d), and coordinates, float32 (n, r), unit rows.
    considered
        Rows that belong together: bool, shape (n,).
    earlier
        Accepted drops.
    """
    from scipy.spatial import KDTree

    months = [one.month for one in earlier]
    known = [one.projected() for one in earlier]
    rows = np.flatnonzero(considered)
    all_z = np.concatenate([*known, projected[rows]])
    starts = np.cumsum([0, *(len(one) for one in known)])
    own = int(starts[-1])
    neighbours = min(_NEIGHBOURS, len(all_z))
    distance, place = KDTree(all_z).query(
        projected[rows], k=range(1, neighbours + 1), distance_upper_bound=_NEAR_Z
    )
    mapped = [one.coordinates() for one in earlier]
    row_numbers = [one.rows() for one in earlier]
    found: dict[int, tuple[str, int, float]] = {}
    # Each row with its neighbours that came before it.
    for at, k in np.argwhere(np.isfinite(distance) & (place < own + np.arange(len(rows))[:, None])):
        row, other = int(rows[at]), int(place[at, k])
        drop = int(np.searchsorted(starts, other, side="right")) - 1
        if drop < len(months):
            there = other - int(starts[drop])
            vector, origin = mapped[drop][there], (months[drop], int(row_numbers[drop][there]))
        else:
            vector, origin = unit[rows[other - own]], ("this drop", int(rows[other - own]))
        cosine = float(unit[row, : len(vector)] @ vector)
        same = cosine >= SAME_COSINE or (distance[at, k] <= SAME_Z and cosine >= SAME_ROUNDED)
        if same and (row not in found or cosine > found[row][2]):
            found[row] = (*origin, cosine)
    expected = f"no cosine of {SAME_COSINE} or more with an earlier row"
    compared = f"{own:,} earlier rows"
    figures = {"duplicates": float(len(found)), "compared": float(own)}
    if not found:
        return Check("duplicates", Status.passed, expected, f"none, among {compared}", figures=figures)
    worst = sorted(found, key=lambda row: -found[row][2])[:WORST_OFFENDERS]
    return Check(
        "duplicates",
        Status.warning,
        expected,
        f"{len(found):,} of {len(projected):,} rows were delivered before, and are left out: compared with "
        f"{compared} and with each other.",
        "Deliver each row once.",
        tuple(
            {"row": row, "of": found[row][0], "its_row": found[row][1], "cosine": found[row][2]}
            for row in worst
        ),
        tuple(sorted(found)),
        figures,
    )
