"""Somebody's own rows as files: opened, checked, and said what is wrong with them.

The truth is either the originals, whose direction alone counts, or a matrix of their cosines. Known rows,
those that the decoder was trained on or any others that stand in a search index, bring the truth about a new
row with a known one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.blocks import BLOCK_ROWS, row_blocks
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS
from embup_core.errors import InputError, InvalidDataError
from embup_core.evaluation.cosines import Cosines, DotProducts, MatrixCosines
from embup_core.evaluation.probe import require_teachable
from embup_core.sources.files import SourceFiles
from embup_core.sources.npy_header import read_npy_header
from embup_core.sources.row_labels import load_row_labels
from embup_core.sources.validation import (
    LEAST_SPREAD,
    RANGE_TOLERANCE,
    SAME_ORDER_REMEDY,
    check_cosines,
    refuse_non_finite,
    refuse_out_of_range,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Told = Callable[[str, int, int | None], None]

FEWEST_ROWS = 20


@dataclass(frozen=True)
class OwnFiles:
    """Files of somebody's own rows; ``.npy`` each.

    Attributes
    ----------
    projected
        z of rows that the decoder was not trained on: float32 or float64, shape (n, 32).
    originals, cosines
        One of the two: the originals, shape (n, 1536), or their cosines, shape (n, n).
    known_projected
        z of known rows: shape (m, 32).
    known_originals, known_cosines
        At most one of the two: the known rows' originals, shape (m, 1536), beside `originals`; or the cosines
        of rows with known rows, shape (n, m).
    labels, known_labels
        Integers or strings, shape (n,) and (m,).
    """

    projected: Path
    originals: Path | None = None
    cosines: Path | None = None
    known_projected: Path | None = None
    known_originals: Path | None = None
    known_cosines: Path | None = None
    labels: Path | None = None
    known_labels: Path | None = None

    def require_complete(self) -> None:
        """Raise `InputError` for files that do not make sense together."""
        known_truth = (self.known_originals, self.known_cosines)
        refused = (
            (
                (self.originals is None) == (self.cosines is None),
                f"Expected originals or cosines, found {'neither' if self.originals is None else 'both'}.",
                "Give the one that you have: the originals of the rows, or the cosines between them.",
            ),
            (
                None not in known_truth,
                "Expected known originals or known cosines, found both.",
                "Give one of the two.",
            ),
            (
                self.known_originals is not None and self.originals is None,
                "Known originals need originals beside them, found cosines.",
                "Give originals instead of cosines, or known cosines instead of known originals.",
            ),
            (
                (self.labels is None) != (self.known_labels is None),
                "Expected labels and known labels, found one of the two.",
                "Give both: a classifier learns from known rows and is asked about the others.",
            ),
            (
                self.known_projected is None and any((*known_truth, self.known_labels)),
                "Known originals, cosines and labels need the known rows' projected embeddings beside them.",
                "Give known projected embeddings too.",
            ),
            (
                self.known_projected is not None and not any((*known_truth, self.known_labels)),
                "Known projected embeddings alone cannot be compared with anything.",
                "Give known originals, known cosines or known labels too.",
            ),
        )
        for wrong, message, remedy in refused:
            if wrong:
                raise InputError(message, remedy=remedy)


@dataclass(frozen=True)
class OwnRows:
    """What the files hold, checked.

    Attributes
    ----------
    projected, known_projected
        z: float32, shape (n, 32) and (m, 32), unit rows.
    test_test, test_known
        True cosines.
    originals, known_originals
        float32, shape (n, 1536) and (m, 1536), unit rows; None where only cosines are known.
    labels, known_labels
        Shape (n,) and (m,).
    """

    projected: NDArray[np.float32]
    test_test: Cosines
    known_projected: NDArray[np.float32] | None = None
    test_known: Cosines | None = None
    originals: NDArray[np.float32] | None = None
    known_originals: NDArray[np.float32] | None = None
    labels: NDArray[Any] | None = None
    known_labels: NDArray[Any] | None = None

    def count_also_known(self) -> int:
        """How many of the rows stand among the known rows as well."""
        if self.known_projected is None:
            return 0
        known = {row.tobytes() for row in self.known_projected}
        return sum(row.tobytes() in known for row in self.projected)

    @classmethod
    def load(cls, files: OwnFiles, *, progress: Told | None = None) -> OwnRows:
        """Open and check the files.

        Matrices are memory-mapped and read in blocks; vectors are held, 6 kB a row.

        Raises
        ------
        InputError
            Files that do not make sense together.
        SourceUnavailableError
            A file cannot be read.
        InvalidDataError
            Wrong shape, dtype or number of rows, a value that is not finite, a row of zeros, or what is no
            cosine: with file, row and value.
        """
        files.require_complete()
        projected = _unit_rows(files.projected, INPUT_DIMS)
        n_rows = len(projected)
        if n_rows < FEWEST_ROWS:
            raise InvalidDataError(
                f"{files.projected} has {n_rows} rows, expected at least {FEWEST_ROWS}.",
                remedy="Fewer say nothing about a decoder; give more rows.",
            )
        originals = _originals(files.originals, files.projected, n_rows)
        known_projected = (
            None if files.known_projected is None else _unit_rows(files.known_projected, INPUT_DIMS)
        )
        n_known = 0 if known_projected is None else len(known_projected)
        known_originals = _originals(files.known_originals, files.known_projected, n_known)
        test_test = (
            DotProducts(originals, originals)
            if originals is not None
            else _square(files.projected, files.cosines, n_rows, progress)
        )
        _refuse_no_spread(test_test, files.originals or files.cosines)
        test_known: Cosines | None = None
        if originals is not None and known_originals is not None:
            test_known = DotProducts(originals, known_originals)
        elif files.known_cosines is not None:
            test_known = _rectangle(files.known_cosines, n_rows, n_known, progress)
        if test_known is not None:
            _refuse_no_spread(test_known, files.known_originals or files.known_cosines, same_rows=False)
        labels, known_labels = (
            None if path is None else load_row_labels(path, count, of=str(of))
            for path, count, of in (
                (files.labels, n_rows, files.projected),
                (files.known_labels, n_known, files.known_projected),
            )
        )
        if labels is not None and known_labels is not None:
            _require_comparable(labels, known_labels, files)
        return cls(
            projected,
            test_test,
            known_projected,
            test_known,
            originals,
            known_originals,
            labels,
            known_labels,
        )


def _require_comparable(labels: NDArray[Any], known_labels: NDArray[Any], files: OwnFiles) -> None:
    """The number 3 and the text "3" would be two labels, and one label alone teaches nothing."""
    if (labels.dtype.kind in "iu") != (known_labels.dtype.kind in "iu"):
        raise InvalidDataError(
            f"{files.labels} holds {labels.dtype} and {files.known_labels} {known_labels.dtype}, expected "
            "integers in both or strings in both.",
            remedy="Save both in the same way.",
        )
    try:
        require_teachable(known_labels)
    except InputError as error:
        raise InvalidDataError(f"{files.known_labels}: {error.message}", remedy=error.remedy) from error
    if not np.isin(labels, known_labels).any():
        raise InvalidDataError(
            f"No label of {files.labels} is among those of {files.known_labels}, expected the same labels.",
            remedy="Give labels of one kind, or leave them out.",
        )


def _unit_rows(path: Path, columns: int) -> NDArray[np.float32]:
    """Rows of a file divided by their length: float32, shape (n, columns)."""
    header = read_npy_header(path)
    if len(header.shape) != 2 or header.shape[1] != columns or not header.shape[0]:
        raise InvalidDataError(
            f"{path} has shape {header.shape}, expected (n, {columns}) with n at least 1.",
            remedy=f"Give one row of {columns} numbers for each vector.",
        )
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    rows = np.empty(header.shape, np.float32)
    for place in row_blocks(len(mapped)):
        block = np.array(mapped[place], np.float64)
        refuse_non_finite(path, block, place.start)
        largest = np.abs(block).max(axis=1)
        if not largest.all():
            raise InvalidDataError(
                f"{path}, row {place.start + int(largest.argmin())}: only zeros, expected a direction.",
                remedy="Leave the row out, in all files.",
            )
        block /= largest[:, None]  # the square of a large or a small number may not be one
        rows[place] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def _originals(path: Path | None, projected: Path | None, n_rows: int) -> NDArray[np.float32] | None:
    if path is None:
        return None
    originals = _unit_rows(path, OUTPUT_DIMS)
    if len(originals) != n_rows:
        raise InvalidDataError(
            f"{path} has {len(originals)} rows and {projected} has {n_rows}; expected the same number.",
            remedy=SAME_ORDER_REMEDY,
        )
    return originals


def _square(projected: Path, cosines: Path | None, n_rows: int, progress: Told | None) -> MatrixCosines:
    if cosines is None:
        raise InputError("Expected either the originals or their cosines.")
    check_cosines(SourceFiles(projected, cosines, str(cosines)), n_rows, progress=progress)
    return MatrixCosines(np.load(cosines, mmap_mode="r", allow_pickle=False))


def _rectangle(path: Path, n_rows: int, n_known: int, progress: Told | None) -> MatrixCosines:
    header = read_npy_header(path)
    if header.shape != (n_rows, n_known):
        turned = header.shape == (n_known, n_rows)
        raise InvalidDataError(
            f"{path} has shape {header.shape}, expected ({n_rows}, {n_known}): a column for each known row.",
            remedy="Save its transpose." if turned else "Give the cosine of every row with every known row.",
        )
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    for place in row_blocks(n_rows):
        block = mapped[place]
        refuse_non_finite(path, block, place.start)
        if float(np.abs(block).max()) > 1 + RANGE_TOLERANCE:
            refuse_out_of_range(path, block, place.start)
        if progress:
            progress("checking the cosines", place.stop, n_rows)
    return MatrixCosines(mapped)


def _refuse_no_spread(cosines: Cosines, path: Path | None, *, same_rows: bool = True) -> None:
    """R2 compares with the spread of the true cosines, so there has to be one."""
    block = cosines.block(0, min(BLOCK_ROWS, cosines.shape[0]))
    diagonal = np.arange(block.shape[1])[None, :] == np.arange(len(block))[:, None]
    off_diagonal = block[~diagonal] if same_rows else block.ravel()
    if float(np.ptp(off_diagonal)) < 10 * LEAST_SPREAD:  # dot products of 1536 numbers round more
        raise InvalidDataError(
            f"{path}: all cosines are {off_diagonal[0]:.6g}, expected cosines that differ.",
            remedy=SAME_ORDER_REMEDY,
        )
