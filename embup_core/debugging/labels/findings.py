"""What probabilities, copies and neighbours say of labels, as findings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.debugging.analysis import Finding
from embup_core.debugging.features.duplicates import members
from embup_core.debugging.findings import MOST_FINDINGS, MOST_LISTED, count
from embup_core.debugging.labels.label_errors import AMBIGUOUS_MARGIN, SUSPECT_MARGIN, class_overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.debugging.analysis import Neighbours, Prediction
    from embup_core.debugging.findings import RowNames
    from embup_core.debugging.labels.calibration import Reliability
    from embup_core.debugging.labels.coding import LabelCodes
    from embup_core.debugging.labels.label_errors import LabelScores

    Indices = NDArray[np.int64]

FEW_ROWS: Final = 10
"""A class with fewer rows is small."""
MUCH_OVERLAP: Final = 0.15
"""Share of a class's nearest rows that belong to one other class."""
POOR_CALIBRATION: Final = 0.1

_NAMED = 5
_SHOWN_NEIGHBOURS = 3
_LISTED_CLASSES = 50
_LISTED_PAIRS = 100
_FEWEST_CONFUSED = 3


@dataclass(frozen=True, eq=False)
class Judged:
    """Labels, and what a classifier says that has not seen them.

    Attributes
    ----------
    names
        Of rows.
    coded
        Labels as columns.
    scores
        Of rows.
    neighbours
        Nearest rows by the classifier's features.
    """

    names: RowNames
    coded: LabelCodes
    scores: LabelScores
    neighbours: Neighbours


def contradictions(copies: Indices, labels: Sequence[str | None], names: RowNames) -> list[Finding]:
    """One for each text, or vector, that has several labels.

    Parameters
    ----------
    copies
        Number of each row's set of copies: int64, shape (n,).
    labels
        None or empty where there is none.
    names
        Of rows.
    """
    findings = []
    for rows in members(copies):
        labelled = np.array([row for row in rows.tolist() if labels[row]], dtype=np.int64)
        counts = Counter(str(labels[row]) for row in labelled.tolist())
        if len(counts) < 2:
            continue
        listed = ", ".join(f'"{label}"' for label, _ in counts.most_common(_NAMED))
        findings.append(
            Finding(
                kind="contradicting_labels",
                severity="error",
                rows=labelled,
                title=f"{count(len(labelled))} with the same content have the labels {listed}.",
                evidence={
                    "labels": dict(counts.most_common(_LISTED_CLASSES)),
                    "rows": [names.describe(row) for row in labelled[: 2 * _NAMED].tolist()],
                },
                suggestion="Decide on one label for all of them.",
                score=float(len(counts)),
            )
        )
    return findings


def label_errors(judged: Judged) -> list[Finding]:
    """One for each row whose label the classifier doubts, by at most the 2,000 largest scores."""
    scores, coded = judged.scores, judged.coded
    rows = np.flatnonzero(scores.lead > SUSPECT_MARGIN)
    rows = rows[np.argsort(-scores.label_error[rows], kind="stable")][:MOST_FINDINGS]
    findings = []
    for row in rows.tolist():
        label, predicted = coded.classes[coded.codes[row]], coded.classes[scores.predicted[row]]
        own = float(scores.label_probability[row])
        other = own + float(scores.lead[row])
        findings.append(
            Finding(
                kind="label_error",
                severity="warning",
                rows=np.array([row]),
                title=f'Row {row} has the label "{label}" ({own:.0%}), but "{predicted}" is more probable '
                f"({other:.0%}).",
                evidence={
                    **judged.names.describe(row),
                    "predicted": predicted,
                    "label_probability": own,
                    "predicted_probability": other,
                    "neighbours": _neighbours_of(judged, row),
                },
                suggestion=f'Read the row: confirm "{label}", take "{predicted}", or choose another label.',
                score=float(scores.label_error[row]),
            )
        )
    return findings


