"""What reviewed labels are worth: the accuracy of a classifier before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.debugging.labels.classification import out_of_fold, predict_from
from embup_core.debugging.labels.coding import code_labels
from embup_core.debugging.labels.usages import FEWEST_ROWS, TRAIN, Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ReviewEffect:
    """Share of rows told right, before and after a review.

    Attributes
    ----------
    before
        Of a classifier taught by the labels as they were.
    after
        Of one taught by the reviewed labels.
    judged_on
        ``test rows``: rows of other usages than train; ``left-out rows``: every labelled row, out of fold.
        Both classifiers are judged by the reviewed labels of the same rows, and taught no copy of them.
    """

    before: Share
    after: Share
    judged_on: str


def review_effect(
    vectors: Vectors,
    labels: Sequence[str | None],
    reviewed: Sequence[str | None],
    copies: Indices,
    *,
    usages: Sequence[str | None] | None = None,
    seed: int = 0,
) -> ReviewEffect | None:
    """Compare classifiers taught by two states of the labels.

    Parameters
    ----------
    vectors
        Features of the rows: float32, shape (n, d).
    labels
        As they were.
    reviewed
        As they are after the review; None for rows that were left out.
    copies
        Number of each row's set of copies: int64, shape (n,).
    usages
        Of rows. Test rows are judged where 30 of them have a label, and where both states label at least 30
        training rows of two classes or more that are no copies of these.
    seed
        Of folds.

    Returns
    -------
    None where no classifier can be fitted or judged.
    """
    old, new = code_labels(labels, copies), code_labels(reviewed, copies)
    if old.why_not() or new.why_not():
        return None
    training = np.array([usage == TRAIN for usage in usages or [None] * len(labels)], dtype=bool)
    tested = np.array([usage not in (None, TRAIN) for usage in usages or [None] * len(labels)], dtype=bool)
    tested &= new.codes >= 0
    # A review drops copies of test rows; a classifier that still knew them would seem to be the better one.
    training &= ~np.isin(copies, copies[tested])
    fits = [np.flatnonzero(training & (coded.codes >= 0)) for coded in (old, new)]
    held_out = bool(tested.sum() >= FEWEST_ROWS) and all(
        len(fit) >= FEWEST_ROWS and len(np.unique(coded.codes[fit])) > 1
        for fit, coded in zip(fits, (old, new), strict=True)
    )
    # Out of fold, copies are left out together; but a row without a label is in no fold.
    unseen = (old.codes >= 0) | ~np.isin(copies, copies[old.taught])
    judged = tested if held_out else (new.codes >= 0) & unseen
    shares = []
    for fit, coded in zip(fits, (old, new), strict=True):
        if held_out:
            p = predict_from(vectors, coded, fit, seed=seed)
        else:
            p = out_of_fold(vectors, coded, copies, seed=seed)
        best = np.where(np.isfinite(p), p, 0).argmax(axis=1)
        rows = np.flatnonzero(judged & np.isfinite(p[:, 0]))
        right = [coded.classes[best[row]] == new.classes[new.codes[row]] for row in rows.tolist()]
        shares.append(Share.of(np.array(right, dtype=bool)))
    return ReviewEffect(shares[0], shares[1], "test rows" if held_out else "left-out rows")
