"""What is analysed and what comes out of it, without a word about files or databases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

Severity: TypeAlias = Literal["error", "warning", "note"]
"""What is wrong for certain, what probably is, and what is worth knowing."""


@dataclass(frozen=True)
class AnnotatedRows:
    """Rows that people gave labels.

    Attributes
    ----------
    labels
        A label a row, None where there is none.
    texts
        A text a row, None where there are none.
    usages
        ``train``, ``validation``, ``test`` or None a row, None where there are none.
    given_scores
        Active-learning score of each row, higher is less certain: float64, shape (n,), NaN where there is
        none; None where no row has one.
    features
        Vectors of the rows by what they are, such as ``embedding`` or ``projected``: float32, shape (n, d)
        each, rows of NaN where a row has none.
    left_out
        Rows that take no part, such as dropped ones: bool, shape (n,). They keep their numbers, and nothing
        is found about them. None leaves out none.
    first_labels
        Labels as they were before a review changed `labels` and `left_out`; None where none did.
    """

    labels: Sequence[str | None]
    texts: Sequence[str] | None = None
    usages: Sequence[str | None] | None = None
    given_scores: NDArray[np.float64] | None = None
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    left_out: NDArray[np.bool_] | None = None
    first_labels: Sequence[str | None] | None = None


@dataclass(frozen=True)
class Finding:
    """Something to look at, with what to do about it.

    Attributes
    ----------
    kind
        Such as ``label_error``, ``contradicting_labels``, ``duplicate_across_usages``, ``wrong_row``.
    severity
        How sure and how bad it is.
    rows
        The rows it is about, worst first, 0-based: int64, shape (m,).
    title
        One sentence: what was found.
    evidence
        Numbers and names that show it, JSON values by name.
    suggestion
        One sentence: what to do.
    score
        Ranks findings of a kind, higher is worse.
    """

    kind: str
    severity: Severity
    rows: NDArray[np.int64]
    title: str
    evidence: Mapping[str, Any]
    suggestion: str
    score: float


@dataclass(frozen=True)
class Slice:
    """Rows with something in common, and how their errors compare with those of all other rows.

    Attributes
    ----------
    partition
        What the rows were divided by: ``cluster``, ``group``, ``label`` or ``usage``.
    name
        The part.
    rows
        Its rows, 0-based: int64, shape (m,).
    metric
        Name of the error that was compared.
    value, low, high
        Its mean over the slice with a 95 % interval.
    rest
        Its mean over all other rows.
    p, q
        Probability of such a difference by chance, and the same corrected for how many slices were looked at
        (Benjamini & Hochberg, 1995).
    worse
        Whether the slice is significantly worse and by enough to matter.
    """

    partition: str
    name: str
    rows: NDArray[np.int64]
    metric: str
    value: float
    low: float
    high: float
    rest: float
    p: float
    q: float
    worse: bool


@dataclass(frozen=True)
class Prediction:
    """Labels that a classifier predicts for all rows.

    Attributes
    ----------
    source
        What predicted them, such as ``out of fold: embedding``.
    classes
        Label of each column.
    probabilities
        float32, shape (n, k); rows of NaN where there is no prediction.
    in_sample
        Rows that the classifier was fitted on, whose prediction is no evidence against their label: bool,
        shape (n,).
    """

    source: str
    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    in_sample: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Rows most like each row.

    Attributes
    ----------
    rows
        Nearest first, 0-based, never the row itself: int64, shape (n, k); -1 where there are fewer.
    cosines
        With each of them: float32, shape (n, k); NaN where there are fewer.
    """

    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]


@dataclass(frozen=True)
class Analysis:
    """What an analysis found.

    Attributes
    ----------
    scores
        A number a row by kind, such as ``label_error``, ``entropy``, ``pair_error``: float64, shape (n,)
        each, NaN where a row has none.
    findings
        Most severe first, by score within a kind.
    slices
        All slices that were looked at.
    predictions
        Of classifiers.
    positions
        A place on the map for each row: float32, shape (n, 2), NaN where a row has no vector; None where
        there is no map.
    summary
        Figures of the whole, JSON values by name: rows, accuracy, the features used and why, the estimated
        number of label errors, and so on.
    neighbours
        Nearest rows by what they are alike in, such as ``embedding``, ``text``, ``originals``, ``decoded``.
    """

    scores: Mapping[str, NDArray[np.float64]]
    findings: tuple[Finding, ...]
    slices: tuple[Slice, ...]
    predictions: tuple[Prediction, ...]
    positions: NDArray[np.float32] | None
    summary: Mapping[str, Any]
    neighbours: Mapping[str, Neighbours] = field(default_factory=dict)
