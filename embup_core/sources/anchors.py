"""Anchors of a source: originals of some of its rows, checked, and held against the cosine matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.errors import InvalidDataError
from embup_core.geometry.anchors import FEWEST_ANCHORS, UNIT_TOLERANCE
from embup_core.sources.npy import Accepted, read_npy_header
from embup_core.sources.row_list import require_distinct_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.sources.cosine_matrix import CosineMatrix

COSINE_TOLERANCE: Final = 1e-3
"""Median difference between an anchor's cosines and the matrix's."""
_MOST_NOISE: Final = 5e-3
"""A matrix of few bits, such as bfloat16, differs by its own noise; beyond this anchors are wrong, not it."""
_NOISE_FACTOR: Final = 3.0

_SAVE_ROWS_REMEDY = "Write it with numpy.save(path, numpy.array(row_numbers))."
_ROW_NUMBERS = Accepted("integers", _SAVE_ROWS_REMEDY, lambda dtype: dtype.kind in "iu")
_SAME_MODEL_REMEDY = (
    "Embed the texts of these rows with the model that made the originals, and give their row numbers in the "
    "same order."
)


@dataclass(frozen=True)
class Anchors:
    """Originals that are known.

    Attributes
    ----------
    originals
        float32, shape (m, D), unit rows.
    rows
        Which sample rows they are the originals of: int64, shape (m,), each once.
    """

    originals: NDArray[np.float32]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class AnchorFiles:
    """The two files of a source's anchors.

    Attributes
    ----------
    originals
        ``.npy`` of the originals, shape (m, D).
    rows
        ``.npy`` of their row numbers, shape (m,).
    """

    originals: Path
    rows: Path


def load_originals(path: Path, *, output_dims: int) -> NDArray[np.float32]:
    """Load known originals: float32, shape (m, output_dims), unit rows.

    Raises
    ------
    SourceUnavailableError
        The file cannot be read.
    InvalidDataError
        Another shape, dtype or number of dimensions, too few rows, a value that is not finite, or a row that
        is not a unit vector.
    """
    header = read_npy_header(path)
    if len(header.shape) != 2 or header.shape[1] != output_dims:
        raise InvalidDataError(
            f"{path} has shape {header.shape}, expected (m, {output_dims}): {output_dims} are the dimensions "
            "of the originals.",
            remedy="Give one row for each anchor, its original, whole.",
        )
    if header.shape[0] < FEWEST_ANCHORS:
        raise InvalidDataError(
            f"{path} has {header.shape[0]} rows, expected at least {FEWEST_ANCHORS}.",
            remedy="Embed more of the texts again; some hundred are enough.",
        )
    originals = np.load(path, allow_pickle=False).astype(np.float64)
    lengths = np.linalg.norm(originals, axis=1)
    off = ~(np.abs(lengths - 1) <= UNIT_TOLERANCE)  # NaN compares false
    if off.any():
        row = int(off.argmax())
        raise InvalidDataError(
            f"{path}, row {row}: length {lengths[row]:.6g}, expected 1 within {UNIT_TOLERANCE:g} "
            f"({int(off.sum())} of {len(originals)} rows are off).",
            remedy="Normalise: x /= numpy.linalg.norm(x, axis=1, keepdims=True).",
        )
    return np.ascontiguousarray(originals / lengths[:, None], np.float32)


def load_anchors(files: AnchorFiles, sample_rows: int, *, output_dims: int) -> Anchors:
    """Load a source's anchors, and check them without the cosine matrix.

    Parameters
    ----------
    files
        Which.
    sample_rows
        Rows of the source.
    output_dims
        Dimensions of the originals.

    Raises
    ------
    SourceUnavailableError
        A file cannot be read.
    InvalidDataError
        As `load_originals`; or other row numbers than there are rows, a row number twice, or one that is not
        below `sample_rows`.
    """
    originals = load_originals(files.originals, output_dims=output_dims)
    header = read_npy_header(files.rows, _ROW_NUMBERS)
    if header.shape != originals.shape[:1]:
        raise InvalidDataError(
            f"{files.rows} has shape {header.shape}, expected ({len(originals)},): a row number for each row "
            f"of {files.originals.name}.",
            remedy=_SAVE_ROWS_REMEDY,
        )
    rows = np.load(files.rows, allow_pickle=False)
    require_distinct_rows(files.rows, rows, sample_rows)
    return Anchors(originals, rows.astype(np.int64))


def require_agreement(anchors: Anchors, matrix: CosineMatrix, files: AnchorFiles) -> None:
    """Check that cosines between anchors are those of the matrix.

    Raises
    ------
    InvalidDataError
        Those of an anchor are not: it is the original of another row, or of another model. Of several the one
        that is farthest off is named.
    """
    n_anchors = len(anchors.rows)
    difference = np.empty(n_anchors)
    for block in row_blocks(n_anchors):
        true = matrix.block(anchors.rows[block], anchors.rows)
        # The median: a wrong anchor does not make the right ones look wrong.
        difference[block] = np.median(np.abs(anchors.originals[block] @ anchors.originals.T - true), axis=1)
    noise = _NOISE_FACTOR * float(np.median(difference))
    off = difference > max(COSINE_TOLERANCE, min(noise, _MOST_NOISE))
    if off.any():
        worst = int(difference.argmax())
        raise InvalidDataError(
            f"{files.originals}, row {worst}: its cosines with other anchors differ from those of sample row "
            f"{anchors.rows[worst]} in the cosine matrix by {difference[worst]:.2g} (median), expected at "
            f"most {COSINE_TOLERANCE:g} ({int(off.sum())} of {n_anchors} anchors are off).",
            remedy=_SAME_MODEL_REMEDY,
        )
