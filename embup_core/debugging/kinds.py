"""What scores and findings there are, and what each of them means in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SCORE_KINDS: Final[Mapping[str, str]] = {
    "label_error": "How much the out-of-fold classifier doubts the label, from 0 to 1.",
    "label_probability": "Probability of the given label by a classifier that has not seen it.",
    "entropy": "Entropy of the predicted labels, in nats: 0 is certain.",
    "margin": "Probability of the best label minus that of the second: near 0 the row is between two.",
    "given_score": "The active-learning score that came with the row: higher is less certain.",
    "training_cosine": "Cosine with the nearest training row, for rows of other usages.",
    "isolation": "1 minus the mean cosine with the 10 nearest rows: large for a row unlike all others.",
    "map_angle": "Angle between a row of z and what the recovered map makes of its originals, in radians.",
    "pair_error": "Root mean square error of the row's decoded cosines with other rows that no fit has seen.",
    "expected_error": "The pair error that the decoder itself predicted.",
    "error_ratio": "Pair error over expected error: above 1 the decoder was too sure of the row.",
    "confidence": "The decoder's confidence in the row, from 0 to 1.",
    "lost_neighbours": "How many of the 10 true nearest rows are not among the 10 nearest decoded rows.",
}
"""Score kinds of rows, in the order in which pages show them."""

LESS_IS_WORSE: Final = frozenset({"label_probability", "margin", "confidence"})
"""Score kinds whose small values need attention; of all others the large ones do."""

FINDING_KINDS: Final[Mapping[str, str]] = {
    "unrelated_files": "The rows of z and of the matrix do not belong together at all.",
    "reordered_rows": "The rows of z are in another order than those of the matrix.",
    "wrong_row": "A row of z does not belong to its row of the matrix.",
    "contradicting_labels": "The same text, or the same vector, has two labels.",
    "duplicate_across_usages": "A row stands in two usages, so its evaluation is no test.",
    "label_error": "A label is probably wrong: a classifier that has not seen it is sure of another one.",
    "confident_disagreement": "The given predictions are sure of another label than the row has.",
    "weak_slice": "Rows with something in common have significantly larger errors than the rest.",
    "underestimated_errors": "Rows were decoded much worse than the decoder itself expected.",
    "lost_neighbours": "Rows have none or few of their true neighbours left after decoding.",
    "overlapping_classes": "The nearest rows of one class often belong to another one.",
    "ambiguous_rows": "Rows lie between two classes, which are about equally probable.",
    "usage_labels_differ": "The share of labels differs between training and another usage.",
    "usage_rows_differ": "A classifier can tell rows of another usage from training rows.",
    "duplicates": "Rows are copies of each other within one usage.",
    "isolated_rows": "Rows are unlike all other rows.",
    "small_class": "A class has too few rows to learn from.",
    "miscalibrated": "A classifier is right less or more often than it says.",
    "empty_text": "Rows have no text.",
    "label_next": "Rows without a label that would teach the classifier most.",
    "not_analysed": "Something could not be analysed, and why.",
}
"""Finding kinds, in the order in which they are listed within a severity."""

SEVERITIES: Final[Mapping[str, str]] = {
    "error": "Wrong for certain.",
    "warning": "Probably wrong.",
    "note": "Worth knowing.",
}
"""Severities, the worst first."""
