"""The analysis of training data: rows that do not belong, rows decoded badly, copies, and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.debugging.analysis import Finding
from embup_core.debugging.annotated import TEXT, finish
from embup_core.debugging.decoded_rows import NEAREST, score_decoded_rows
from embup_core.debugging.features.duplicates import duplicate_sets
from embup_core.debugging.features.neighbours import nearest_rows
from embup_core.debugging.features.text_features import text_features
from embup_core.debugging.findings import (
    MOST_FINDINGS,
    MOST_LISTED,
    RowNames,
    count,
    duplicate_findings,
    not_analysed,
)
from embup_core.debugging.labels.judgement import Part, judge_labels
from embup_core.debugging.left_out import blank_predictions, blank_values, blank_vectors
from embup_core.debugging.statistics import far_above
from embup_core.errors import InvalidArgumentError
from embup_core.geometry.row_defects import find_row_defects

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embup_core.debugging.analysis import Analysis, Prediction
    from embup_core.debugging.decoded_rows import DecodedScores, FittedFold
    from embup_core.geometry.row_defects import RowDefects
    from embup_core.progress import Progress
    from embup_core.sources.cosine_matrix import CosineMatrix

    Vectors = NDArray[np.float32]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

ORIGINALS: Final = "originals"
PROJECTED: Final = "projected"
DECODED: Final = "decoded"
PAIR_ERROR: Final = "pair_error"
WRONG_ROWS: Final = "wrong_rows"
LEAST_RATIO: Final = 1.5
"""Rows are listed whose error exceeds the predicted one by more than this factor, and stands out."""
MANY_LOST: Final = 9
"""Of 10 true neighbours: rows that lose so many are listed."""

_NAMED = 5


def analyse_source(
    projected: Vectors,
    coordinates: Vectors,
    matrix: CosineMatrix,
    *,
    folds: Iterable[FittedFold] = (),
    defects: RowDefects | None = None,
    labels: Sequence[str | None] | None = None,
    groups: Sequence[str | None] | None = None,
    usages: Sequence[str | None] | None = None,
    texts: Sequence[str] | None = None,
    left_out: NDArray[np.bool_] | None = None,
    predictions: Sequence[Prediction] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Analysis:
    """Look for wrong rows, copies, rows and slices decoded badly, and wrong labels.

    Parameters
    ----------
    projected
        z: float32, shape (N, d), unit rows.
    coordinates
        The originals up to a rotation, recovered from the matrix: float32, shape (N, r), unit rows.
    matrix
        True cosines of all rows.
    folds
        Decoders with the rows that they have not seen, as `fit_folds` gives them; without any, decoding is
        not judged.
    defects
        What `find_row_defects` found; searched here by default.
    labels, groups, usages, texts
        A value a row, None for none; each may be missing.
    left_out
        Rows that take no part, such as dropped ones, except in what is found of the two files: bool, shape
        (N,); None for none.
    predictions
        Of labels, given ones.
    seed
        Of everything random: the same arguments give the same analysis.
    progress
        Called with a label, units done and units in all.

    Raises
    ------
    InvalidArgumentError
        Arrays of another number of rows.
    MissingExtraError
        scikit-learn or SciPy is not installed.
    """
    _require_one_length(
        len(projected), coordinates=coordinates, matrix=matrix.memory_map, labels=labels, groups=groups,
        usages=usages, texts=texts, left_out=left_out,
    )  # fmt: skip
    left_out = np.zeros(len(projected), dtype=bool) if left_out is None else left_out
    features = {ORIGINALS: coordinates, PROJECTED: projected}
    if left_out.any():
        features = {kind: blank_vectors(vectors, left_out) for kind, vectors in features.items()}
        labels, groups, usages = (
            None if values is None else blank_values(values, left_out, None)
            for values in (labels, groups, usages)
        )
        texts = None if texts is None else blank_values(texts, left_out, "")
        predictions = blank_predictions(predictions, left_out)
    names = RowNames(labels, texts, usages, groups)
    if defects is None:
        if progress:
            progress("comparing z with the matrix", 0, None)
        defects = find_row_defects(projected, coordinates)
    wrong = np.zeros(len(projected), dtype=bool)
    wrong[defects.wrong_rows] = True
    if progress:
        progress("searching copies", 0, None)
    sets = duplicate_sets(len(projected), texts=texts, vectors=features[ORIGINALS])
    if texts is not None:
        features[TEXT] = text_features(texts, seed=seed)
    part = _labels(names, features, sets.copies, predictions, left_out, seed, progress)
    part.findings += wrong_row_findings(defects, names) + duplicate_findings(sets, names)
    part.scores["map_angle"] = defects.transform.angles
    for kind in (ORIGINALS, PROJECTED):
        if kind not in part.neighbours:  # else labels were judged by it
            part.neighbours[kind] = nearest_rows(features[kind], NEAREST)
    scores = score_decoded_rows(
        folds, projected, matrix, left_out=wrong | left_out, seed=seed, progress=progress
    )
    _decoding(part, scores.without(left_out), wrong | left_out, names)
    if 0 < wrong.sum() < len(wrong) // 2:
        # Where they are concentrated, a slice says so.
        part.errors[WRONG_ROWS] = np.where(left_out, np.nan, wrong.astype(np.float64))
    summary: dict[str, Any] = {
        "kind": "source",
        "rows": len(projected),
        "dims": projected.shape[1],
        "rank": coordinates.shape[1],
        "rows_verdict": defects.verdict,
        "rows_sentence": defects.describe(),
        "wrong_rows": int(wrong.sum()),
    }
    return finish(part, names, features, summary, kind=ORIGINALS, seed=seed, progress=progress)


def wrong_row_findings(defects: RowDefects, names: RowNames) -> list[Finding]:
    """One for each row of z that does not belong to its row of the matrix, or one for the files as a whole.

    Parameters
    ----------
    defects
        What the comparison found.
    names
        Of rows.
    """
    rows = defects.wrong_rows
    repair = (
        "Write a source with each row in its place by `embup check SOURCE --repair OUT`, and train on that."
    )
    match defects.verdict:
        case "unrelated" | "reordered":
            return [
                Finding(
                    kind="unrelated_files" if defects.verdict == "unrelated" else "reordered_rows",
                    severity="error",
                    rows=rows[:MOST_LISTED],
                    title=defects.describe(),
                    evidence={"verdict": defects.verdict, "wrong_rows": len(rows)},
                    suggestion="Use two files of the same originals."
                    if defects.verdict == "unrelated"
                    else repair,
                    score=float(len(rows)),
                )
            ]
        case "not_affine" | "undecided":
            return [not_analysed(defects.describe(), "Use more rows, or a matrix of better precision.")]
    angles, tolerances = defects.transform.angles, defects.transform.tolerances
    destination = dict(zip(rows.tolist(), defects.belongs_to.tolist(), strict=True))
    worst = rows[np.argsort(-angles[rows], kind="stable")][:MOST_FINDINGS]
    findings = []
    for row in worst.tolist():
        place = destination[row]
        where = f"it belongs to row {place}" if place >= 0 else "it belongs to none"
        findings.append(
            Finding(
                kind="wrong_row",
                severity="error",
                rows=np.array([row, place] if place >= 0 else [row]),
                title=f"Row {row} of z does not belong to row {row} of the matrix: {where}.",
                evidence={
                    **names.describe(row),
                    "belongs_to": place if place >= 0 else None,
                    "angle": float(angles[row]),
                    "tolerance": float(tolerances[row]),
                    "wrong_rows": len(rows),
                },
                suggestion=repair if place >= 0 else "Train without the row, or project its original again.",
                score=float(angles[row]),
            )
        )
    return findings


def decoded_findings(scores: DecodedScores, names: RowNames) -> list[Finding]:
    """Rows decoded worse than predicted, and rows that lose their neighbours; the worst 200 of each.

    Parameters
    ----------
    scores
        Of decoded rows; NaN for those that are not judged.
    names
        Of rows.
    """
    findings = []
    ratio = error_ratio(scores)
    fence = max(LEAST_RATIO, far_above(ratio))
    for kind, values, limit, title, suggestion in (
        (
            "underestimated_errors",
            ratio,
            fence,
            "decoded worse than the decoder predicted, by a factor of {worst:.1f} and less.",
            "Look whether their originals are right; if they are, add rows like them.",
        ),
        (
            "lost_neighbours",
            scores.lost_neighbours,
            MANY_LOST - 0.5,
            f"keep at most {NEAREST - MANY_LOST} of their {NEAREST} true neighbours after decoding.",
            "Do not trust a search for them; add rows like them, or keep their originals.",
        ),
    ):
        rows = np.flatnonzero(values > limit)
        if not len(rows):
            continue
        rows = rows[np.lexsort((-np.nan_to_num(scores.pair_error[rows]), -values[rows]))]
        findings.append(
            Finding(
                kind=kind,
                severity="note",
                rows=rows[:MOST_LISTED],
                title=f"{count(len(rows))} {title.format(worst=float(values[rows[0]]))}",
                evidence={
                    "found": len(rows),
                    "limit": limit,
                    "median": float(np.nanmedian(values)),
                    "rows": [
                        names.describe(row)
                        | {"value": float(values[row]), "pair_error": float(scores.pair_error[row])}
                        for row in rows[:_NAMED].tolist()
                    ],
                },
                suggestion=suggestion,
                score=float(len(rows)),
            )
        )
    return findings


def error_ratio(scores: DecodedScores) -> Floats:
    """Pair error over predicted error: float64, shape (n,), NaN where either is missing."""
    expected = scores.expected_error
    ratio = np.full(len(expected), np.nan)
    return np.asarray(np.divide(scores.pair_error, expected, out=ratio, where=expected > 0))


def _labels(
    names: RowNames,
    features: dict[str, Vectors],
    copies: Indices,
    predictions: Sequence[Prediction],
    left_out: NDArray[np.bool_],
    seed: int,
    progress: Progress | None,
) -> Part:
    if names.labels is None or not any(names.labels):
        return Part()
    return judge_labels(
        names, names.labels, features, copies, predictions, left_out=left_out, seed=seed, progress=progress
    )


def _decoding(part: Part, scores: DecodedScores, wrong: NDArray[np.bool_], names: RowNames) -> None:
    judged = np.isfinite(scores.pair_error)
    if not judged.any():
        part.findings.append(
            not_analysed("Decoding was not judged: no decoder was given.", "Train one first.")
        )
        return
    part.scores |= {
        PAIR_ERROR: scores.pair_error,
        "expected_error": scores.expected_error,
        "error_ratio": error_ratio(scores),
        "confidence": scores.confidence,
        "lost_neighbours": scores.lost_neighbours,
    }
    part.neighbours[DECODED] = scores.decoded
    # What is wrong with wrong rows is known; among the others they would only hide the rest.
    part.errors[PAIR_ERROR] = np.where(wrong, np.nan, scores.pair_error)
    part.findings += decoded_findings(scores.without(wrong), names)
    held = judged & ~wrong
    part.summary["decoding"] = {
        "rows": int(judged.sum()),
        "pair_error": float(np.sqrt(np.mean(np.square(scores.pair_error[held])))) if held.any() else None,
        "lost_neighbours": float(np.nanmean(scores.lost_neighbours[held])) if held.any() else None,
        "median_error_ratio": float(np.nanmedian(error_ratio(scores)[held]))
        if np.isfinite(scores.expected_error[held]).any()
        else None,
    }


def _require_one_length(n_rows: int, **values: Any) -> None:
    for name, some in values.items():
        if some is not None and len(some) != n_rows:
            raise InvalidArgumentError(
                f"Expected {n_rows} {name}, one for each row of z, found {len(some)}.",
                remedy="Give one value for each row, in the order of the rows.",
            )
