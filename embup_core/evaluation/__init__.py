"""How well decoded cosines match the originals', measured on pairs of rows, never on the diagonal.

Kinds of pairs are told apart: *test x test*, both rows unseen, and *test x train*, one row unseen: the
search of a new vector among known ones. ``cosines`` says where true and predicted cosines come from,
``scores`` walks over them a block of rows at a time; what is computed from the pairs stands in ``pairs``,
``ranking``, ``bootstrap`` and ``calibration``. ``held_out`` does it for rows of the sample, ``user_data`` for
user data in files (``user_files``), and ``probe`` measures a classifier on decoded rows. ``learning``
measures what more rows would bring.
"""

from embup_core.evaluation.bootstrap import Interval, Intervals, row_intervals
from embup_core.evaluation.calibration import (
    CalibrationDecile,
    ConfidenceDecile,
    calibration_by_decile,
    confidence_by_decile,
)
from embup_core.evaluation.cosines import Comparison, Cosines, DotProducts, MatrixCosines, OneCosine
from embup_core.evaluation.held_out import (
    DecodedRows,
    baselines,
    confidence_calibration,
    evaluate_decoder,
    pair_scores,
    predict_in_blocks,
    sample_test_pairs,
    score_rows,
    unit_norm_error,
)
from embup_core.evaluation.learning import LearningPoint, learning_curve
from embup_core.evaluation.pairs import BinError, PairScores
from embup_core.evaluation.probe import ProbeScores, probe_scores
from embup_core.evaluation.ranking import shared_nearest, trustworthiness
from embup_core.evaluation.scores import NEAREST, RECALLS, Scores, measure

__all__ = [
    "NEAREST",
    "RECALLS",
    "BinError",
    "CalibrationDecile",
    "Comparison",
    "ConfidenceDecile",
    "Cosines",
    "DecodedRows",
    "DotProducts",
    "Interval",
    "Intervals",
    "LearningPoint",
    "MatrixCosines",
    "OneCosine",
    "PairScores",
    "ProbeScores",
    "Scores",
    "baselines",
    "calibration_by_decile",
    "confidence_by_decile",
    "confidence_calibration",
    "evaluate_decoder",
    "learning_curve",
    "measure",
    "pair_scores",
    "predict_in_blocks",
    "probe_scores",
    "row_intervals",
    "sample_test_pairs",
    "score_rows",
    "shared_nearest",
    "trustworthiness",
    "unit_norm_error",
]
