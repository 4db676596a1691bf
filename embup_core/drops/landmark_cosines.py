"""Coordinates of the rows of a later drop by their cosines with the landmarks, and checks of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.drops.report import CHECKS, WORST_OFFENDERS, Check, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.drops.known import Known

SPANNED_LENGTH: Final = 0.999
"""A row of smaller recovered length has a part outside the landmarks' span. Measured: 0.999998 and more with
float32 cosines of rows within it, 1.0006 to 1.003 with float16."""
FEW_SHARE: Final = 0.005
"""Up to this share of rows outside the span is quarantined; more of them need new landmarks."""
OTHER_LANDMARKS: Final = 0.05
"""By how much the median recovered length exceeds 1. Measured: 1e-6 in order, 0.0017 with float16, 12
permuted. Rows outside the landmarks' span are shorter, never longer."""
LARGEST_MISFIT: Final = 1e-3
"""Median error of a row's cosines. Measured: 3e-7 with float32, 5e-5 with float16, 0.01 permuted."""
_MEDIANS: Final = 20.0
_BLOCK_ROWS: Final = 2048


class Placed(NamedTuple):
    """Rows in the basis.

    Attributes
    ----------
    coordinates
        Not made unit length: float32, shape (n, r).
    lengths
        float64, shape (n,); 1 for a row within the landmarks' span.
    row_misfit
        Median error of the cosines of a row, as its coordinates give them: float64, shape (n,).
    landmark_misfit
        The same by landmark: float64, shape (L,).
    """

    coordinates: NDArray[np.float32]
    lengths: NDArray[np.float64]
    row_misfit: NDArray[np.float64]
    landmark_misfit: NDArray[np.float64]


def place_rows(cosines: NDArray[Any], known: Known) -> Placed:
    """Coordinates of rows: the least-squares solution of X c = g for each.

    Parameters
    ----------
    cosines
        With the landmarks, in their order: floats of any width, shape (n, L); read a block at a time.
    known
        Has the landmarks.
    """
    basis = known.basis
    whitening = basis.whitening(np.arange(len(basis.landmarks)))  # (L, r)
    n_rows = len(cosines)
    coordinates = np.empty((n_rows, basis.dims), np.float32)
    row_misfit = np.empty(n_rows)
    landmark_misfit, blocks = np.zeros(len(basis.landmarks)), 0
    for block in row_blocks(n_rows, _BLOCK_ROWS):
        given = np.asarray(cosines[block], dtype=np.float32)  # (b, L)
        coordinates[block] = given @ whitening
        misfit = np.abs(coordinates[block] @ basis.coordinates.T - given)
        row_misfit[block] = np.median(misfit, axis=1)
        landmark_misfit += np.median(misfit, axis=0)
        blocks += 1
    lengths = np.linalg.norm(coordinates, axis=1).astype(np.float64)
    return Placed(coordinates, lengths, row_misfit, landmark_misfit / blocks)


def check_landmarks(placed: Placed) -> Check:
    """Whether the columns are those of the landmarks, in their order."""
    off = float(np.median(placed.lengths)) - 1
    misfit = float(np.median(placed.row_misfit))
    limit = max(LARGEST_MISFIT, _MEDIANS * float(np.median(placed.landmark_misfit)))
    wrong = np.flatnonzero(placed.landmark_misfit > limit)
    figures = {"median_length_error": off, "median_cosine_error": misfit}
    worst = np.argsort(-placed.landmark_misfit)[:WORST_OFFENDERS]
    offenders = tuple(
        {"landmark": int(column), "cosine_error": float(placed.landmark_misfit[column])} for column in worst
    )
    expected = f"a length of {1 + OTHER_LANDMARKS:g} or less, cosines met within {LARGEST_MISFIT:g} (medians)"
    if off > OTHER_LANDMARKS or misfit > LARGEST_MISFIT:
        return Check(
            "landmarks",
            Status.failed,
            expected,
            f"The cosines are not those with the landmarks in their order: the recovered length is "
            f"{1 + off:.3g}, and cosines are off by {misfit:.2g} (medians).",
            "Compute the cosines with the rows that PLACE/landmarks lists, in that order, by the same "
            "embedding model.",
            offenders,
            figures=figures,
        )
    if len(wrong):
        return Check(
            "landmarks",
            Status.failed,
            expected,
            f"{len(wrong)} of {len(placed.landmark_misfit):,} landmarks have other originals than before: "
            f"the cosines with landmark {worst[0]} are off by {placed.landmark_misfit[worst[0]]:.2g}.",
            "Compute these columns again, with the originals that the first drop had.",
            offenders[: len(wrong)],
            figures=figures,
        )
    found = f"the length is {1 + off:.6f}, cosines are off by {misfit:.1e} (medians)"
    return Check("landmarks", Status.passed, expected, found, figures=figures)


