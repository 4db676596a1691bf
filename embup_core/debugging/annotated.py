"""The analysis of annotated rows: labels, texts, usages, and vectors where there are any."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.debugging.analysis import Analysis
from embup_core.debugging.features.duplicates import duplicate_sets
from embup_core.debugging.features.text_features import text_features
from embup_core.debugging.findings import (
    RowNames,
    duplicate_findings,
    isolated_rows,
    ranked,
    slice_findings,
)
from embup_core.debugging.labels.findings import empty_texts
from embup_core.debugging.labels.judgement import judge_labels
from embup_core.debugging.labels.review_effect import review_effect
from embup_core.debugging.left_out import blank_predictions, blank_rows, blank_values
from embup_core.debugging.placement import place_rows
from embup_core.debugging.slices import Partition, cluster_rows, compare_slices
from embup_core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embup_core.debugging.analysis import AnnotatedRows, Neighbours, Prediction
    from embup_core.debugging.features.duplicates import DuplicateSets
    from embup_core.debugging.labels.judgement import Part
    from embup_core.debugging.labels.review_effect import ReviewEffect
    from embup_core.progress import Progress

    Vectors = NDArray[np.float32]

TEXT: Final = "text"
"""Kind of the features that are made of texts."""
SHORT_KINDS: Final = frozenset({"projected"})
"""Kinds of features in which different rows can be near copies."""


def analyse_annotated(
    rows: AnnotatedRows,
    *,
    predictions: Sequence[Prediction] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Analysis:
    """Look for wrong labels, copies, leaks, weak slices and rows to label next.

    What cannot be looked at (no labels, one class, no vectors and no texts) is a finding that says so.

    Parameters
    ----------
    rows
        At least one.
    predictions
        Of classifiers that are not this one's, over the same rows.
    seed
        Of everything random: the same arguments give the same analysis.
    progress
        Called with a label, units done and units in all.

    Raises
    ------
    InvalidArgumentError
        No rows, or arrays of another number of rows.
    MissingExtraError
        scikit-learn or SciPy is not installed.
    """
    n_rows = _require_one_length(rows, predictions)
    whole = rows
    left_out = np.zeros(n_rows, dtype=bool) if rows.left_out is None else rows.left_out
    if left_out.any():
        rows, predictions = blank_rows(rows, left_out), blank_predictions(predictions, left_out)
    features = {kind: np.asarray(vectors, dtype=np.float32) for kind, vectors in rows.features.items()}
    if rows.texts is not None:
        if progress:
            progress("reading texts", 0, None)
        features[TEXT] = text_features(rows.texts, seed=seed)
    if progress:
        progress("searching copies", 0, None)
    full = _full_vectors(features)
    sets = duplicate_sets(
        n_rows, texts=rows.texts, text_vectors=features.get(TEXT) if full is None else None, vectors=full
    )
    labels = [label or None for label in rows.labels]
    names = RowNames(labels, rows.texts, rows.usages)
    part = judge_labels(
        names, labels, features, sets.copies, predictions,
        given_scores=rows.given_scores, left_out=left_out, seed=seed, progress=progress,
    )  # fmt: skip
    part.findings += duplicate_findings(sets, names)
    if rows.texts is not None:
        part.findings += empty_texts(rows.texts, left_out)
    summary: dict[str, Any] = {"kind": "annotated", "rows": n_rows, "features": _rows_with(features)}
    if left_out.any():
        summary["left_out"] = int(left_out.sum())
    if effect := _effect_of_review(whole, part.kind, left_out, sets, seed):
        summary["review_effect"] = asdict(effect)
    return finish(part, names, features, summary, seed=seed, progress=progress)


def finish(
    part: Part,
    names: RowNames,
    features: Mapping[str, Vectors],
    summary: dict[str, Any],
    *,
    kind: str | None = None,
    partitions: Sequence[Partition] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Analysis:
    """Add slices, isolated rows and the map, and rank the findings.

    Parameters
    ----------
    part
        What was found so far.
    names
        Of rows.
    features
        Vectors by kind.
    summary
        Figures of the whole; those of `part` are added.
    kind
        Features that clusters, isolation and the map use; those that `part` chose by default.
    partitions
        Known divisions beside label, usage and group.
    seed, progress
        As for `analyse_annotated`.
    """
    kind = kind or part.kind
    vectors = None if kind is None else features[kind]
    divisions = [
        Partition.from_values(name, values)
        for name, values in (("label", names.labels), ("usage", names.usages), ("group", names.groups))
        if values is not None
    ]
    divisions += partitions
    positions = None
    if vectors is not None and kind is not None:
        if progress:
            progress("comparing slices", 0, None)
        divisions.append(cluster_rows(vectors, seed=seed))
        isolation = _isolation(part.neighbours[kind])
        part.scores["isolation"] = isolation
        part.findings += isolated_rows(isolation, names)
        if progress:
            progress("placing rows on the map", 0, None)
        places = place_rows(vectors, seed=seed)
        if places is not None:
            positions = places.positions
            summary["map"] = {"features": kind, "note": places.note}
    slices = compare_slices(part.errors, divisions)
    findings, left_out = ranked([*part.findings, *slice_findings(slices, names, part.errors)])
    summary |= part.summary
    summary["slices"] = {"tested": len(slices), "worse": sum(one.worse for one in slices)}
    summary["findings_left_out"] = left_out
    return Analysis(
        scores=part.scores,
        findings=findings,
        slices=slices,
        predictions=tuple(part.predictions),
        positions=positions,
        summary=summary,
        neighbours=part.neighbours,
    )


def _effect_of_review(
    rows: AnnotatedRows, kind: str | None, left_out: NDArray[np.bool_], sets: DuplicateSets, seed: int
) -> ReviewEffect | None:
    """What a review did to a classifier of these features, with rows that it left out still in them."""
    if rows.first_labels is None or kind is None:
        return None
    vectors = text_features(rows.texts, seed=seed) if kind == TEXT and rows.texts else rows.features.get(kind)
    if vectors is None:
        return None
    if left_out.any():  # among the sets these are nobody's copies
        sets = duplicate_sets(len(rows.labels), texts=rows.texts, vectors=_full_vectors(rows.features))
    reviewed = blank_values([label or None for label in rows.labels], left_out, None)
    return review_effect(
        np.asarray(vectors, np.float32), rows.first_labels, reviewed, sets.copies,
        usages=rows.usages, seed=seed,
    )  # fmt: skip


def _full_vectors(features: Mapping[str, Vectors]) -> Vectors | None:
    """Vectors that tell rows apart: the first that are neither short nor made of texts."""
    kinds = [kind for kind in features if kind not in SHORT_KINDS | {TEXT}]
    return np.asarray(features[kinds[0]], np.float32) if kinds else None


def _isolation(neighbours: Neighbours) -> NDArray[np.float64]:
    """1 minus the mean cosine with the nearest rows; NaN for rows without any."""
    cosines = neighbours.cosines.astype(np.float64)
    count = np.isfinite(cosines).sum(axis=1)
    total = np.nansum(cosines, axis=1)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return np.asarray(1 - mean)


def _rows_with(features: Mapping[str, Vectors]) -> dict[str, dict[str, int]]:
    return {
        kind: {"rows": int(np.isfinite(vectors).all(axis=1).sum()), "dims": vectors.shape[1]}
        for kind, vectors in features.items()
    }


def _require_one_length(rows: AnnotatedRows, predictions: Sequence[Prediction]) -> int:
    n_rows = len(rows.labels)
    lengths = {
        "texts": rows.texts,
        "usages": rows.usages,
        "given_scores": rows.given_scores,
        "left_out": rows.left_out,
        "first_labels": rows.first_labels,
        **{f"features {kind}": vectors for kind, vectors in rows.features.items()},
        **{f"predictions of {one.source}": one.probabilities for one in predictions},
    }
    if not n_rows:
        raise InvalidArgumentError("Expected at least one row, found none.", remedy="Give rows to analyse.")
    for name, values in lengths.items():
        if values is not None and len(values) != n_rows:
            raise InvalidArgumentError(
                f"Expected {n_rows} {name}, one for each label, found {len(values)}.",
                remedy="Give one value for each row, in the order of the rows.",
            )
    return n_rows
