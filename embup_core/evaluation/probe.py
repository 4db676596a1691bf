"""Downstream use of decoded rows: how well a linear classifier that was fitted on them knows unseen rows.

A linear probe (Alain & Bengio, 2016) on decoded rows stands between the same probe on the originals, which is
what could be had, and on the projected embeddings, which is what one has without decoding.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

MOST_TRAINING_ROWS = 4000
_MOST_ITERATIONS = 200


@dataclass(frozen=True)
class ProbeScores:
    """Shares of test rows whose label was told right.

    Attributes
    ----------
    accuracy
        By name of the feature set.
    majority_share
        Share of the test rows that have the training rows' most frequent label: what needs no features.
    classes
        How many labels the training rows have.
    training_rows, test_rows
        How many rows the probe was fitted on and scored on.
    """

    accuracy: dict[str, float]
    majority_share: float
    classes: int
    training_rows: int
    test_rows: int


def probe_scores(
    training_labels: NDArray[Any],
    test_labels: NDArray[Any],
    features: Iterable[tuple[str, NDArray[np.float32], NDArray[np.float32]]],
    *,
    seed: int = 0,
) -> ProbeScores:
    """Fit a logistic regression on standardised features of training rows, score it on test rows.

    Of more than 4,000 training rows a random sample is taken, the same for all feature sets. A label that
    only test rows have counts as told wrong.

    Parameters
    ----------
    training_labels, test_labels
        Integers or strings, shape (n,) and (m,).
    features
        Name, training rows (n, d) and test rows (m, d) of each feature set; taken one at a time.
    seed
        Of the sample.

    Raises
    ------
    InputError
        The training rows' labels teach nothing; see `require_teachable`.
    """
    rows = np.arange(len(training_labels))
    if len(rows) > MOST_TRAINING_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_TRAINING_ROWS, replace=False))
    labels = training_labels[rows]
    require_teachable(labels)
    classes, counts = np.unique(labels, return_counts=True)
    accuracy = {
        name: _accuracy(training[rows], labels, test, test_labels) for name, training, test in features
    }
    return ProbeScores(
        accuracy=accuracy,
        majority_share=float((test_labels == classes[counts.argmax()]).mean()),
        classes=len(classes),
        training_rows=len(rows),
        test_rows=len(test_labels),
    )


def require_teachable(labels: NDArray[Any]) -> None:
    """Raise `InputError` for labels that are all the same, or mostly seen once: nothing to learn from."""
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InputError(
            f"All {len(labels)} labels are {classes[0]!s}, expected at least two different ones.",
            remedy="Give labels that tell rows apart, or leave them out.",
        )
    if len(classes) > len(labels) / 2:
        raise InputError(
            f"{len(labels)} rows have {len(classes)} different labels, expected at most half as many.",
            remedy="Give coarser labels, or leave them out.",
        )


def _accuracy(
    training: NDArray[np.float32],
    labels: NDArray[Any],
    test: NDArray[np.float32],
    test_labels: NDArray[Any],
) -> float:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MOST_ITERATIONS, tol=1e-3))
    with warnings.catch_warnings():
        # Separable classes have no finite optimum but the penalty's; the answers settle long before it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(training, labels)
    return float((classifier.predict(test) == test_labels).mean())
