"""What labels, features and predictions say together: the part of an analysis that needs labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.debugging.analysis import Prediction
from embup_core.debugging.features.neighbours import nearest_rows, usable_rows
from embup_core.debugging.findings import not_analysed
from embup_core.debugging.labels.calibration import reliability
from embup_core.debugging.labels.classification import classify
from embup_core.debugging.labels.coding import LabelCodes, code_labels
from embup_core.debugging.labels.findings import (
    Judged,
    ambiguous_rows,
    contradictions,
    disagreements,
    label_errors,
    miscalibrated,
    overlapping_classes,
    rows_to_label,
    small_classes,
)
from embup_core.debugging.labels.label_errors import (
    confident_joint,
    estimated_errors,
    heed_copies,
    score_labels,
)
from embup_core.debugging.labels.suggestions import suggest_rows
from embup_core.debugging.labels.usages import leaks, training_cosines, usage_findings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embup_core.debugging.analysis import Finding, Neighbours
    from embup_core.debugging.findings import RowNames
    from embup_core.debugging.labels.classification import Classification
    from embup_core.progress import Progress

    Vectors = NDArray[np.float32]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

NEAREST: Final = 10
SUGGESTED: Final = 50
OUT_OF_FOLD: Final = "out of fold"
"""How the source of own predictions begins; the kind of features follows."""


@dataclass
class Part:
    """Results of a part of an analysis, as far as they are made."""

    scores: dict[str, Floats] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    errors: dict[str, Floats] = field(default_factory=dict)
    """By which slices are compared."""
    summary: dict[str, Any] = field(default_factory=dict)
    neighbours: dict[str, Neighbours] = field(default_factory=dict)
    kind: str | None = None
    """Features that were chosen."""


def judge_labels(
    names: RowNames,
    labels: Sequence[str | None],
    features: Mapping[str, Vectors],
    copies: Indices,
    predictions: Sequence[Prediction],
    *,
    given_scores: Floats | None = None,
    left_out: NDArray[np.bool_] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Part:
    """Judge labels by the best features and by given predictions.

    Parameters
    ----------
    names
        Of rows, with their usages.
    labels
        None or empty where there is none.
    features
        Vectors by kind, the preferred first: float32, shape (n, d) each.
    copies
        Number of each row's set of copies: int64, shape (n,).
    predictions
        Given ones.
    given_scores
        Active-learning scores that came with the rows: float64, shape (n,).
    left_out
        Rows that take no part, without labels and vectors: bool, shape (n,); None for none.
    seed
        Of everything random.
    progress
        Called with a label, units done and units in all.
    """
    part = Part()
    coded = code_labels(labels, copies)
    part.findings += contradictions(copies, labels, names) + small_classes(coded, labels)
    unlabelled = ~coded.labelled if left_out is None else ~coded.labelled & ~left_out
    part.summary["labels"] = {
        "labelled": int(coded.labelled.sum()),
        "unlabelled": int(unlabelled.sum()),
        "classes": len(coded.classes) + len(coded.left_out),
        "left_out_of_classifier": len(coded.left_out),
    }
    why_not = coded.why_not()
    found = None if why_not else classify(features, coded, copies, seed=seed, progress=progress)
    if why_not is None and found is None:
        why_not = "No two labelled rows have a vector or a text."
    part.kind = found.kind if found else _fullest(features)
    vectors = None if part.kind is None else features[part.kind]
    if vectors is not None and part.kind is not None:
        if progress:
            progress("searching nearest rows", 0, None)
        part.neighbours[part.kind] = nearest_rows(vectors, NEAREST)
    if found is None:
        part.findings.append(
            not_analysed(f"Labels were not judged: {why_not}", "Label rows of two classes or more.")
        )
        part.summary["classifier"] = {"why_not": why_not}
    else:
        _own_judgement(part, names, coded, found, copies)
    for prediction in predictions:
        _given_judgement(part, prediction, names)
    usages = names.usages
    if usages is not None:
        _compare_usages(part, names, usages, coded, vectors, copies, predictions, seed)
    if given_scores is not None:
        part.scores["given_score"] = given_scores
        part.summary["given_score"] = _compare_scores(given_scores, part)
    _suggest(part, names, coded, unlabelled, vectors, copies, seed, progress)
    return part


def _own_judgement(
    part: Part, names: RowNames, coded: LabelCodes, found: Classification, copies: Indices
) -> None:
    scores = score_labels(found.probabilities, coded.codes)
    doubts = score_labels(heed_copies(found.probabilities, coded.codes, copies), coded.codes)
    part.scores |= {
        "label_error": doubts.label_error,
        "label_probability": doubts.label_probability,
        "entropy": scores.entropy,
        "margin": scores.margin,
    }
    source = f"{OUT_OF_FOLD}: {found.kind}"
    none = np.zeros(len(coded.codes), dtype=bool)
    part.predictions.append(Prediction(source, found.classes, found.probabilities, none))
    judged = Judged(names, coded, scores, part.neighbours[found.kind])
    part.findings += label_errors(Judged(names, coded, doubts, judged.neighbours))
    part.findings += ambiguous_rows(judged) + overlapping_classes(judged)
    measured = reliability(found.probabilities, coded.codes)
    if measured is not None:
        part.findings += miscalibrated(source, measured)
    right = (scores.predicted == coded.codes).astype(np.float64)
    part.errors["wrong_predictions"] = np.where(
        (coded.codes >= 0) & (scores.predicted >= 0), 1 - right, np.nan
    )
    part.summary["classifier"] = {
        "features": found.kind,
        "why": "least log loss on labels that it has not seen",
        "log_loss": dict(found.losses),
        "accuracy": dict(found.accuracies),
        "estimated_label_errors": round(estimated_errors(confident_joint(found.probabilities, coded.codes))),
        "reliability": None if measured is None else asdict(measured),
    }


def _given_judgement(part: Part, prediction: Prediction, names: RowNames) -> None:
    """Compare given predictions with the labels: rows they were fitted on count for nothing."""
    part.predictions.append(prediction)
    labels = names.labels
    if labels is None:
        return
    part.findings += disagreements(prediction, names)
    column = {label: i for i, label in enumerate(prediction.classes)}
    codes = np.array([column.get(label, -1) if label else -1 for label in labels], dtype=np.int64)
    labelled = np.array([bool(label) for label in labels], dtype=bool)
    known = np.isfinite(prediction.probabilities).all(axis=1) & labelled & ~prediction.in_sample
    measured = reliability(np.where(known[:, None], prediction.probabilities, np.nan), codes)
    best = np.where(known[:, None], prediction.probabilities, 0).argmax(axis=1)
    part.errors[f"wrong_predictions of {prediction.source}"] = np.where(known, best != codes, np.nan)
    if measured is not None:
        part.findings += miscalibrated(prediction.source, measured)
    part.summary.setdefault("predictions", {})[prediction.source] = {
        "rows": int(np.isfinite(prediction.probabilities).all(axis=1).sum()),
        "in_sample": int(prediction.in_sample.sum()),
        "accuracy": float((best == codes)[known].mean()) if known.any() else None,
        "reliability": None if measured is None else asdict(measured),
    }


def _compare_usages(
    part: Part,
    names: RowNames,
    usages: Sequence[str | None],
    coded: LabelCodes,
    vectors: Vectors | None,
    copies: Indices,
    predictions: Sequence[Prediction],
    seed: int,
) -> None:
    part.findings += usage_findings(vectors, coded, usages, names, copies, seed=seed)
    if vectors is None:
        return
    cosines = training_cosines(vectors, usages, copies)
    part.scores["training_cosine"] = cosines
    part.summary["leaks"] = [
        one.to_json() for one in leaks(vectors, coded, usages, cosines, predictions, seed=seed)
    ]


def _suggest(
    part: Part,
    names: RowNames,
    coded: LabelCodes,
    unlabelled: NDArray[np.bool_],
    vectors: Vectors | None,
    copies: Indices,
    seed: int,
    progress: Progress | None,
) -> None:
    if vectors is None or not unlabelled.any():
        return
    if progress:
        progress("choosing rows to label next", 0, None)
    margin = part.scores.get("margin", np.full(len(unlabelled), np.nan))
    # A copy of a labelled row teaches nothing.
    open_rows = unlabelled & ~np.isin(copies, copies[coded.labelled])
    chosen = suggest_rows(margin, vectors, open_rows, count=SUGGESTED, sets=copies, seed=seed)
    part.findings += rows_to_label(chosen, margin, names, int(unlabelled.sum()))


def _compare_scores(given: Floats, part: Part) -> dict[str, Any]:
    """How the given active-learning score compares with the classifier's entropy."""
    from scipy.stats import mannwhitneyu, spearmanr

    entropy, wrong = part.scores.get("entropy"), part.errors.get("wrong_predictions")
    compared: dict[str, Any] = {"rows": int(np.isfinite(given).sum())}
    if entropy is None or wrong is None:
        return compared
    both = np.isfinite(given) & np.isfinite(entropy)
    if both.sum() > 2 and np.ptp(given[both]) > 0 and np.ptp(entropy[both]) > 0:
        compared["rank_correlation_with_entropy"] = float(spearmanr(given[both], entropy[both]).statistic)
    judged = both & np.isfinite(wrong)
    hit, miss = judged & (wrong == 1), judged & (wrong == 0)
    if hit.any() and miss.any():
        for name, values in (("given_score", given), ("entropy", entropy)):
            tested = mannwhitneyu(values[hit], values[miss])
            compared[f"area_of_{name}"] = float(tested.statistic / (hit.sum() * miss.sum()))
    return compared


def _fullest(features: Mapping[str, Vectors]) -> str | None:
    """The kind with most rows, the first of equals; None where no row has a vector."""
    rows = {kind: int(usable_rows(vectors).sum()) for kind, vectors in features.items()}
    best = max(rows, key=lambda kind: rows[kind], default=None)
    return best if best is not None and rows[best] else None
