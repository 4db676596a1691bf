"""A drop made of the arrays that its maker has: cosines, or the originals themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.drops.format import (
    COSINES,
    EXTRA_COSINES,
    EXTRA_LANDMARKS,
    GROUPS,
    LABELS,
    LANDMARK_COSINES,
    PROJECTED,
    Drop,
    write_drop,
)
from embup_core.drops.landmark_cosines import Span, place_rows
from embup_core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.drops.folder import DropsFolder
    from embup_core.drops.known import Known

SPARE: Final = 1.33
"""New landmarks for each direction outside the span: a third more, as in a first drop."""
_DIRECTION: Final = 1e-5


def make_drop(
    place: DropsFolder,
    month: str,
    projected: NDArray[np.floating],
    *,
    cosines: NDArray[np.floating] | None = None,
    landmark_cosines: NDArray[np.floating] | None = None,
    originals: NDArray[np.floating] | None = None,
    landmark_originals: NDArray[np.floating] | None = None,
    groups: NDArray[Any] | None = None,
    labels: NDArray[Any] | None = None,
    half_precision: bool = False,
    overwrite: bool = False,
) -> Drop:
    """Write a drop into its place.

    Where no drop is accepted yet, the first one is made, from `cosines` or `originals`. Later ones are made
    from `landmark_cosines`, or from `originals` and `landmark_originals`; then rows that the landmarks do not
    span are seen here, and some of them become landmarks, too.

    Parameters
    ----------
    place
        Where the drops are.
    month
        ``YYYY-MM``.
    projected
        z: floats, shape (n, d), unit rows.
    cosines
        Between all rows: floats, shape (n, n).
    landmark_cosines
        With the landmarks, in the order of ``PLACE/landmarks/rows.npy``: floats, shape (n, L).
    originals
        Of the rows: floats, shape (n, D); made unit length.
    landmark_originals
        Of the landmarks, in the same order: floats, shape (L, D).
    groups, labels
        One value a row, shape (n,).
    half_precision
        Whether cosines with landmarks are stored as float16, half as large. Coordinates are then off by 0.04
        radians or so.
    overwrite
        Whether a drop that is there is replaced.

    Raises
    ------
    InputError
        Arrays are missing, or have another number of rows.
    OutputError
        A drop is there, or cannot be written.
    InvalidDataError
        What is kept of an earlier drop is damaged.
    """
    known = place.known(place.accepted(before=month))
    arrays: dict[str, Any] = {PROJECTED: np.asarray(projected, dtype=np.float32)}
    if known is None:
        arrays[COSINES] = _first_cosines(cosines, originals)
    else:
        arrays |= _later_cosines(known, landmark_cosines, originals, landmark_originals, half_precision)
    arrays |= {name: values for name, values in ((GROUPS, groups), (LABELS, labels)) if values is not None}
    for name, array in arrays.items():
        if len(array) != len(projected) and name != EXTRA_LANDMARKS:
            raise InputError(
                f"{name} has {len(array):,} rows and {PROJECTED} has {len(projected):,}, expected the same.",
                remedy="Give one row for each row of z, in the same order.",
            )
    basis = "" if known is None else known.basis.id
    drop = write_drop(place.drop_path(month), month, arrays, basis=basis, overwrite=overwrite)
    place.publish_drop(month)
    return drop


def _first_cosines(
    cosines: NDArray[np.floating] | None, originals: NDArray[np.floating] | None
) -> NDArray[np.floating]:
    if cosines is not None:
        return cosines
    if originals is None:
        raise InputError(
            "No drop is accepted yet: expected the cosines between all rows of the first one.",
            remedy="Give --cosines or --originals; and check the drop, so that later ones can be made.",
        )
    unit = _unit(originals)
    return _products(unit, unit)


def _later_cosines(
    known: Known,
    landmark_cosines: NDArray[np.floating] | None,
    originals: NDArray[np.floating] | None,
    landmark_originals: NDArray[np.floating] | None,
    half_precision: bool,
) -> dict[str, Any]:
    n_landmarks, dtype = len(known.basis.landmarks), np.float16 if half_precision else np.float32
    if landmark_cosines is not None:
        if landmark_cosines.ndim != 2 or landmark_cosines.shape[1] != n_landmarks:
            raise InputError(
                f"Expected cosines with the {n_landmarks:,} landmarks, found an array of shape "
                f"{landmark_cosines.shape}.",
                remedy="PLACE/landmarks/rows.npy lists the landmarks' rows in the first drop.",
            )
        return {LANDMARK_COSINES: np.asarray(landmark_cosines, dtype=dtype)}
    if originals is None or landmark_originals is None:
        raise InputError(
            "Expected the rows' cosines with the landmarks, or the originals of both.",
            remedy="Give --landmark-cosines, or --originals and --landmark-originals.",
        )
    if len(landmark_originals) != n_landmarks:
        raise InputError(
            f"Expected originals of the {n_landmarks:,} landmarks, found {len(landmark_originals):,} rows.",
            remedy="PLACE/landmarks/rows.npy lists the landmarks' rows in the first drop.",
        )
    unit = _unit(originals)
    exact = _products(unit, _unit(landmark_originals))
    found = {LANDMARK_COSINES: exact.astype(dtype)}
    placed = place_rows(exact, known)
    span = Span.of(placed)
    room = known.basis.output_dims - known.basis.dims
    if span.must_grow and room:
        rows = _new_landmarks(unit, placed.coordinates, span, room)
        found |= {EXTRA_LANDMARKS: rows, EXTRA_COSINES: _products(unit, unit[rows]).astype(dtype)}
    return found


def _new_landmarks(
    unit: NDArray[np.float32], coordinates: NDArray[np.float32], span: Span, room: int
) -> NDArray[np.int64]:
    """Rows outside the span, a third more than they have directions there: int64, shape (k,), sorted."""
    outside = np.flatnonzero(span.outside)
    some = outside[np.argsort(span.lengths[outside])][: 4 * room]
    beyond = _products(unit[some], unit[some]) - coordinates[some] @ coordinates[some].T
    values = np.linalg.eigvalsh(beyond.astype(np.float64))
    directions = min(room, int(np.sum(values > _DIRECTION * len(some))))
    return np.sort(some[: max(1, int(np.ceil(SPARE * directions)) + 1)])


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    wide = np.asarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise InputError("Originals: expected finite rows with a direction, found others.")
    unit: NDArray[np.float32] = wide / lengths
    return unit


def _products(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    found = np.empty((len(left), len(right)), np.float32)
    for block in row_blocks(len(left)):
        found[block] = left[block] @ right.T
    return found
