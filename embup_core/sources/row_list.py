"""A list of row numbers in a file, such as the rows that a training does without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embup_core.errors import InputError, InputFileError, InvalidDataError, SourceError
from embup_core.sources.npy import Accepted, read_npy_header

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

REMEDY = "Give row numbers, 0-based: an .npy file of integers, or a text file with one number a line."
_INTEGERS = Accepted("integers", REMEDY, lambda dtype: dtype.kind in "iu")
_LONGEST_BYTES = 1 << 30


def load_row_list(path: Path) -> NDArray[np.int64]:
    """Load 0-based row numbers from an ``.npy`` file, or from text with one number a line.

    Parameters
    ----------
    path
        The file. In text, blank lines and what follows ``#`` are passed over.

    Returns
    -------
    Sorted and distinct: int64, shape (w,).

    Raises
    ------
    InputFileError
        The file cannot be read, or holds something else.
    """
    if path.suffix == ".npy":
        try:
            header = read_npy_header(path, _INTEGERS)
        except SourceError as error:
            raise InputFileError(error.message, remedy=error.remedy) from error
        if len(header.shape) != 1:
            raise InputFileError(f"{path} has shape {header.shape}, expected (rows,).", remedy=REMEDY)
        return np.unique(np.load(path, allow_pickle=False).astype(np.int64))
    try:
        if path.stat().st_size > _LONGEST_BYTES:
            raise InputFileError(f"{path} has more than {_LONGEST_BYTES:,} bytes.", remedy=REMEDY)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path} cannot be read: {error}.", remedy=REMEDY) from error
    numbers = [(line, text.partition("#")[0].strip()) for line, text in enumerate(lines, 1)]
    for line, text in numbers:
        if text and not (text.isascii() and text.isdigit() and len(text) < 19):
            raise InputFileError(
                f"{path}, line {line}: expected a row number, found {text[:40]!r}.", remedy=REMEDY
            )
    return np.unique(np.array([int(text) for _, text in numbers if text], dtype=np.int64))


def require_distinct_rows(path: Path, rows: NDArray[np.integer], n_rows: int) -> None:
    """Check row numbers of a source's file, in their order.

    Parameters
    ----------
    path
        The file, for messages.
    rows
        Integers, shape (m,).
    n_rows
        Each number is to be below it.

    Raises
    ------
    InvalidDataError
        A number is out of range, or given twice.
    """
    outside = (rows < 0) | (rows >= n_rows)
    if outside.any():
        place = int(outside.argmax())
        raise InvalidDataError(
            f"{path}, entry {place}: row {rows[place]}, expected one from 0 to {n_rows - 1}.",
            remedy="Rows are counted from 0, in the order of the projected embeddings.",
        )
    numbers, first, counts = np.unique(rows, return_index=True, return_counts=True)
    if counts.max() > 1:
        twice = int(counts.argmax())
        raise InvalidDataError(
            f"{path}, entry {first[twice]}: row {numbers[twice]} is given {counts[twice]} times, "
            "expected each once.",
            remedy="Leave the repetitions out, in both files.",
        )


def require_rows(rows: Iterable[int] | NDArray[np.integer], n_rows: int) -> NDArray[np.int64]:
    """Check row numbers against the rows that there are.

    Parameters
    ----------
    rows
        0-based.
    n_rows
        N.

    Returns
    -------
    Sorted and distinct: int64, shape (w,).

    Raises
    ------
    InputError
        There is no such row.
    """
    listed = np.unique(np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), dtype=np.int64))
    if len(listed) and not 0 <= listed[0] <= listed[-1] < n_rows:
        strange = listed[(listed < 0) | (listed >= n_rows)]
        raise InputError(
            f"Row {strange[0]} is to be left out, and there are only the rows 0 to {n_rows - 1:,}.",
            remedy="Check that the list belongs to this source; rows are counted from 0.",
        )
    return listed
