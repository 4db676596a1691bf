"""Labels that are probably wrong, ranked; how many there are; rows between two classes.

A row's score is (1 - p) + (m - p), p the out-of-fold probability of its label and m that of the most probable
other one: self-confidence and normalised margin of confident learning (Northcutt, Jiang & Chuang, 2021; Kuan
& Mueller, 2022) added up. The first ranks labels best that were swapped at random, the second those that were
swapped with a similar class. The number of errors is the sum off the diagonal of the confident joint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.debugging.labels.classification import SMALLEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.debugging.analysis import Neighbours

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

SUSPECT_MARGIN: Final = 0.3
"""A row is listed where another class is more probable than its label by more than this."""
AMBIGUOUS_MARGIN: Final = 0.1
"""A row is ambiguous where the two most probable classes differ by less."""


@dataclass(frozen=True, eq=False)
class LabelScores:
    """What probabilities say of each row.

    Attributes
    ----------
    label_error
        0 where the label is certain to 1 where another one is; NaN without label or probabilities: float64,
        shape (n,).
    label_probability
        Of the given label, NaN as above.
    lead
        Probability of the most probable other class minus that of the label, -1 to 1, NaN as above.
    entropy
        Of the probabilities, in nats; NaN without probabilities.
    margin
        Difference of the two largest probabilities; NaN without probabilities.
    predicted, second
        Columns of the two largest probabilities, -1 without: int64, shape (n,).
    """

    label_error: Floats
    label_probability: Floats
    lead: Floats
    entropy: Floats
    margin: Floats
    predicted: Indices
    second: Indices


def score_labels(probabilities: NDArray[np.float32], codes: Indices) -> LabelScores:
    """Score rows by what a classifier says that has not seen their label.

    Parameters
    ----------
    probabilities
        float32, shape (n, k), k at least 2; rows of NaN where there are none.
    codes
        Column of each row's label, -1 where there is none: int64, shape (n,).
    """
    n_rows = len(codes)
    known = np.isfinite(probabilities.sum(axis=1))
    p = np.where(known[:, None], probabilities, 0.0)
    two = np.argpartition(p, -2, axis=1)[:, -2:]  # (n, 2), the smaller first
    largest = np.take_along_axis(p, two, axis=1).astype(np.float64)
    judged = np.flatnonzero(known & (codes >= 0))
    own, lead, error = (np.full(n_rows, np.nan) for _ in range(3))
    own[judged] = p[judged, codes[judged]]
    is_first = two[judged, 1] == codes[judged]
    other = np.where(is_first, largest[judged, 0], largest[judged, 1])
    lead[judged] = other - own[judged]
    error[judged] = (1 - own[judged] + lead[judged] + 1) / 3  # from [-1, 2] to [0, 1]
    entropy = -(p * np.log(np.maximum(p, SMALLEST))).sum(axis=1, dtype=np.float64)
    return LabelScores(
        label_error=error,
        label_probability=own,
        lead=lead,
        entropy=np.where(known, entropy, np.nan),
        margin=np.where(known, largest[:, 1] - largest[:, 0], np.nan),
        predicted=np.where(known, two[:, 1], -1),
        second=np.where(known, two[:, 0], -1),
    )


def heed_copies(probabilities: NDArray[np.float32], codes: Indices, copies: Indices) -> NDArray[np.float32]:
    """Divide the probability of rows whose copies have other labels among the labels that people gave them.

    One of those labels is wrong for certain, and most likely one of them is right. Each copy with another
    label is the vote of a nearest row that was kept out of `probabilities`: it triples that label's odds, the
    ratio of expected shares with and without it under Jeffreys' prior. Copies of the same label have no vote,
    because a wrong label may have been copied with its row.

    Parameters
    ----------
    probabilities, codes
        As for `score_labels`.
    copies
        Number of each row's set of copies: int64, shape (n,).

    Returns
    -------
    float32, shape (n, k).
    """
    labelled = np.flatnonzero(codes >= 0)
    _, place = np.unique(copies[labelled], return_inverse=True)
    place = place.ravel()
    several = np.unique(np.stack([place, codes[labelled]]), axis=1)[0]
    contradicting = np.bincount(several)[place] > 1 if len(labelled) else np.empty(0, np.bool_)
    rows = labelled[contradicting]
    if not len(rows):
        return probabilities
    _, part = np.unique(place[contradicting], return_inverse=True)
    part = part.ravel()
    votes = np.zeros((int(part.max()) + 1, probabilities.shape[1]), np.float32)
    np.add.at(votes, (part, codes[rows]), 1)
    heeded = probabilities.copy()
    odds = np.where(votes[part] > 0, 1 + 2 * votes[part], 0)  # (m, k)
    odds[np.arange(len(rows)), codes[rows]] = 1
    heeded[rows] *= odds
    heeded[rows] /= heeded[rows].sum(axis=1, keepdims=True)
    return heeded


def confident_joint(probabilities: NDArray[np.float32], codes: Indices) -> Floats:
    """Estimated counts of rows by given label and true class (Northcutt, Jiang & Chuang, 2021).

    A row counts for a class where its probability is at least the mean of those of rows with that label; for
    the most probable one of several. Each line is scaled to the number of rows with that label.

    Parameters
    ----------
    probabilities, codes
        As for `score_labels`.

    Returns
    -------
    float64, shape (k, k), given labels as rows.
    """
    n_classes = probabilities.shape[1]
    rows = np.flatnonzero((codes >= 0) & np.isfinite(probabilities).all(axis=1))
    p, given = probabilities[rows], codes[rows]
    counts = np.bincount(given, minlength=n_classes)
    own = np.bincount(given, p[np.arange(len(rows)), given], n_classes)
    thresholds = np.divide(own, counts, out=np.full(n_classes, np.inf), where=counts > 0)
    beyond = np.where(p >= thresholds, p, -1.0)
    counted = beyond.max(axis=1, initial=-1.0) >= 0
    cell = given[counted] * n_classes + beyond[counted].argmax(axis=1)
    joint = np.bincount(cell, minlength=n_classes**2).reshape(n_classes, n_classes).astype(np.float64)
    total = joint.sum(axis=1)
    scale = np.divide(counts, total, out=np.zeros(n_classes), where=total > 0)
    joint *= scale[:, None]
    unseen = total == 0
    joint[unseen, unseen] = counts[unseen]
    return joint


def estimated_errors(joint: Floats) -> float:
    """Estimated number of wrong labels: what is off the diagonal of the confident joint."""
    return float(joint.sum() - np.trace(joint))


def class_overlap(neighbours: Neighbours, codes: Indices, n_classes: int) -> Floats:
    """Share of the nearest labelled rows of each class that belong to each other class.

    Parameters
    ----------
    neighbours
        Nearest rows: shape (n, k).
    codes
        Class of each row, -1 where there is none: int64, shape (n,).
    n_classes
        How many.

    Returns
    -------
    float64, shape (n_classes, n_classes); each line sums to 1, or is 0 where a class has no neighbours.
    """
    other = np.where(neighbours.rows < 0, -1, codes[neighbours.rows])  # (n, k)
    edges = (other >= 0) & (codes >= 0)[:, None]
    cell = codes[:, None] * n_classes + other
    counts = np.bincount(cell[edges], minlength=n_classes**2).reshape(n_classes, n_classes)
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0))