def disagreements(prediction: Prediction, names: RowNames) -> list[Finding]:
    """One for each row whose label given predictions are sure is another; rows of their fit are left out."""
    labels = names.labels or ()
    column = {label: i for i, label in enumerate(prediction.classes)}
    own = np.array([column.get(label, -1) if label else -1 for label in labels], dtype=np.int64)
    p = np.where(np.isfinite(prediction.probabilities), prediction.probabilities, 0.0)
    known = np.array([bool(label) for label in labels]) & (p.max(axis=1) > 0) & ~prediction.in_sample
    rows = np.flatnonzero(known)
    best = p[rows].argmax(axis=1)
    given = np.where(own[rows] >= 0, p[rows, own[rows]], 0.0)
    lead = p[rows, best] - given
    wrong = (best != own[rows]) & (lead > SUSPECT_MARGIN)
    order = np.flatnonzero(wrong)[np.argsort(-lead[wrong], kind="stable")][:MOST_FINDINGS]
    findings = []
    for place in order.tolist():
        row, predicted = int(rows[place]), prediction.classes[best[place]]
        findings.append(
            Finding(
                kind="confident_disagreement",
                severity="warning",
                rows=np.array([row]),
                title=f'Row {row} has the label "{labels[row]}", {prediction.source} says "{predicted}" '
                f"({float(p[row, best[place]]):.0%}).",
                evidence={
                    **names.describe(row),
                    "source": prediction.source,
                    "predicted": predicted,
                    "predicted_probability": float(p[row, best[place]]),
                    "label_probability": float(given[place]),
                },
                suggestion="Read the row: either the label is wrong, or the model is.",
                score=float(lead[place]),
            )
        )
    return findings


def ambiguous_rows(judged: Judged) -> list[Finding]:
    """One for each two classes with rows between them, those with most rows first."""
    scores, classes = judged.scores, judged.coded.classes
    rows = np.flatnonzero(scores.margin < AMBIGUOUS_MARGIN)
    low = np.minimum(scores.predicted[rows], scores.second[rows])
    pairs = low * len(classes) + np.maximum(scores.predicted[rows], scores.second[rows])
    found, counts = np.unique(pairs, return_counts=True)
    findings = []
    for pair in found[np.argsort(-counts, kind="stable")][:_LISTED_PAIRS].tolist():
        between = rows[pairs == pair]
        between = between[np.argsort(scores.margin[between], kind="stable")]
        first, second = (classes[code] for code in divmod(pair, len(classes)))
        findings.append(
            Finding(
                kind="ambiguous_rows",
                severity="note",
                rows=between,
                title=f'{count(len(between))} between "{first}" and "{second}", about equally probable.',
                evidence={
                    "classes": [first, second],
                    "rows": [judged.names.describe(row) for row in between[:_NAMED].tolist()],
                },
                suggestion="Write down what tells the two apart, and label these rows by it.",
                score=float(len(between)),
            )
        )
    return findings


def overlapping_classes(judged: Judged) -> list[Finding]:
    """One for each two classes whose rows are each other's nearest, or are confused."""
    codes, classes, scores = judged.coded.codes, judged.coded.classes, judged.scores
    shares = class_overlap(judged.neighbours, codes, len(classes))
    frequency = np.bincount(codes[codes >= 0], minlength=len(classes)) / max(1, (codes >= 0).sum())
    # More than by chance: in a frequent class many neighbours lie, whatever the row.
    beyond = (shares >= MUCH_OVERLAP) & (shares >= 2 * frequency[None, :])
    np.fill_diagonal(beyond, val=False)
    pairs = {tuple(sorted(pair)) for pair in np.argwhere(beyond).tolist()}
    strongest = sorted(pairs, key=lambda pair: -max(shares[pair], shares[pair[::-1]]))[:_LISTED_PAIRS]
    findings = []
    for i, j in strongest:
        there = np.flatnonzero((codes == i) & (scores.predicted == j))
        back = np.flatnonzero((codes == j) & (scores.predicted == i))
        if len(there) + len(back) < _FEWEST_CONFUSED:
            continue
        rows = np.concatenate([there, back])
        rows = rows[np.argsort(-scores.lead[rows], kind="stable")]
        findings.append(
            Finding(
                kind="overlapping_classes",
                severity="note",
                rows=rows,
                title=f'"{classes[i]}" and "{classes[j]}" overlap: {count(len(rows))} of one '
                "taken for the other.",
                evidence={
                    "classes": [classes[i], classes[j]],
                    "neighbour_shares": [float(shares[i, j]), float(shares[j, i])],
                    "confused": [len(there), len(back)],
                    "rows": [judged.names.describe(row) for row in rows[:_NAMED].tolist()],
                },
                suggestion="Sharpen the definitions of the two classes, or make them one.",
                score=float(max(shares[i, j], shares[j, i])),
            )
        )
    return findings


