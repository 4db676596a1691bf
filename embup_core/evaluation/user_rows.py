"""A caller's own rows as arrays: checked, and made what an evaluation takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embup_core.errors import InputError
from embup_core.evaluation.cosines import DotProducts, MatrixCosines
from embup_core.evaluation.user_files import FEWEST_ROWS, UserData

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from embup_core.evaluation.cosines import Cosines

COSINE_TOLERANCE = 1e-2
"""Beyond 1 by this, a number is no cosine, however it was rounded."""


def user_data(
    projected: ArrayLike,
    *,
    cosines: ArrayLike | None,
    originals: ArrayLike | None,
    reference_projected: ArrayLike | None,
    reference_cosines: ArrayLike | None,
    reference_originals: ArrayLike | None,
    input_dims: int,
    output_dims: int,
) -> UserData:
    """Check arrays; see `embup.evaluate` for their shapes.

    Raises
    ------
    InputError
        Arrays that do not fit together, values that are not finite, rows of zeros, too few rows.
    """
    z = _unit_rows("projected", projected, input_dims)
    if len(z) < FEWEST_ROWS:
        raise InputError(
            f"projected has {len(z)} rows, expected at least {FEWEST_ROWS}.",
            remedy="Fewer say nothing about a decoder; give more rows.",
        )
    if (cosines is None) == (originals is None):
        raise InputError(
            f"Expected cosines or originals, found {'neither' if cosines is None else 'both'}.",
            remedy="Give one of them: cosines of shape (n, n), or originals of shape (n, D).",
        )
    x = None if originals is None else _unit_rows("originals", originals, output_dims, rows=len(z))
    truth: Cosines = DotProducts(x, x) if x is not None else _cosines("cosines", cosines, (len(z), len(z)))
    if reference_projected is None:
        if reference_cosines is not None or reference_originals is not None:
            raise InputError(
                "Expected reference_projected beside the truth about reference rows, found none.",
                remedy="Give reference_projected too.",
            )
        return UserData(z, truth, originals=x)
    reference = _unit_rows("reference_projected", reference_projected, input_dims)
    if (reference_cosines is None) == (reference_originals is None) or (
        reference_originals is not None and x is None
    ):
        raise InputError(
            "Expected reference_cosines, or reference_originals beside originals, with reference_projected.",
            remedy="Give one of them: cosines of shape (n, m), or originals of both.",
        )
    if reference_originals is None or x is None:
        across: Cosines = _cosines("reference_cosines", reference_cosines, (len(z), len(reference)))
        return UserData(z, truth, reference, across, originals=x)
    y = _unit_rows("reference_originals", reference_originals, output_dims, rows=len(reference))
    return UserData(z, truth, reference, DotProducts(x, y), x, y)


def _unit_rows(name: str, values: ArrayLike, columns: int, *, rows: int | None = None) -> NDArray[np.float32]:
    found = _numbers(name, values)
    if found.ndim != 2 or found.shape[1] != columns or (rows is not None and len(found) != rows):
        raise InputError(
            f"{name}: expected shape ({'n' if rows is None else rows}, {columns}), found {found.shape}.",
            remedy=f"Give one row of {columns} numbers for each vector.",
        )
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not lengths.all():
        raise InputError(
            f"{name}, row {int(lengths.argmin())}: only zeros, expected a direction.",
            remedy="Leave the row out, in all arrays.",
        )
    unit: NDArray[np.float32] = (found / lengths).astype(np.float32)
    return unit


def _cosines(name: str, values: ArrayLike | None, shape: tuple[int, int]) -> MatrixCosines:
    found = np.asarray(values)  # not copied: a memory-mapped matrix stays on the disk
    if found.shape != shape or found.dtype.kind != "f":
        raise InputError(
            f"{name}: expected floats of shape {shape}, found {found.dtype} of shape {found.shape}.",
            remedy="Give the cosine of every row with every row.",
        )
    for start in range(0, shape[0], 256):
        block = found[start : start + 256]
        bad = ~(np.abs(block) <= 1 + COSINE_TOLERANCE)  # NaN compares false
        if bad.any():
            row, column = (int(place) for place in np.argwhere(bad)[0])
            raise InputError(
                f"{name}, row {start + row}, column {column}: {block[row, column]}, expected a cosine.",
                remedy="Give cosines of the originals: finite numbers between -1 and 1.",
            )
    return MatrixCosines(found)


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: expected an array of numbers, found what is none ({error}).",
            remedy="Give rows of equal length.",
        ) from error
    finite = np.isfinite(found)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise InputError(
            f"{name}, at {place}: {found[place]}, expected a finite number.", remedy="Leave the row out."
        )
    return found
