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
from embup_core.errors import InputError, InvalidDataError
from embup_core.evaluation.cosines import Cosines, DotProducts, MatrixCosines
from embup_core.evaluation.probe import require_teachable
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.sources.files import SourceFiles
from embup_core.sources.npy import read_npy_header
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
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.progress import Progress

FEWEST_ROWS = 20


@dataclass(frozen=True)
class UserFiles:
    """Files of somebody's own rows; ``.npy`` each.

    Attributes
    ----------
    projected
        z of rows that the decoder was not trained on: float32 or float64, shape (n, d).
    originals, cosines
        One of the two: the originals, shape (n, D), or their cosines, shape (n, n).
    reference_projected
        z of reference rows: shape (m, d).
    reference_originals, reference_cosines
        At most one of the two: the reference rows' originals, shape (m, D), beside `originals`; or the
        cosines of rows with reference rows, shape (n, m).
    labels, reference_labels
        Integers or strings, shape (n,) and (m,).
    """

    projected: Path
    originals: Path | None = None
    cosines: Path | None = None
    reference_projected: Path | None = None
    reference_originals: Path | None = None
    reference_cosines: Path | None = None
    labels: Path | None = None
    reference_labels: Path | None = None

    def require_complete(self) -> None:
        """Raise `InputError` for files that do not make sense together."""
        reference_truth = (self.reference_originals, self.reference_cosines)
        refused = (
            (
                (self.originals is None) == (self.cosines is None),
                f"Expected originals or cosines, found {'neither' if self.originals is None else 'both'}.",
                "Give the one that you have: the originals of the rows, or the cosines between them.",
            ),
            (
                None not in reference_truth,
                "Expected reference originals or reference cosines, found both.",
                "Give one of the two.",
            ),
            (
                self.reference_originals is not None and self.originals is None,
                "Reference originals need originals beside them, found cosines.",
                "Give originals instead of cosines, or reference cosines instead of reference originals.",
            ),
            (
                (self.labels is None) != (self.reference_labels is None),
                "Expected labels and reference labels, found one of the two.",
                "Give both: a classifier learns from reference rows and is asked about the others.",
            ),
            (
                self.reference_projected is None and any((*reference_truth, self.reference_labels)),
                "Reference originals, cosines and labels need the reference rows' projected embeddings.",
                "Give known projected embeddings too.",
            ),
            (
                self.reference_projected is not None and not any((*reference_truth, self.reference_labels)),
                "Known projected embeddings alone cannot be compared with anything.",
                "Give reference originals, reference cosines or reference labels too.",
            ),
        )
        for wrong, message, remedy in refused:
            if wrong:
                raise InputError(message, remedy=remedy)