def small_classes(coded: LabelCodes, labels: Sequence[str | None]) -> list[Finding]:
    """One that lists all classes with fewer than 10 rows."""
    counts = Counter(label for label in labels if label)
    small = {label: number for label, number in counts.items() if number < FEW_ROWS}
    listed = dict(sorted(({**coded.left_out, **small}).items(), key=lambda one: one[1]))
    if not listed:
        return []
    rows = np.array([row for row, label in enumerate(labels) if label in listed], dtype=np.int64)
    left_out = len(coded.left_out)
    also = f" {count(left_out, 'label')} could not take part in the classifier." if left_out else ""
    return [
        Finding(
            kind="small_class",
            severity="note",
            rows=rows,
            title=f"{len(listed):,} of {len(counts):,} labels stand at fewer than {FEW_ROWS} rows.{also}",
            evidence={
                "labels": dict(list(listed.items())[:_LISTED_CLASSES]),
                "without_classifier": list(coded.left_out)[:_LISTED_CLASSES],
            },
            suggestion="Label more rows of these classes, join them with others, or correct misspelt labels.",
            score=float(len(listed)),
        )
    ]


def miscalibrated(source: str, measured: Reliability) -> list[Finding]:
    """One where confidence and accuracy differ by more than 0.1."""
    if measured.calibration_error <= POOR_CALIBRATION:
        return []
    more = "more" if measured.accuracy > measured.confidence else "less"
    return [
        Finding(
            kind="miscalibrated",
            severity="note",
            rows=np.empty(0, np.int64),
            title=f"Predictions of {source} are right {more} often than they say: {measured.accuracy:.0%} "
            f"at a mean confidence of {measured.confidence:.0%}.",
            evidence={
                "source": source,
                "accuracy": measured.accuracy,
                "confidence": measured.confidence,
                "calibration_error": measured.calibration_error,
            },
            suggestion="Rank rows by its confidence, but do not read it as a probability.",
            score=measured.calibration_error,
        )
    ]


def empty_texts(texts: Sequence[str], left_out: NDArray[np.bool_]) -> list[Finding]:
    """One for all rows without text that take part; `left_out`: bool, shape (n,)."""
    empty = np.array([not text.strip() for text in texts], dtype=bool)
    rows = np.flatnonzero(empty & ~left_out)
    if not len(rows):
        return []
    return [
        Finding(
            kind="empty_text",
            severity="warning",
            rows=rows,
            title=f"{count(len(rows))} without text.",
            evidence={"found": len(rows)},
            suggestion="Leave them out, or find what they should say.",
            score=float(len(rows)),
        )
    ]


def rows_to_label(
    chosen: Indices, margin: NDArray[np.float64], names: RowNames, unlabelled: int
) -> list[Finding]:
    """One with the rows to label next, in order.

    Parameters
    ----------
    chosen
        The rows: int64, shape (m,).
    margin
        Of all rows, NaN where not known.
    names
        Of rows.
    unlabelled
        How many rows have no label.
    """
    if not len(chosen):
        return []
    first = chosen[:_NAMED].tolist()
    return [
        Finding(
            kind="label_next",
            severity="note",
            rows=chosen[:MOST_LISTED],
            title=f"{count(len(chosen))} of {unlabelled:,} without a label would teach the classifier most.",
            evidence={
                "rows": [
                    names.describe(row) | ({"margin": float(margin[row])} if np.isfinite(margin[row]) else {})
                    for row in first
                ],
            },
            suggestion="Label them first, in this order.",
            score=float(len(chosen)),
        )
    ]


def _neighbours_of(judged: Judged, row: int) -> list[dict[str, Any]]:
    found = judged.neighbours
    shown = []
    for other, cosine in zip(
        found.rows[row, :_SHOWN_NEIGHBOURS].tolist(),
        found.cosines[row, :_SHOWN_NEIGHBOURS].tolist(),
        strict=True,
    ):
        if other >= 0:
            shown.append(judged.names.describe(other) | {"cosine": cosine})
    return shown
