"""Whether each row of z belongs to its row of cosines, and whether the map is that of earlier drops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.drops.report import CHECKS, WORST_OFFENDERS, Check, Status
from embup_core.geometry.row_defects import DETECTABLE_SHARE
from embup_core.geometry.source_check import MOST_LEFT_OUT
from embup_core.geometry.transform import ANGLE_FLOOR, LEAST_EXPLAINED, recover_transform
from embup_core.sources.row_ranges import describe_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.artifacts.recovered_map import RecoveredMap
    from embup_core.geometry.row_defects import RowDefects

    Mask = NDArray[np.bool_]

MOST_QUARANTINED: Final = MOST_LEFT_OUT
"""Largest share of wrong rows of a drop that is accepted without them."""
_TAIL: Final = 3.0
_QUARTILES: Final = 6.0
_LARGEST_ALLOWANCE: Final = 0.15
"""Radians that rounded cosines may add to the tolerance. Measured: rows with float16 cosines are off by 0.03
to 0.07, rows of other originals by 0.43 to 0.95 (99 % of them)."""
_MOST: Final = 0.5
_FEWEST_ALONE: Final = 200
"""With fewer rows a map fitted to one drop alone explains nothing."""


def angles_to(
    found: RecoveredMap, projected: NDArray[np.float32], unit: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Radians between rows of z and what the map makes of their coordinates: float64, shape (n,)."""
    chord = np.linalg.norm(found.project(unit).astype(np.float64) - projected, axis=1)
    return np.asarray(2 * np.arcsin(np.minimum(chord / 2, 1)))


def tolerance(found: RecoveredMap, angles: NDArray[np.float64]) -> float:
    """Largest angle of a row that belongs: that of the map's own rows, and what rounding adds in a drop."""
    rounding = _QUARTILES * float(np.quantile(angles, 0.25))
    return max(ANGLE_FLOOR, _TAIL * found.p99_angle, min(rounding, _LARGEST_ALLOWANCE))


def judge_by_map(
    projected: NDArray[np.float32], unit: NDArray[np.float32], found: RecoveredMap, considered: Mask
) -> tuple[list[Check], Mask]:
    """Judge the rows of a drop by the map of the earlier ones.

    Parameters
    ----------
    projected
        z: float32, shape (n, d), unit rows.
    unit
        Coordinates: float32, shape (n, r), unit rows.
    found
        The map.
    considered
        Rows whose coordinates can be relied on: bool, shape (n,).

    Returns
    -------
    The checks ``same_map`` and ``rows_belong``, and which rows do not belong: bool, shape (n,).
    """
    nothing = np.zeros(len(projected), dtype=bool)
    if not found.affine or not considered.any():
        why = "No affine map fits the earlier drops, so rows cannot be judged."
        return [_unjudged(name, why) for name in ("same_map", "rows_belong")], nothing
    angles = angles_to(found, projected, unit)
    limit = tolerance(found, angles[considered])
    others = np.roll(np.random.default_rng(0).permutation(np.flatnonzero(considered)), 1)
    mispaired = angles_to(found, projected[others], unit[np.roll(others, 1)])
    detectable = float(np.mean(mispaired > limit))
    if detectable < DETECTABLE_SHARE and float(np.median(angles[considered])) <= limit:
        why = (
            f"Only {detectable:.0%} of exchanged rows would be noticed: the map of the earlier drops is not "
            "exact enough to judge rows."
        )
        return [_unjudged(name, why) for name in ("same_map", "rows_belong")], nothing
    wrong = considered & ~(angles <= limit)
    share = float(wrong.sum() / max(1, considered.sum()))
    median = float(np.median(angles[considered]))
    figures = {"wrong_share": share, "median_angle": median, "tolerance": limit}
    expected = f"angles to the map of at most {limit:.1e} radians"
    if share > _MOST:
        changed = _map_changed(projected[considered], unit[considered], median, figures)
        if changed is not None:
            why = "The map is another one, so rows cannot be judged."
            return [changed, Check.not_run("rows_belong", why)], wrong
    same = Check(
        "same_map",
        Status.passed if share <= _MOST else Status.not_run,
        expected,
        f"the median angle is {median:.1e} radians"
        if share <= _MOST
        else "Most rows do not belong to their cosines, so the map cannot be told.",
        figures=figures,
    )
    owners = _owners(found.project(unit), projected, wrong, limit)
    return [same, _belonging(wrong, angles, owners, expected, figures)], wrong


