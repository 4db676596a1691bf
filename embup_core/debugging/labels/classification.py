"""Probabilities of labels from a classifier that has not seen the label it judges.

Two classifiers that err differently are combined by the geometric mean of their probabilities: a logistic
regression fitted out of fold, and the vote of the 20 nearest other rows. Out-of-fold probabilities are what
confident learning needs (Northcutt, Jiang & Chuang, 2021); on real data with planted errors the combination
ranked them better than either (`python -m benchmarks.label_errors`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.debugging.features.neighbours import centred_units, nearest_rows, usable_rows
from embup_core.debugging.labels.coding import fold_rows
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embup_core.debugging.labels.coding import LabelCodes
    from embup_core.progress import Progress

    Vectors = NDArray[np.float32]
    Indices = NDArray[np.int64]

NEIGHBOURS: Final = 20
TEMPERATURE: Final = 0.1
"""In cosine: a neighbour that is farther by this much has 1/e of the vote."""
MOST_TAUGHT: Final = 20_000
"""A regression is fitted on at most so many random rows; more change its coefficients little."""
MOST_REGRESSED_CLASSES: Final = 300
"""With more classes the neighbours vote alone: the regression's time and memory grow with their number."""
SMALLEST: Final = 1e-6
"""Probabilities are at least this in a logarithm."""

_PENALTY = 2.0  # scikit-learn's C, for unit rows around their mean
_PRIOR_VOTES = 0.02  # votes for the class frequencies beside one vote in all of the neighbours
_SPARE_NEIGHBOURS = 20  # copies among the neighbours, which have no vote
_MOST_ITERATIONS = 200


@dataclass(frozen=True, eq=False)
class Classification:
    """What a classifier says of all rows by the best kind of features.

    Attributes
    ----------
    kind
        The features, as they were named.
    classes
        Label of each column.
    probabilities
        Out of fold for labelled rows; of a classifier fitted on all labelled rows for the others. float32,
        shape (n, k); rows of NaN where a row has no features.
    losses
        Mean negative logarithm of the probability of the given label, in nats, by kind of features. A row
        without features counts with the frequency of its class.
    accuracies
        Share of labelled rows whose label is the most probable, by kind of features.
    """

    kind: str
    classes: tuple[str, ...]
    probabilities: Vectors
    losses: Mapping[str, float]
    accuracies: Mapping[str, float]


