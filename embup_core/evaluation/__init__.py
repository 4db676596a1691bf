"""How well decoded cosines match the originals', measured on pairs of rows, never on the diagonal.

Kinds of pairs are told apart: *test x test*, both rows unseen, and *test x train*, one row unseen: the
search of a new vector among known ones. ``cosines`` says where true and predicted cosines come from,
``scores`` walks over them a block of rows at a time; what is computed from the pairs stands in ``pairs``,
``ranking``, ``bootstrap`` and ``calibration``. ``held_out`` does it for rows of the sample, ``own_rows`` for
what anybody has in files (``own_files``), and ``probe`` asks what decoded rows are good for. ``latency`` and
``learning`` measure what else tells decoders apart: time, and what more rows would bring.
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
    baselines,
    confidence_calibration,
    evaluate_decoder,
    predict_in_blocks,
    sample_test_pairs,
    unit_norm_error,
)
from embup_core.evaluation.latency import decode_ms_per_row
from embup_core.evaluation.learning import LearningPoint, learning_curve
from embup_core.evaluation.pairs import BinError, PairScores
from embup_core.evaluation.probe import ProbeScores, probe_scores
from embup_core.evaluation.ranking import shared_nearest, trustworthiness
from embup_core.evaluation.scores import NEAREST, OVERLAPS, Scores, measure

__all__ = [
    "NEAREST",
    "OVERLAPS",
    "BinError",
    "CalibrationDecile",
    "Comparison",
    "ConfidenceDecile",
    "Cosines",
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
    "decode_ms_per_row",
    "evaluate_decoder",
    "learning_curve",
    "measure",
    "predict_in_blocks",
    "probe_scores",
    "row_intervals",
    "sample_test_pairs",
    "shared_nearest",
    "trustworthiness",
    "unit_norm_error",
]
