"""Labels as numbers, which of them can be learned, and folds in which no copy gives a label away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

FOLDS: Final = 5
FEWEST_SETS: Final = 2
"""Different rows that a class needs: one is left out, and another is learned from."""
MOST_PROBABILITIES: Final = 50_000_000
"""Numbers in the table of rows and classes; of more classes the most frequent are taken."""


@dataclass(frozen=True, eq=False)
class LabelCodes:
    """Labels of rows as column numbers.

    Attributes
    ----------
    classes
        Label of each code, in alphabetical order.
    codes
        -1 for a row without a label, or with one that is left out: int64, shape (n,).
    left_out
        Labels that no classifier can learn here, with their rows' count.
    labelled
        Rows that have a label at all: bool, shape (n,).
    """

    classes: tuple[str, ...]
    codes: Indices
    left_out: dict[str, int]
    labelled: NDArray[np.bool_]

    @property
    def taught(self) -> Indices:
        """Rows whose label takes part, 0-based: int64, shape (m,)."""
        return np.flatnonzero(self.codes >= 0)

    def why_not(self) -> str | None:
        """Why no classifier can be fitted, in a sentence; None where one can."""
        if not self.labelled.any():
            return "No row has a label."
        if not self.classes:
            return "Every label stands at one row only, or at copies of it."
        if len(self.classes) == 1:
            return (
                f'All labels that stand at two rows or more are "{self.classes[0]}": nothing to tell apart.'
            )
        return None


def code_labels(labels: Sequence[str | None], sets: Indices) -> LabelCodes:
    """Number the labels.

    Parameters
    ----------
    labels
        None or an empty string where there is none.
    sets
        Which rows are copies of each other: int64, shape (n,), equal numbers for copies.
    """
    labelled = np.array([bool(label) for label in labels], dtype=bool)
    rows = np.flatnonzero(labelled)
    names, codes = np.unique(
        np.array([labels[row] or "" for row in rows.tolist()], dtype=np.str_), return_inverse=True
    )
    # A class and a set that meet, once each: its number of different rows.
    meetings = np.unique(np.stack([codes.ravel(), sets[rows]]), axis=1)[0]
    different = np.bincount(meetings, minlength=len(names))
    most = max(2, MOST_PROBABILITIES // max(1, len(labels)))
    frequent = np.zeros(len(names), dtype=bool)
    frequent[np.argsort(-different, kind="stable")[:most]] = True
    taken = (different >= FEWEST_SETS) & frequent
    new_code = np.where(taken, np.cumsum(taken) - 1, -1)
    all_codes = np.full(len(labels), -1, np.int64)
    all_codes[rows] = new_code[codes.ravel()]
    counts = np.bincount(codes.ravel(), minlength=len(names))
    left_out = {str(names[i]): int(counts[i]) for i in np.flatnonzero(~taken)}
    return LabelCodes(tuple(str(name) for name in names[taken]), all_codes, left_out, labelled)


def fold_rows(codes: Indices, sets: Indices, *, folds: int = FOLDS, seed: int = 0) -> Indices:
    """Divide rows into folds: copies stay together, and each class is spread over all folds.

    Parameters
    ----------
    codes
        Class of each row: int64, shape (m,).
    sets
        Which rows are copies of each other: int64, shape (m,).
    folds
        At most this many; fewer where there are fewer sets.
    seed
        Of the order of sets within a class.

    Returns
    -------
    Fold of each row: int64, shape (m,).
    """
    names, inverse = np.unique(sets, return_inverse=True)
    inverse = inverse.ravel()
    # A set of several classes counts for its rarest, which has the fewest others to be learned from.
    rarity = np.argsort(np.argsort(np.bincount(codes), kind="stable"), kind="stable")
    class_of_set = np.full(len(names), len(rarity), np.int64)
    np.minimum.at(class_of_set, inverse, rarity[codes])
    order = np.lexsort((np.random.default_rng(seed).permutation(len(names)), class_of_set))
    fold_of_set = np.empty(len(names), np.int64)
    fold_of_set[order] = np.arange(len(names)) % min(folds, max(1, len(names)))
    return np.asarray(fold_of_set[inverse])