@extra_required()
def classify(
    features: Mapping[str, Vectors],
    coded: LabelCodes,
    sets: Indices,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Classification | None:
    """Predict labels by each kind of features, and take the kind of least out-of-fold log loss.

    Parameters
    ----------
    features
        Vectors by kind: float32, shape (n, d) each, rows of NaN or zeros where a row has none.
    coded
        Labels of at least two classes.
    sets
        Which rows are copies of each other: int64, shape (n,). They are in one fold and do not vote for each
        other.
    seed
        Of the folds.
    progress
        Called with a label, kinds done and kinds in all.

    Returns
    -------
    None where no kind has vectors for at least two labelled rows.

    Raises
    ------
    MissingExtraError
        scikit-learn is not installed.
    """
    taught = coded.taught
    truth = coded.codes[taught]
    prior = np.bincount(truth, minlength=len(coded.classes)) / len(truth)
    best: tuple[str, Vectors] | None = None
    losses: dict[str, float] = {}
    accuracies: dict[str, float] = {}
    for done, (kind, vectors) in enumerate(features.items()):
        if progress:
            progress(f"predicting labels by {kind}", done, len(features))
        if usable_rows(vectors)[taught].sum() < 2:
            continue
        probabilities = out_of_fold(vectors, coded, sets, seed=seed)
        judged = probabilities[taught]
        known = np.isfinite(judged[:, 0])
        judged[~known] = prior
        given = judged[np.arange(len(truth)), truth]
        losses[kind] = float(-np.log(np.maximum(given, SMALLEST)).mean())
        accuracies[kind] = float((judged.argmax(axis=1) == truth).mean())
        if best is None or losses[kind] < losses[best[0]]:
            best = kind, probabilities
    if best is None:
        return None
    return Classification(best[0], coded.classes, best[1], losses, accuracies)


def out_of_fold(vectors: Vectors, coded: LabelCodes, sets: Indices, *, seed: int = 0) -> Vectors:
    """Probabilities of labels by one kind of features; parameters as for `classify`.

    Returns
    -------
    float32, shape (n, k); rows of NaN where a row has no features.
    """
    votes = neighbour_votes(vectors, coded, sets)
    if len(coded.classes) > MOST_REGRESSED_CLASSES:
        return votes
    return geometric_mean(logistic_out_of_fold(vectors, coded, sets, seed=seed), votes)


def logistic_out_of_fold(vectors: Vectors, coded: LabelCodes, sets: Indices, *, seed: int = 0) -> Vectors:
    """Probabilities by the regression alone; parameters and result as for `out_of_fold`."""
    vectors = centred_units(vectors)
    usable = usable_rows(vectors)
    taught = coded.taught
    taught = taught[usable[taught]]
    probabilities = np.full((len(vectors), len(coded.classes)), np.nan, np.float32)
    rng = np.random.default_rng(seed)
    fold = fold_rows(coded.codes[taught], sets[taught], seed=seed)
    for number in range(int(fold.max()) + 1):
        held = taught[fold == number]
        probabilities[held] = _logistic(vectors, coded, taught[fold != number], held, rng)
    others = np.flatnonzero(usable & (coded.codes < 0))
    if len(others):
        probabilities[others] = _logistic(vectors, coded, taught, others, rng)
    return probabilities


def predict_from(vectors: Vectors, coded: LabelCodes, rows: Indices, *, seed: int = 0) -> Vectors:
    """Probabilities of labels by a regression fitted on some labelled rows only.

    Parameters
    ----------
    vectors, coded, seed
        As for `out_of_fold`.
    rows
        To fit on: int64, shape (m,).

    Returns
    -------
    float32, shape (n, k), rows of NaN where a row has no features: of the regression alone.
    """
    centred = centred_units(vectors)
    usable = usable_rows(centred)
    probabilities = np.full((len(vectors), len(coded.classes)), np.nan, np.float32)
    probabilities[usable] = _logistic(
        centred, coded, rows[usable[rows]], np.flatnonzero(usable), np.random.default_rng(seed)
    )
    return probabilities


def neighbour_votes(vectors: Vectors, coded: LabelCodes, sets: Indices) -> Vectors:
    """Share of each class among the nearest labelled rows, weighted by their cosine; copies have no vote.

    Parameters and result as for `out_of_fold`.
    """
    n_classes = len(coded.classes)
    centred = centred_units(vectors)
    found = nearest_rows(centred, NEIGHBOURS + _SPARE_NEIGHBOURS, among=coded.codes >= 0)
    counts = (found.rows >= 0) & (sets[found.rows] != sets[:, None])  # (n, 40)
    counts &= np.cumsum(counts, axis=1) <= NEIGHBOURS
    nearest = np.max(np.where(counts, found.cosines, -np.inf), axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        weights = np.where(counts, np.exp((found.cosines - nearest) / TEMPERATURE), 0.0)
    cell = np.arange(len(centred))[:, None] * n_classes + coded.codes[found.rows]
    votes = np.bincount(cell[counts], weights[counts], len(centred) * n_classes).reshape(-1, n_classes)
    total = votes.sum(axis=1, keepdims=True)
    prior = np.bincount(coded.codes[coded.taught], minlength=n_classes) / len(coded.taught)
    shares = np.divide(votes, total, out=np.zeros_like(votes), where=total > 0)
    smoothed = np.where(total > 0, (shares + _PRIOR_VOTES * prior) / (1 + _PRIOR_VOTES), prior)
    smoothed[~usable_rows(centred)] = np.nan
    return smoothed.astype(np.float32)


def geometric_mean(left: Vectors, right: Vectors) -> Vectors:
    """Of two tables of probabilities, made to sum to 1 again: float32, shape (n, k)."""
    mean = np.sqrt(np.maximum(left, SMALLEST) * np.maximum(right, SMALLEST))
    mean /= mean.sum(axis=1, keepdims=True)
    return np.asarray(mean, dtype=np.float32)


def _logistic(
    vectors: Vectors, coded: LabelCodes, fit: Indices, asked: Indices, rng: np.random.Generator
) -> Vectors:
    """Fit on some rows, ask about others: float32, shape (len(asked), k)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(fit) > MOST_TAUGHT:
        fit = np.sort(rng.choice(fit, MOST_TAUGHT, replace=False))
    answer = np.zeros((len(asked), len(coded.classes)), np.float32)
    present = np.unique(coded.codes[fit])
    if len(present) < 2:
        answer[:, present] = 1
        return answer
    model = LogisticRegression(C=_PENALTY, max_iter=_MOST_ITERATIONS, tol=1e-3)
    with warnings.catch_warnings():
        # Separable classes have no finite optimum but the penalty's; the answers settle long before it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(vectors[fit], coded.codes[fit])
    answer[:, present] = model.predict_proba(vectors[asked])
    return answer
