"""One label a row, beside the two files of training data: which group a row belongs to, or what it is.

``groups.npy`` keeps rows together when they are split; ``labels.npy`` holds class labels for the downstream
probe. Both hold integers or strings, and both are optional.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.errors import InvalidDataError
from embup_core.sources.npy import Accepted, read_npy_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SAVE_LABELS_REMEDY = "Write it with numpy.save(path, numpy.array(labels, dtype=str)), or as integers."
SAVE_MASK_REMEDY = "Write it with numpy.save(path, mask), mask being an array of bools."
MASK = Accepted("bools", SAVE_MASK_REMEDY, lambda dtype: dtype.kind == "b")
LABELS = Accepted("integers or strings", SAVE_LABELS_REMEDY, lambda dtype: dtype.kind in "iuUS")


def load_row_labels(path: Path, rows: int, *, of: str = "the projected embeddings") -> NDArray[Any]:
    """Load one label for each row.

    Parameters
    ----------
    path
        The ``.npy`` file.
    rows
        How many there have to be.
    of
        What has that many rows, as the message calls it.

    Returns
    -------
    Integers or strings, shape (rows,).

    Raises
    ------
    SourceUnavailableError
        The file cannot be read.
    InvalidDataError
        Another dtype, pickled objects among them, bytes that are not UTF-8, another shape, or another number
        of rows.
    """
    header = read_npy_header(path, LABELS)
    if len(header.shape) != 1:
        raise InvalidDataError(
            f"{path} has shape {header.shape}, expected ({rows},): one label a row.",
            remedy="Give a one-dimensional array.",
        )
    if header.shape[0] != rows:
        raise InvalidDataError(
            f"{path} has {header.shape[0]} entries and {of} {rows} rows, expected the same number.",
            remedy="Give one entry for each row, in the order of the rows.",
        )
    labels: NDArray[Any] = np.load(path, allow_pickle=False)
    labels = labels.astype(labels.dtype.newbyteorder("="), copy=False)
    if labels.dtype.kind != "S":
        return labels
    try:  # byte strings are strings like any others, and compare with none of them
        return np.char.decode(labels, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDataError(
            f"{path} holds byte strings that are not UTF-8, expected integers or strings.",
            remedy=SAVE_LABELS_REMEDY,
        ) from error


def load_held_out(path: Path, rows: int) -> NDArray[np.bool_]:
    """Load which rows are held out for ever: bool, shape (rows,).

    Parameters
    ----------
    path
        The ``.npy`` file.
    rows
        How many entries there have to be.

    Raises
    ------
    SourceUnavailableError
        The file cannot be read.
    InvalidDataError
        Another dtype, shape, or number of rows.
    """
    header = read_npy_header(path, MASK)
    if header.shape != (rows,):
        raise InvalidDataError(
            f"{path} has shape {header.shape}, expected ({rows},): one bool a row.", remedy=SAVE_MASK_REMEDY
        )
    return np.asarray(np.load(path, allow_pickle=False), dtype=np.bool_)