@dataclass(frozen=True, eq=False)
class Span:
    """Which rows the landmarks do not span, and which have cosines that no original has.

    Attributes
    ----------
    outside
        Rows that are shorter than 1: bool, shape (n,).
    impossible
        Rows longer than 1, or whose cosines contradict each other: bool, shape (n,).
    lengths
        float64, shape (n,).
    """

    outside: NDArray[np.bool_]
    impossible: NDArray[np.bool_]
    lengths: NDArray[np.float64]

    @classmethod
    def of(cls, placed: Placed) -> Span:
        """Judge placed rows; the rounding that most of them show is allowed to all."""
        slack = 3 * max(0.0, float(np.median(placed.lengths)) - 1)
        limit = max(LARGEST_MISFIT, _MEDIANS * float(np.median(placed.row_misfit)))
        impossible = (placed.lengths > 2 - SPANNED_LENGTH + slack) | (placed.row_misfit > limit)
        outside = (placed.lengths < SPANNED_LENGTH - slack) & ~impossible
        return cls(outside, impossible, placed.lengths)

    @property
    def few(self) -> int:
        """How many rows outside the span may be quarantined."""
        return max(3, int(FEW_SHARE * len(self.lengths)))

    @property
    def must_grow(self) -> bool:
        """Whether more rows than a few lie outside."""
        return int(self.outside.sum()) > self.few

    def check(self, *, added: int = 0) -> Check:
        """The verdict; `added` directions have been added to the basis."""
        rows = np.flatnonzero(self.outside)
        worst = rows[np.argsort(self.lengths[rows])][:WORST_OFFENDERS]
        expected = f"recovered lengths of {SPANNED_LENGTH:g} or more, but for {self.few} rows"
        shortest = float(self.lengths.min())
        figures = {"shortest": shortest, "outside": float(len(rows)), "added_dimensions": float(added)}
        offenders = tuple({"row": int(row), "length": float(self.lengths[row])} for row in worst)
        if self.must_grow:
            return Check(
                "spanned",
                Status.failed,
                expected,
                f"{len(rows):,} of {len(self.lengths):,} rows have a part outside the span of the landmarks: "
                f"the shortest recovered length is {shortest:.4f}.",
                "Make the drop again with more landmarks: embup drops make --originals picks rows of this "
                "drop, and the basis grows by them.",
                offenders,
                figures=figures,
            )
        grown = f"; the basis has grown by {added} dimensions" if added else ""
        if len(rows):
            return Check(
                "spanned",
                Status.warning,
                expected,
                f"{len(rows)} rows lie partly outside the span of the landmarks, and are quarantined{grown}.",
                "None is needed for a few rows.",
                offenders,
                tuple(rows.tolist()),
                figures,
            )
        return Check(
            "spanned", Status.passed, expected, f"the shortest is {shortest:.6f}{grown}", figures=figures
        )


NOT_RUN_IN_FIRST: Final = Check(
    "spanned", Status.passed, CHECKS["spanned"], "the first drop chooses landmarks that span it"
)
