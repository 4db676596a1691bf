"""Rows of a drop placed in the basis and judged. A first drop makes the basis, later ones are held to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.artifacts.recovered_map import RecoveredMap
from embup_core.drops.format import (
    COSINES,
    EXTRA_COSINES,
    EXTRA_LANDMARKS,
    GROUPS,
    LABELS,
    LANDMARK_COSINES,
    PROJECTED,
)
from embup_core.drops.known import Known
from embup_core.drops.landmark_cosines import NOT_RUN_IN_FIRST, Span, check_landmarks, place_rows
from embup_core.drops.map_growth import extend_map
from embup_core.drops.report import CHECKS, Check, Status
from embup_core.drops.row_checks import MOST_QUARANTINED, check_defects, judge_by_map
from embup_core.errors import InvalidDataError, SourceError
from embup_core.geometry.source_check import judge_rows
from embup_core.geometry.transform import recover_transform
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.sources.files import SourceFiles
from embup_core.sources.npy import read_npy_header
from embup_core.sources.row_labels import load_row_labels
from embup_core.sources.validation import (
    RANGE_TOLERANCE,
    load_projected,
    refuse_non_finite,
    refuse_out_of_range,
    validate_pair,
)
from embup_core.training.basis import BasisChoice, recover_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.drops.folder import AcceptedDrop
    from embup_core.drops.format import Drop
    from embup_core.progress import Progress

_FIT_ROWS = 4000
_BLOCK_ROWS = 4096
_NOTHING: NDArray[np.float32] = np.empty((0, 0), np.float32)


@dataclass(eq=False)
class Judged:
    """Rows of a drop, and what was found in them.

    Attributes
    ----------
    checks
        In order.
    projected, coordinates
        z, float32 (n, d), and unit coordinates, float32 (n, r).
    quarantined
        Rows that do not belong together: bool, shape (n,).
    known
        What is fixed after this drop; None where it cannot be accepted.
    """

    checks: list[Check] = field(default_factory=list)
    projected: NDArray[np.float32] = field(default_factory=lambda: _NOTHING)
    coordinates: NDArray[np.float32] = field(default_factory=lambda: _NOTHING)
    quarantined: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=bool))
    known: Known | None = None

    @property
    def basis_id(self) -> str:
        """Of the basis; empty where there is none."""
        return "" if self.known is None else self.known.basis.id


def judge_first(
    drop: Drop, own: Known | None, *, output_dims: int, progress: Progress | None = None
) -> Judged:
    """Recover the originals of a first drop, and choose landmarks, basis and map.

    Parameters
    ----------
    drop
        With ``cosines.npy``.
    own
        What this drop fixed when it was checked before: the basis is kept. None chooses a new one.
    output_dims
        Dimensions of the originals.
    progress
        Called with a label, units done and units in all.
    """
    judged = Judged()
    cosines = drop.path(COSINES)
    if cosines is None:
        judged.checks.append(
            _schema(
                f"The drop has no {COSINES}, and no earlier one is accepted: the first drop has to bring the "
                "cosines between all of its rows.",
                f"Make the first drop with {COSINES}: embup drops make --cosines.",
            )
        )
        return judged
    files = SourceFiles(drop.folder / PROJECTED, cosines, f"the drop {drop.month}")
    choice = BasisChoice() if own is None else BasisChoice(own.basis, drop.month)
    try:
        projected = _open_rows(drop)
        profile = validate_pair(files, progress=progress)
        found = recover_in(choice, CosineMatrix.open(cosines), projected, output_dims=output_dims)
        defects = judge_rows(projected, found.coordinates, files)
    except SourceError as error:
        judged.checks.append(_schema(error.message, error.remedy))
        return judged
    judged.projected, judged.coordinates = projected, found.coordinates
    judged.checks.append(
        Check("schema", Status.passed, CHECKS["schema"], f"{profile.rows:,} rows and all of their cosines")
    )
    judged.checks.append(
        Check(
            "landmarks",
            Status.passed,
            CHECKS["landmarks"],
            f"{len(found.basis.landmarks):,} rows are the landmarks and span {found.basis.dims:,} dimensions",
            figures={"landmarks": float(len(found.basis.landmarks)), "dimensions": float(found.basis.dims)},
        )
    )
    judged.checks.append(NOT_RUN_IN_FIRST)
    checks, judged.quarantined = check_defects(defects)
    judged.checks += checks
    if not any(one.status == Status.failed for one in checks):
        kept = own is not None and own.basis.id == found.basis.id
        rows = own.landmark_rows if own is not None and kept else found.landmarks
        map_to_z = RecoveredMap.from_fit(defects.transform)
        judged.known = Known(found.basis, np.full(len(rows), drop.month), rows, map_to_z)
    return judged


def judge_later(drop: Drop, known: Known, earlier: Sequence[AcceptedDrop]) -> Judged:
    """Place the rows of a later drop by their cosines with the landmarks, and judge them.

    Parameters
    ----------
    drop
        With ``landmark_cosines.npy``.
    known
        What earlier drops have fixed.
    earlier
        The accepted drops, for a map that has to be fitted again.
    """
    judged = Judged()
    made_with = known.for_basis(drop.basis)
    if made_with is None:
        judged.checks.append(
            _schema(
                f"The drop was made with the basis {drop.basis or 'of none'}, expected {known.basis.id}.",
                "Make it with the landmarks that PLACE/landmarks lists.",
            )
        )
        return judged
    try:
        projected = _open_rows(drop)
        if projected.shape[1] != known.basis.landmarks.shape[1]:
            raise InvalidDataError(
                f"{drop.folder / PROJECTED} has {projected.shape[1]} dimensions, expected "
                f"{known.basis.landmarks.shape[1]}.",
                remedy="Deliver rows that were projected as those of the earlier drops.",
            )
        cosines = _open_cosines(drop, LANDMARK_COSINES, len(projected), len(made_with.basis.landmarks))
        extra = _open_extra(drop, len(projected))
    except SourceError as error:
        judged.checks.append(_schema(error.message, error.remedy))
        return judged
    judged.projected = projected
    shown = f"{len(projected):,} rows, and their cosines with {cosines.shape[1]:,} landmarks"
    judged.checks.append(Check("schema", Status.passed, CHECKS["schema"], shown))
    placed = place_rows(cosines, made_with)
    landmarks = check_landmarks(placed)
    judged.checks.append(landmarks)
    if landmarks.status == Status.failed:
        return judged
    span, now = Span.of(placed), known
    if span.must_grow and extra is not None and made_with is known:
        rows, with_extra = extra
        grown = known.grown(
            drop.month,
            rows,
            projected[rows],
            placed.coordinates[rows].astype(np.float64),
            with_extra[rows].astype(np.float64),
        )
        if grown is not None:
            now = grown
            placed = place_rows(np.concatenate([cosines, with_extra], axis=1), now)
            span = Span.of(placed)
    added = now.basis.dims - known.basis.dims
    judged.checks.append(span.check(added=added))
    unit = placed.coordinates
    unit /= np.maximum(placed.lengths, 1e-9)[:, None].astype(np.float32)
    judged.coordinates = unit
    considered = ~(span.outside | span.impossible)
    if judged.checks[-1].status == Status.failed or not considered.any():
        return judged
    if added:
        checks, wrong, now = _judge_by_grown_map(projected, unit, now, considered)
    else:
        checks, wrong = judge_by_map(projected, unit, known.map, considered)
        now = _with_better_map(now, projected, unit, considered & ~wrong, earlier)
    judged.checks += _with_impossible(checks, span, len(projected))
    judged.quarantined = wrong | ~considered
    judged.known = now
    return judged


def _judge_by_grown_map(
    projected: NDArray[np.float32],
    unit: NDArray[np.float32],
    known: Known,
    considered: NDArray[np.bool_],
) -> tuple[list[Check], NDArray[np.bool_], Known]:
    """Judge a drop that brings dimensions of which the map knows nothing, after it has been extended."""
    found = extend_map(known.map, projected, unit, considered)
    if found is None:
        why = "There are too few rows for the map in the dimensions that this drop adds."
        checks = [Check(name, Status.warning, CHECKS[name], why) for name in ("same_map", "rows_belong")]
        return checks, np.zeros(len(projected), dtype=bool), known
    checks, wrong = judge_by_map(projected, unit, found, considered)
    return checks, wrong, Known(known.basis, known.landmark_months, known.landmark_rows, found)


def _with_better_map(
    known: Known,
    projected: NDArray[np.float32],
    unit: NDArray[np.float32],
    belonging: NDArray[np.bool_],
    earlier: Sequence[AcceptedDrop],
) -> Known:
    """A map fitted to more rows, where the one known is not exact and there are more."""
    if known.map_is_exact:
        return known
    z, c = _earlier_rows(earlier, unit.shape[1], _FIT_ROWS)
    if len(z) + int(belonging.sum()) <= known.map.rows_used:
        return known
    found = recover_transform(np.concatenate([z, projected[belonging]]), np.concatenate([c, unit[belonging]]))
    better = found.is_affine and (not known.map.affine or found.median_angle < known.map.median_angle)
    return (
        Known(known.basis, known.landmark_months, known.landmark_rows, RecoveredMap.from_fit(found))
        if better
        else known
    )


def _earlier_rows(
    earlier: Sequence[AcceptedDrop], dims: int, most: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """z and coordinates of accepted rows, at most so many: float32, shapes (m, d) and (m, dims)."""
    every = max(1, -(-sum(one.report.accepted_rows for one in earlier) // most))
    z, c = [], []
    for one in earlier:
        z.append(one.projected()[::every])
        part = np.asarray(one.coordinates()[::every])
        c.append(np.pad(part, ((0, 0), (0, dims - part.shape[1]))))  # zeros in directions added since
    return np.concatenate(z), np.concatenate(c)


def _with_impossible(checks: list[Check], span: Span, n_rows: int) -> list[Check]:
    """The checks with rows whose cosines no original has; more than a few of them refuse the drop."""
    rows = np.flatnonzero(span.impossible)
    if not len(rows):
        return checks
    found = []
    for one in checks:
        if one.name != "rows_belong" or one.status == Status.not_run:
            found.append(one)
            continue
        left_out = tuple(sorted({*one.left_out, *rows.tolist()}))
        too_many = len(left_out) > MOST_QUARANTINED * n_rows
        contradicting = f"{len(rows)} rows have cosines that no original has"
        found.append(
            Check(
                one.name,
                Status.failed if too_many or one.status == Status.failed else Status.warning,
                one.expected,
                f"{contradicting}. {one.found}" if one.left_out else f"{contradicting}.",
                one.remedy or "Compute their cosines again, and deliver them with a later drop.",
                (
                    *one.offenders,
                    *({"row": int(row), "length": float(span.lengths[row])} for row in rows),
                )[:20],
                left_out,
                one.figures,
            )
        )
    return found


def _schema(found: str, remedy: str) -> Check:
    return Check("schema", Status.failed, CHECKS["schema"], found, remedy)


def _open_rows(drop: Drop) -> NDArray[np.float32]:
    """z, with groups and labels looked at; raises `SourceError`."""
    projected = load_projected(drop.folder / PROJECTED)
    if len(projected) != drop.rows:
        raise InvalidDataError(
            f"{drop.folder / PROJECTED} has {len(projected):,} rows, expected {drop.rows:,} (drop.json).",
            remedy="Make the drop again.",
        )
    for path in (drop.path(GROUPS), drop.path(LABELS)):
        if path is not None:
            load_row_labels(path, len(projected))
    return projected


def _open_cosines(drop: Drop, name: str, rows: int, columns: int) -> NDArray[Any]:
    """A rectangle of cosines, memory-mapped and checked: floats, shape (rows, columns)."""
    path = drop.path(name)
    if path is None:
        raise InvalidDataError(
            f"The drop {drop.month} has no {name}, which a drop after the first one has to bring.",
            remedy="Make it with the cosines of its rows with the landmarks: embup drops make.",
        )
    header = read_npy_header(path)
    if header.shape != (rows, columns) or header.dtype.itemsize > 4:
        raise InvalidDataError(
            f"{path} holds {header.dtype} of shape {header.shape}, expected float32 or float16 of shape "
            f"({rows}, {columns}): a row for each row of z, a column for each landmark.",
            remedy="Compute the cosines with the rows that PLACE/landmarks lists.",
        )
    mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    for start in range(0, rows, _BLOCK_ROWS):
        block = np.asarray(mapped[start : start + _BLOCK_ROWS], dtype=np.float32)
        refuse_non_finite(path, block, start)
        if float(np.abs(block).max()) > 1 + RANGE_TOLERANCE:
            refuse_out_of_range(path, block, start)
    return mapped


def _open_extra(drop: Drop, rows: int) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Rows that may become landmarks, int64 (k,), and the cosines with them, float32 (rows, k); or None."""
    path = drop.path(EXTRA_LANDMARKS)
    if path is None:
        return None
    numbers = np.load(path, allow_pickle=False)
    if (
        numbers.ndim != 1
        or numbers.dtype.kind not in "iu"
        or not len(numbers)
        or (len(np.unique(numbers)) != len(numbers) or numbers.min() < 0 or numbers.max() >= rows)
    ):
        raise InvalidDataError(
            f"{path}: expected distinct rows of this drop, found {numbers.dtype} of shape {numbers.shape}.",
            remedy="Make the drop again.",
        )
    cosines = _open_cosines(drop, EXTRA_COSINES, rows, len(numbers))
    return numbers.astype(np.int64), np.asarray(cosines, dtype=np.float32)
