"""Rows that take no part in an analysis: nothing is known of them, so nothing compares them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.debugging.analysis import AnnotatedRows, Prediction

    Mask = NDArray[np.bool_]

T = TypeVar("T")


def blank_values(values: Sequence[T], left_out: Mask, empty: T) -> list[T]:
    """The values, `empty` for rows that are left out: bool, shape (n,)."""
    kept = list(values)
    for row in np.flatnonzero(left_out).tolist():
        kept[row] = empty
    return kept


def blank_vectors(vectors: NDArray[np.float32], left_out: Mask) -> NDArray[np.float32]:
    """A copy of the vectors, NaN for rows that are left out: float32, shape (n, d)."""
    kept = np.array(vectors, dtype=np.float32)
    kept[left_out] = np.nan
    return kept


def blank_predictions(predictions: Sequence[Prediction], left_out: Mask) -> list[Prediction]:
    """The predictions, without those of rows that are left out."""
    return [replace(one, probabilities=blank_vectors(one.probabilities, left_out)) for one in predictions]


def blank_rows(rows: AnnotatedRows, left_out: Mask) -> AnnotatedRows:
    """The rows, of which those that are left out have no label, text, usage, score or vector."""
    scores = rows.given_scores
    return replace(
        rows,
        labels=blank_values(rows.labels, left_out, None),
        texts=None if rows.texts is None else blank_values(rows.texts, left_out, ""),
        usages=None if rows.usages is None else blank_values(rows.usages, left_out, None),
        given_scores=None if scores is None else np.where(left_out, np.nan, scores),
        features={kind: blank_vectors(vectors, left_out) for kind, vectors in rows.features.items()},
    )
