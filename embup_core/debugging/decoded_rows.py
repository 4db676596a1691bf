"""What a decoder makes of rows that it was not fitted on, row by row, against the true cosines.

A row that a decoder has seen says nothing about it, so each row is judged by a decoder fitted on others: five
of them, or the one that the report is about with its test rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.debugging.analysis import Neighbours
from embup_core.evaluation.held_out import DecodedRows
from embup_core.evaluation.ranking import largest_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from embup_core.decoders.base import Decoder
    from embup_core.geometry.basis import Basis
    from embup_core.progress import Progress
    from embup_core.sources.cosine_matrix import CosineMatrix

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Mask = NDArray[np.bool_]

FOLDS: Final = 5
NEAREST: Final = 10
MOST_COMPARED: Final = 20_000
"""Each row is compared with at most so many random rows."""


@dataclass(frozen=True, eq=False)
class FittedFold:
    """A decoder, and rows that it was not fitted on.

    Attributes
    ----------
    decoder
        Fitted.
    unseen
        0-based: int64, shape (m,).
    """

    decoder: Decoder
    unseen: Indices


@dataclass(frozen=True, eq=False)
class DecodedScores:
    """How well rows were decoded; NaN, or -1, for rows that no decoder was asked about.

    Attributes
    ----------
    pair_error
        Root mean square error of a row's cosines with the other unseen rows: float64, shape (n,).
    expected_error
        What the decoder predicted for it: root of the mean squared standard error of the same cosines;
        NaN where it cannot tell.
    confidence
        Of the decoder, 0 to 1; NaN where it cannot tell.
    lost_neighbours
        How many of the 10 true nearest rows are not among the 10 nearest decoded ones.
    true, decoded
        The 10 nearest rows by true and by decoded cosine. Decoded neighbours that are no true ones are
        invented, as many as are lost.
    """

    pair_error: Floats
    expected_error: Floats
    confidence: Floats
    lost_neighbours: Floats
    true: Neighbours
    decoded: Neighbours

    def without(self, rows: Mask) -> Self:
        """The same scores, NaN for some rows: bool, shape (n,)."""
        return replace(
            self,
            pair_error=np.where(rows, np.nan, self.pair_error),
            expected_error=np.where(rows, np.nan, self.expected_error),
            confidence=np.where(rows, np.nan, self.confidence),
            lost_neighbours=np.where(rows, np.nan, self.lost_neighbours),
        )


def fit_folds(
    make: Callable[[], Decoder],
    projected: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    *,
    output_dims: int,
    basis: Basis | None = None,
    left_out: Mask | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[FittedFold]:
    """Fit a decoder once for each fifth of the rows, on the others; one is in memory at a time.

    Parameters
    ----------
    make
        Gives an unfitted decoder.
    projected, coordinates
        z, float32 (N, d), and c, float32 (N, r).
    output_dims
        Dimensions of the originals.
    basis
        That the coordinates are in; None leaves the axes to the decoder.
    left_out
        Rows that take no part in fits, such as wrong ones: bool, shape (N,). They are in folds all the same.
    folds
        How many.
    seed
        Which rows are in which fold.
    progress
        Called with a label, folds done and folds in all.

    Raises
    ------
    TrainingError
        Too few rows for this decoder.
    """
    n_rows = len(projected)
    fold = np.random.default_rng(seed).permutation(n_rows) % folds
    for number in range(folds):
        if progress:
            progress("fitting on other rows", number, folds)
        rows = np.flatnonzero((fold != number) & ~(np.zeros(n_rows, bool) if left_out is None else left_out))
        decoder = make().fit(projected[rows], coordinates[rows], output_dims=output_dims, basis=basis)
        yield FittedFold(decoder, np.flatnonzero(fold == number))


def score_decoded_rows(
    folds: Iterable[FittedFold],
    projected: NDArray[np.float32],
    matrix: CosineMatrix,
    *,
    left_out: Mask | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DecodedScores:
    """Compare decoded rows with the matrix, in blocks of 256 rows.

    Parameters
    ----------
    folds
        Decoders with the rows to judge them by; a row in several folds has the scores of the last.
    projected
        z of all rows: float32, shape (N, d).
    matrix
        True cosines of all rows.
    left_out
        Rows that none is compared with, such as wrong ones: bool, shape (N,). They have scores all the same.
    seed
        Which rows are compared with, where there are more than 20,000.
    progress
        Called with a label, rows done and rows in all.
    """
    n_rows = len(projected)
    compared = np.arange(n_rows) if left_out is None else np.flatnonzero(~left_out)
    if len(compared) > MOST_COMPARED:
        compared = np.sort(np.random.default_rng(seed).choice(compared, MOST_COMPARED, replace=False))
    scores = DecodedScores(
        pair_error=np.full(n_rows, np.nan),
        expected_error=np.full(n_rows, np.nan),
        confidence=np.full(n_rows, np.nan),
        lost_neighbours=np.full(n_rows, np.nan),
        true=_no_neighbours(n_rows),
        decoded=_no_neighbours(n_rows),
    )
    done = 0
    for fold in folds:
        others = DecodedRows.by(fold.decoder, projected[compared])
        for block in row_blocks(len(fold.unseen)):
            _score_block(scores, fold, fold.unseen[block], others, compared, projected, matrix)
            done += block.stop - block.start
            if progress:
                progress("comparing decoded rows", done, n_rows)
    return scores


def _score_block(
    scores: DecodedScores,
    fold: FittedFold,
    rows: Indices,
    others: DecodedRows,
    compared: Indices,
    projected: NDArray[np.float32],
    matrix: CosineMatrix,
) -> None:
    """Scores of some unseen rows, into their places."""
    decoded, confidence = fold.decoder.predict_with_confidence(projected[rows])
    scores.confidence[rows] = confidence
    predicted = decoded @ others.rows.T  # (b, m)
    true = matrix.block(rows, compared)
    itself = rows[:, None] == compared  # (b, m)
    unseen = np.isin(compared, fold.unseen)
    pairs = unseen & ~itself
    count = pairs.sum(axis=1)
    scores.pair_error[rows] = _root_mean(np.square(predicted - true), pairs, count)
    expected = fold.decoder.cosine_standard_error(
        decoded, confidence, others.rows[unseen], others.confidence[unseen]
    )
    if expected is not None:
        scores.expected_error[rows] = _root_mean(np.square(expected), pairs[:, unseen], count)
    k = min(NEAREST, len(compared) - 1)
    if k < 1:
        return
    nearest = []
    for cosines, kept in ((true, scores.true), (predicted, scores.decoded)):
        cosines[itself] = -np.inf
        columns = largest_columns(cosines, k)
        nearest.append(columns)
        kept.rows[rows, :k] = compared[columns]
        kept.cosines[rows, :k] = np.take_along_axis(cosines, columns, axis=1)
    shared = (nearest[0][:, :, None] == nearest[1][:, None, :]).sum(axis=(1, 2))
    scores.lost_neighbours[rows] = k - shared


def _no_neighbours(n_rows: int) -> Neighbours:
    return Neighbours(
        np.full((n_rows, NEAREST), -1, np.int64), np.full((n_rows, NEAREST), np.nan, np.float32)
    )


def _root_mean(squares: NDArray[np.float32], pairs: Mask, count: Indices) -> Floats:
    total = np.einsum("ij,ij->i", squares, pairs, dtype=np.float64)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return np.asarray(np.sqrt(mean))
