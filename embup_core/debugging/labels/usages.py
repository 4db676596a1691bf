"""Whether training and the other usages are of one kind, and what their common rows do to an accuracy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.debugging.analysis import Finding
from embup_core.debugging.features.duplicates import LEAK_COSINE
from embup_core.debugging.features.neighbours import nearest_rows, usable_rows
from embup_core.debugging.findings import MOST_LISTED
from embup_core.debugging.labels.classification import out_of_fold, predict_from
from embup_core.debugging.labels.coding import LabelCodes
from embup_core.debugging.statistics import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.debugging.analysis import Prediction
    from embup_core.debugging.findings import RowNames

    Vectors = NDArray[np.float32]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Mask = NDArray[np.bool_]

TRAIN: Final = "train"
FEWEST_ROWS: Final = 30
LEAST_ASSOCIATION: Final = 0.1
"""Cramer's V of usage and label: below, shares differ by less than matters."""
LEAST_SEPARATION: Final = 0.6
"""Area under the ROC curve of a classifier that tells two usages apart: 0.5 by chance."""
SIGNIFICANT: Final = 0.01

_NAMED = 5


@dataclass(frozen=True)
class Share:
    """Right predictions among some rows: their share with a 95 % interval; NaN where there are no rows."""

    rows: int
    accuracy: float
    low: float
    high: float

    @classmethod
    def of(cls, right: Mask) -> Share:
        """Of a bool for each row, shape (m,)."""
        if not len(right):
            return cls(0, float("nan"), float("nan"), float("nan"))
        low, high = wilson_interval([right.sum()], [len(right)])
        return cls(len(right), float(right.mean()), float(low[0]), float(high[0]))


@dataclass(frozen=True)
class Leak:
    """How a usage's rows near to training rows fare, and how all its others.

    Attributes
    ----------
    usage
        Such as ``test``.
    source
        Whose predictions are judged.
    inside
        Rows that are copies of a training row, or have a cosine of at least 0.95 with one.
    outside
        All others.
    """

    usage: str
    source: str
    inside: Share
    outside: Share

    def to_json(self) -> dict[str, Any]:
        """JSON values: no accuracy where there are no rows."""
        parts = {}
        for name, share in (("inside", self.inside), ("outside", self.outside)):
            parts[name] = asdict(share) if share.rows else {"rows": 0}
        return {"usage": self.usage, "source": self.source, **parts}


def training_cosines(vectors: Vectors, usages: Sequence[str | None], copies: Indices) -> Floats:
    """Cosine of each row of another usage with the nearest training row, 1 for its copies.

    Parameters
    ----------
    vectors
        float32, shape (n, d), rows of NaN or zeros where a row has none.
    usages
        Of rows.
    copies
        Number of each row's set of copies: int64, shape (n,).

    Returns
    -------
    float64, shape (n,); NaN for training rows, for rows without usage and where no vector is.
    """
    training = np.array([usage == TRAIN for usage in usages], dtype=bool)
    asked = np.array([usage is not None for usage in usages], dtype=bool) & ~training
    cosines = nearest_rows(vectors, 1, among=training).cosines[:, 0].astype(np.float64)
    cosines[np.isin(copies, copies[training])] = 1.0
    cosines[~asked] = np.nan
    return cosines


def leaks(
    vectors: Vectors,
    coded: LabelCodes,
    usages: Sequence[str | None],
    cosines: Floats,
    predictions: Sequence[Prediction],
    *,
    seed: int = 0,
) -> list[Leak]:
    """Accuracy inside and outside of the leak, of a classifier fitted on training rows and of predictions.

    Parameters
    ----------
    vectors
        Features of the classifier.
    coded, usages
        Labels and usages of rows.
    cosines
        From `training_cosines`.
    predictions
        Given ones, judged on the same rows.
    seed
        Of the classifier.
    """
    training = np.flatnonzero(np.array([usage == TRAIN for usage in usages]) & (coded.codes >= 0))
    judged: list[tuple[str, Mask, Mask]] = []  # source, known, right
    if len(training) >= FEWEST_ROWS and len(np.unique(coded.codes[training])) > 1:
        own = predict_from(vectors, coded, training, seed=seed)
        known = np.isfinite(own[:, 0])
        right = np.where(known[:, None], own, 0).argmax(axis=1) == coded.codes
        judged.append(("a classifier fitted on training rows", known & (coded.codes >= 0), right))
    for prediction in predictions:
        column = {label: i for i, label in enumerate(prediction.classes)}
        codes = np.array([column.get(label, -1) for label in coded.classes], dtype=np.int64)
        known = np.isfinite(prediction.probabilities).all(axis=1) & (coded.codes >= 0)
        best = np.where(known[:, None], prediction.probabilities, 0).argmax(axis=1)
        judged.append((prediction.source, known, best == codes[coded.codes]))
    found = []
    for usage in sorted({usage for usage in usages if usage not in (None, TRAIN)}, key=str):
        of_usage = np.array([one == usage for one in usages], dtype=bool)
        inside = cosines >= LEAK_COSINE
        for source, known, right in judged:
            rows = of_usage & known
            if rows.any():
                found.append(
                    Leak(str(usage), source, Share.of(right[rows & inside]), Share.of(right[rows & ~inside]))
                )
    return found


