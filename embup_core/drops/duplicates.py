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
_MORE: Final = 8
"""How many times as many are looked at where all of the nearest ones are near."""


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
    tree = KDTree(all_z)
    mapped = [one.coordinates() for one in earlier]
    row_numbers = [one.rows() for one in earlier]
    found: dict[int, tuple[str, int, float]] = {}
    # Places among `rows`. A row with many neighbours is asked for more of them, until one decides.
    undecided, neighbours = np.arange(len(rows)), _NEIGHBOURS
    while len(undecided):
        count = min(neighbours, len(all_z))
        distance, place = tree.query(
            projected[rows[undecided]], k=range(1, count + 1), distance_upper_bound=_NEAR_Z
        )
        # Each row with its neighbours that came before it.
        for nth, k in np.argwhere(np.isfinite(distance) & (place < own + undecided[:, None])):
            row, other = int(rows[undecided[nth]]), int(place[nth, k])
            drop = int(np.searchsorted(starts, other, side="right")) - 1
            if drop < len(months):
                there = other - int(starts[drop])
                vector, origin = mapped[drop][there], (months[drop], int(row_numbers[drop][there]))
            else:
                vector, origin = unit[rows[other - own]], ("this drop", int(rows[other - own]))
            shared = min(len(vector), unit.shape[1])  # a later drop may have more dimensions
            cosine = float(unit[row, :shared] @ vector[:shared])
            same = cosine >= SAME_COSINE or (distance[nth, k] <= SAME_Z and cosine >= SAME_ROUNDED)
            if same and (row not in found or cosine > found[row][2]):
                found[row] = (*origin, cosine)
        many = np.isfinite(distance[:, -1]) if count < len(all_z) else np.zeros(len(undecided), bool)
        undecided = np.array([at for at in undecided[many] if int(rows[at]) not in found], np.int64)
        neighbours *= _MORE
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
