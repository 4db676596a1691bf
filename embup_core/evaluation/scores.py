"""All scores of one decoder or baseline, and the one walk over the pairs that makes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.evaluation.bootstrap import Intervals, WholeScores, row_intervals
from embup_core.evaluation.calibration import DECILES, CalibrationDecile, calibration_by_decile
from embup_core.evaluation.cosines import Comparison, OneCosine
from embup_core.evaluation.pairs import BinError, PairScores, PairSums
from embup_core.evaluation.ranking import shared_nearest, trustworthiness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embup_core.progress import Progress

NEAREST = 10
RECALLS = (1, 5, 10, 50)
HELD_ROWS = 2000
"""Most rows whose cosines with each other are held as whole matrices, for intervals and neighbourhoods."""


@dataclass(frozen=True)
class Scores:
    """What one decoder, or one baseline, reached.

    Attributes
    ----------
    test_test
        Errors over pairs of test rows, each pair once.
    test_train
        Errors over pairs of a test row and a training row; None without training rows.
    recall_at_1, recall_at_5, recall_at_10, recall_at_50
        Share of the k true nearest training rows among the k predicted ones; None where nothing is ranked or
        there are not more than k training rows.
    unit_norm_error
        Largest distance of a decoded row's length from 1; None for a baseline.
    fit_s
        Seconds the fit took; None where nothing was fitted.
    trustworthiness_at_10, continuity_at_10
        Neighbourhoods among test rows, of at most 2,000 of them: how truly decoded neighbours are neighbours,
        and true neighbours stay neighbours (Venna & Kaski, 2001). None where nothing is ranked.
    intervals
        95 % bootstrap intervals over rows; None where they were not asked for.
    train_train
        Errors over pairs of at most 2,000 training rows; None where not asked for.
    calibration
        Predicted against observed error of test x test pairs; None where the decoder predicts none.
    """

    test_test: PairScores
    test_train: PairScores | None
    recall_at_10: float | None
    unit_norm_error: float | None = None
    fit_s: float | None = None
    recall_at_1: float | None = None
    recall_at_5: float | None = None
    recall_at_50: float | None = None
    trustworthiness_at_10: float | None = None
    continuity_at_10: float | None = None
    intervals: Intervals | None = None
    train_train: PairScores | None = None
    calibration: tuple[CalibrationDecile, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Nested dict of JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from `to_json`, before or after it went through a file."""
        intervals, calibration = content.get("intervals"), content.get("calibration")
        rebuilt = {
            "test_test": _pair_scores(content["test_test"]),
            "test_train": _pair_scores(content["test_train"]),
            "train_train": _pair_scores(content.get("train_train")),
            "intervals": None if intervals is None else Intervals.from_json(intervals),
            "calibration": None
            if calibration is None
            else tuple(CalibrationDecile(**decile) for decile in calibration),
        }
        return cls(**{**content, **rebuilt})


def measure(
    test_test: Comparison,
    test_train: Comparison | None = None,
    *,
    intervals: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Compare predicted with true cosines; unit norm, fit time and training pairs are for the caller.

    Memory is bounded by blocks of 256 rows and matrices of at most 2,000 x 2,000.

    Parameters
    ----------
    test_test
        Square, the same rows as columns. Each pair counts once, the diagonal never.
    test_train
        The same rows; training rows as columns.
    intervals
        Whether to resample, which costs most of the time for few rows.
    seed
        Of the sample of more than 2,000 rows, and of the resampling.
    progress
        Called with a label, rows done and rows in all.
    """
    n_rows = test_test.true.shape[0]
    ranked = not isinstance(test_test.predicted, OneCosine)
    rng = np.random.default_rng(seed)
    held = np.sort(rng.permutation(n_rows)[:HELD_ROWS])
    pairs, predicted, true = _within(test_test, held, progress)
    across, shared = (
        (None, {}) if test_train is None else _across(test_train, ranked=ranked, progress=progress)
    )
    nearest = shared.get(NEAREST)
    kept, within = pairs.kept(), pairs.scores()
    whole = WholeScores(n_rows, within.r2, within.rmse)
    return Scores(
        test_test=within,
        test_train=across,
        **{f"recall_at_{k}": _mean(shared.get(k)) for k in RECALLS},  # type: ignore[arg-type]  # by name
        trustworthiness_at_10=trustworthiness(predicted, true, NEAREST) if ranked else None,
        continuity_at_10=trustworthiness(true, predicted, NEAREST) if ranked else None,
        intervals=row_intervals(predicted, true, nearest, whole=whole, seed=seed) if intervals else None,
        calibration=calibration_by_decile(kept[2], kept[0] - kept[1])
        if len(kept) > 2 and len(kept[0]) >= DECILES
        else None,
    )


def pair_scores_within(comparison: Comparison) -> PairScores:
    """Errors over the pairs of a square comparison, each once, never on the diagonal."""
    return _within(comparison, np.arange(0), None)[0].scores()


def _within(
    comparison: Comparison,
    held: NDArray[np.int64],
    progress: Progress | None,
) -> tuple[PairSums, NDArray[np.float32], NDArray[np.float32]]:
    """Sums over the upper triangle; predicted and true cosines between the held rows, in passing."""
    n_rows = comparison.true.shape[0]
    sums = PairSums(n_rows * (n_rows - 1) // 2)
    held_predicted, held_true = (np.empty((len(held), len(held)), np.float32) for _ in range(2))
    for start, stop, predicted, true, error in comparison.blocks():
        once = np.arange(n_rows)[None, :] > np.arange(start, stop)[:, None]
        sums.add(predicted[once], true[once], None if error is None else error[once])
        first, last = np.searchsorted(held, (start, stop))
        inside = held[first:last] - start
        held_predicted[first:last] = predicted[np.ix_(inside, held)]
        held_true[first:last] = true[np.ix_(inside, held)]
        if progress:
            progress("comparing test x test", stop, n_rows)
    return sums, held_predicted, held_true


def _across(
    comparison: Comparison, *, ranked: bool, progress: Progress | None
) -> tuple[PairScores, dict[int, NDArray[np.float64]]]:
    """Errors over all pairs, and the overlap of each row by k."""
    n_rows, n_columns = comparison.true.shape
    ks = [k for k in RECALLS if k < n_columns] if ranked else []
    sums = PairSums(n_rows * n_columns)
    counts = []
    for _, stop, predicted, true, _ in comparison.blocks():
        sums.add(predicted.ravel(), true.ravel())
        if ks:
            counts.append(shared_nearest(predicted, true, ks))
        if progress:
            progress("comparing test x train", stop, n_rows)
    found = np.concatenate(counts) if ks else np.empty((n_rows, 0))
    return sums.scores(), {k: found[:, i] / k for i, k in enumerate(ks)}


def _mean(values: NDArray[np.float64] | None) -> float | None:
    return None if values is None else float(values.mean())


def _pair_scores(content: Mapping[str, Any] | None) -> PairScores | None:
    if content is None:
        return None
    return PairScores(
        **{**content, "error_by_bin": tuple(BinError(**one) for one in content["error_by_bin"])}
    )