def usage_findings(
    vectors: Vectors | None,
    coded: LabelCodes,
    usages: Sequence[str | None],
    names: RowNames,
    sets: Indices,
    *,
    seed: int = 0,
) -> list[Finding]:
    """Usages whose labels or rows differ from those of training.

    Shares of labels are compared by the chi-squared test and Cramer's V. Rows are compared by a classifier
    two-sample test (Lopez-Paz & Oquab, 2017): how well a classifier that was fitted on other rows tells them
    apart.

    Parameters
    ----------
    vectors
        Features of rows: float32, shape (n, d); None where there are none.
    coded, usages, names
        Labels, usages and names of rows.
    sets
        Which rows are copies of each other: int64, shape (n,).
    seed
        Of folds.
    """
    training = np.array([usage == TRAIN for usage in usages], dtype=bool)
    findings = []
    for usage in sorted({usage for usage in usages if usage not in (None, TRAIN)}, key=str):
        other = np.array([one == usage for one in usages], dtype=bool)
        if min(training.sum(), other.sum()) < FEWEST_ROWS:
            continue
        findings += _label_shares(str(usage), coded, training, other)
        if vectors is not None:
            findings += _separable(str(usage), vectors, training, other, names, sets, seed)
    return findings


def _label_shares(usage: str, coded: LabelCodes, training: Mask, other: Mask) -> list[Finding]:
    from scipy.stats import chi2_contingency

    counts = np.stack(
        [
            np.bincount(coded.codes[rows & (coded.codes >= 0)], minlength=len(coded.classes))
            for rows in (training, other)
        ]
    )  # (2, k)
    held = counts[:, counts.sum(axis=0) > 0]
    if held.shape[1] < 2 or not held.sum(axis=1).all():
        return []
    tested = chi2_contingency(held)
    association = float(np.sqrt(tested.statistic / held.sum()))  # Cramer's V of two rows
    if tested.pvalue > SIGNIFICANT or association < LEAST_ASSOCIATION:
        return []
    shares = counts / counts.sum(axis=1, keepdims=True)
    largest = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:_NAMED].tolist()
    rows = np.flatnonzero(other & (coded.codes == largest[0]))
    return [
        Finding(
            kind="usage_labels_differ",
            severity="warning",
            rows=rows[:MOST_LISTED],
            title=f"Labels of {usage} rows are spread otherwise than in training: "
            f'"{coded.classes[largest[0]]}" '
            f"{shares[1, largest[0]]:.1%} against {shares[0, largest[0]]:.1%}.",
            evidence={
                "usage": usage,
                "p": float(tested.pvalue),
                "cramers_v": association,
                "shares": {
                    coded.classes[code]: {TRAIN: float(shares[0, code]), usage: float(shares[1, code])}
                    for code in largest
                },
            },
            suggestion="Divide rows anew, each label in equal shares, or weigh the labels in the evaluation.",
            score=association,
        )
    ]


def _separable(
    usage: str, vectors: Vectors, training: Mask, other: Mask, names: RowNames, sets: Indices, seed: int
) -> list[Finding]:
    from scipy.stats import mannwhitneyu

    usable = usable_rows(vectors)
    rows = np.flatnonzero((training | other) & usable)
    asked = np.full(len(vectors), np.nan, np.float32)
    codes = np.where(other[rows], 1, 0)
    if min(codes.sum(), (1 - codes).sum()) < FEWEST_ROWS:
        return []
    coded = LabelCodes((TRAIN, usage), codes, {}, np.ones(len(rows), bool))
    probability = out_of_fold(vectors[rows], coded, sets[rows], seed=seed)[:, 1]
    asked[rows] = probability
    tested = mannwhitneyu(probability[codes == 1], probability[codes == 0], alternative="greater")
    area = float(tested.statistic / (codes.sum() * (1 - codes).sum()))
    if area < LEAST_SEPARATION or tested.pvalue > SIGNIFICANT:
        return []
    typical = np.flatnonzero(other & usable)
    typical = typical[np.argsort(-asked[typical], kind="stable")]
    return [
        Finding(
            kind="usage_rows_differ",
            severity="warning",
            rows=typical[:MOST_LISTED],
            title=f"Rows of {usage} are unlike training rows: a classifier tells them apart "
            f"(area under the ROC curve {area:.2f}, 0.5 by chance).",
            evidence={
                "usage": usage,
                "area": area,
                "p": float(tested.pvalue),
                "rows": [names.describe(row) for row in typical[:_NAMED].tolist()],
            },
            suggestion="Look at the first rows: add rows like them to training, or evaluate on others.",
            score=area,
        )
    ]