@dataclass(frozen=True)
class UserData:
    """What the files hold, checked.

    Attributes
    ----------
    projected, reference_projected
        z: float32, shape (n, d) and (m, d), unit rows.
    test_test, test_reference
        True cosines.
    originals, reference_originals
        float32, shape (n, D) and (m, D), unit rows; None where only cosines are known.
    labels, reference_labels
        Shape (n,) and (m,).
    """

    projected: NDArray[np.float32]
    test_test: Cosines
    reference_projected: NDArray[np.float32] | None = None
    test_reference: Cosines | None = None
    originals: NDArray[np.float32] | None = None
    reference_originals: NDArray[np.float32] | None = None
    labels: NDArray[Any] | None = None
    reference_labels: NDArray[Any] | None = None

    def count_also_reference(self) -> int:
        """How many of the rows stand among the reference rows as well."""
        if self.reference_projected is None:
            return 0
        known = {row.tobytes() for row in self.reference_projected}
        return sum(row.tobytes() in known for row in self.projected)

    @classmethod
    def load(
        cls, files: UserFiles, *, input_dims: int, output_dims: int, progress: Progress | None = None
    ) -> UserData:
        """Open and check the files.

        Matrices are memory-mapped and read in blocks; vectors are held in memory.

        Parameters
        ----------
        files
            Which.
        input_dims, output_dims
            Of the decoder to evaluate: what rows of `projected` and of `originals` must have.
        progress
            Called with a label, rows done and rows in all.

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
        projected = _unit_rows(files.projected, input_dims)
        n_rows = len(projected)
        if n_rows < FEWEST_ROWS:
            raise InvalidDataError(
                f"{files.projected} has {n_rows} rows, expected at least {FEWEST_ROWS}.",
                remedy="Fewer say nothing about a decoder; give more rows.",
            )
        originals = _originals(files.originals, output_dims, files.projected, n_rows)
        reference_projected = (
            None if files.reference_projected is None else _unit_rows(files.reference_projected, input_dims)
        )
        n_known = 0 if reference_projected is None else len(reference_projected)
        reference_originals = _originals(
            files.reference_originals, output_dims, files.reference_projected, n_known
        )
        test_test = (
            DotProducts(originals, originals)
            if originals is not None
            else _square(files.projected, files.cosines, n_rows, progress)
        )
        _refuse_no_spread(test_test, files.originals or files.cosines)
        test_reference: Cosines | None = None
        if originals is not None and reference_originals is not None:
            test_reference = DotProducts(originals, reference_originals)
        elif files.reference_cosines is not None:
            test_reference = _rectangle(files.reference_cosines, n_rows, n_known, progress)
        if test_reference is not None:
            _refuse_no_spread(
                test_reference, files.reference_originals or files.reference_cosines, same_rows=False
            )
        labels, reference_labels = (
            None if path is None else load_row_labels(path, count, of=str(of))
            for path, count, of in (
                (files.labels, n_rows, files.projected),
                (files.reference_labels, n_known, files.reference_projected),
            )
        )
        if labels is not None and reference_labels is not None:
            _require_comparable(labels, reference_labels, files)
        return cls(
            projected,
            test_test,
            reference_projected,
            test_reference,
            originals,
            reference_originals,
            labels,
            reference_labels,
        )


def _require_comparable(labels: NDArray[Any], reference_labels: NDArray[Any], files: UserFiles) -> None:
    """The number 3 and the text "3" would be two labels, and one label alone teaches nothing."""
    if (labels.dtype.kind in "iu") != (reference_labels.dtype.kind in "iu"):
        raise InvalidDataError(
            f"{files.labels} holds {labels.dtype} and {files.reference_labels} "
            f"{reference_labels.dtype}, expected "
            "integers in both or strings in both.",
            remedy="Save both in the same way.",
        )
    try:
        require_teachable(reference_labels)
    except InputError as error:
        raise InvalidDataError(f"{files.reference_labels}: {error.message}", remedy=error.remedy) from error
    if not np.isin(labels, reference_labels).any():
        raise InvalidDataError(
            f"No label of {files.labels} is among those of {files.reference_labels}; expected the same.",
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


def _originals(
    path: Path | None, dims: int, projected: Path | None, n_rows: int
) -> NDArray[np.float32] | None:
    if path is None:
        return None
    originals = _unit_rows(path, dims)
    if len(originals) != n_rows:
        raise InvalidDataError(
            f"{path} has {len(originals)} rows and {projected} has {n_rows}; expected the same number.",
            remedy=SAME_ORDER_REMEDY,
        )
    return originals


def _square(projected: Path, cosines: Path | None, n_rows: int, progress: Progress | None) -> MatrixCosines:
    if cosines is None:
        raise InputError("Expected either the originals or their cosines.")
    check_cosines(SourceFiles(projected, cosines, str(cosines)), n_rows, progress=progress)
    return MatrixCosines(CosineMatrix.open(cosines).memory_map)


def _rectangle(path: Path, n_rows: int, n_known: int, progress: Progress | None) -> MatrixCosines:
    header = read_npy_header(path)
    if header.shape != (n_rows, n_known):
        turned = header.shape == (n_known, n_rows)
        raise InvalidDataError(
            f"{path} has shape {header.shape}, expected ({n_rows}, {n_known}): a column a reference row.",
            remedy="Save its transpose."
            if turned
            else "Give the cosine of every row with every reference row.",
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
    if float(np.ptp(off_diagonal)) < 10 * LEAST_SPREAD:  # dot products of long rows round more
        raise InvalidDataError(
            f"{path}: all cosines are {off_diagonal[0]:.6g}, expected cosines that differ.",
            remedy=SAME_ORDER_REMEDY,
        )