def check_defects(defects: RowDefects) -> tuple[list[Check], Mask]:
    """The same checks of a first drop, which fixes the map; and which rows do not belong."""
    transform = defects.transform
    wrong = np.zeros(len(transform.angles), dtype=bool)
    first = Check(
        "same_map",
        Status.passed,
        CHECKS["same_map"],
        "the first drop fixes the map" if transform.is_affine else "no affine map fits the first drop",
        figures={"median_angle": transform.median_angle},
    )
    expected = "angles to the map within what the other rows let expect"
    figures = {"median_angle": transform.median_angle, "detectable_share": defects.detectable_share}
    if defects.verdict in ("unrelated", "reordered"):
        whole = Check(
            "rows_belong", Status.failed, expected, defects.describe(),
            "Both files must have their rows in the same order: make the drop again.", figures=figures,
        )  # fmt: skip
        return [first, whole], wrong
    if defects.verdict in ("not_affine", "undecided"):
        return [first, _unjudged("rows_belong", defects.describe())], wrong
    wrong[defects.wrong_rows] = True
    places = dict(zip(defects.wrong_rows.tolist(), defects.belongs_to.tolist(), strict=True))
    owners = {row: place for row, place in places.items() if place >= 0}
    figures["wrong_share"] = float(wrong.mean())
    return [first, _belonging(wrong, transform.angles, owners, expected, figures)], wrong


def _map_changed(
    projected: NDArray[np.float32], unit: NDArray[np.float32], median: float, figures: dict[str, float]
) -> Check | None:
    """A failed check where the drop has a map of its own; None where it has none, or too few rows."""
    if len(projected) < _FEWEST_ALONE:
        return None
    alone = recover_transform(projected, unit)
    if alone.explained < LEAST_EXPLAINED:
        return None
    return Check(
        "same_map",
        Status.failed,
        "angles to the map of the earlier drops of 1e-3 radians or so",
        f"The rows of this drop were projected by another map: the median angle to that of the earlier drops "
        f"is {median:.2g} radians, and a map fitted to this drop alone explains {alone.explained:.0%} of z.",
        "Project them by the map of the earlier drops; or begin a new place of drops, where the new map "
        "projected all rows.",
        figures={**figures, "explained_alone": alone.explained},
    )


def _owners(
    predicted: NDArray[np.float32], projected: NDArray[np.float32], wrong: Mask, limit: float
) -> dict[int, int]:
    """For wrong rows of z, the row of cosines that they belong to, where it is in this drop."""
    rows = np.flatnonzero(wrong)
    if not len(rows):
        return {}
    from scipy.spatial import KDTree

    distance, place = KDTree(predicted).query(projected[rows], distance_upper_bound=limit)
    return {int(row): int(at) for row, at, far in zip(rows, place, distance, strict=True) if np.isfinite(far)}


def _belonging(
    wrong: Mask, angles: NDArray[np.float64], owners: dict[int, int], expected: str, figures: dict[str, float]
) -> Check:
    rows = np.flatnonzero(wrong)
    worst = rows[np.argsort(-angles[rows])][:WORST_OFFENDERS]
    offenders = tuple(
        {"row": int(row), "angle": float(angles[row]), "belongs_to": owners.get(int(row))} for row in worst
    )
    figures = {**figures, "wrong_rows": float(len(rows)), "found_elsewhere": float(len(owners))}
    if not len(rows):
        return Check(
            "rows_belong", Status.passed, expected, f"all {len(wrong):,} rows belong", figures=figures
        )
    share = len(rows) / len(wrong)
    elsewhere = f"; {len(owners):,} of them belong to other rows of the drop" if owners else ""
    if share > MOST_QUARANTINED:
        return Check(
            "rows_belong",
            Status.failed,
            f"{expected}, but for {MOST_QUARANTINED:.0%} of the rows",
            f"{len(rows):,} of {len(wrong):,} rows of z ({share:.0%}) do not belong to their row of "
            f"cosines{elsewhere}.",
            "Both files must have their rows in the same order: make the drop again.",
            offenders,
            figures=figures,
        )
    return Check(
        "rows_belong",
        Status.warning,
        expected,
        f"{describe_rows(rows)} of {len(wrong):,} do not belong to their row of cosines, and are quarantined"
        f"{elsewhere}.",
        "Correct them in the source of the drops, and deliver them with a later drop.",
        offenders,
        tuple(rows.tolist()),
        figures,
    )


def _unjudged(name: str, why: str) -> Check:
    return Check(name, Status.warning, CHECKS[name], why, "More rows of a first drop make the map exact.")
