"""A report has a plot for everything it holds numbers of, and each shows those numbers."""

from dataclasses import replace
from typing import Any

import pytest

from embup_core.artifacts.model_card import plot_caption
from embup_core.evaluation import (
    BinError,
    CalibrationDecile,
    ConfidenceDecile,
    LearningPoint,
    PairScores,
    Scores,
)
from embup_core.evaluation.groups import GroupScores
from embup_core.training.report import (
    bias_by_cosine,
    cosine_calibration,
    error_and_latency,
    error_by_cosine,
    error_by_group,
    learning_curve_plot,
    recall_curves,
    report_plots,
)
from embup_core.training.selection import Evaluation

PNG = b"\x89PNG"
DECILES = tuple(CalibrationDecile(0.01 * i, 0.011 * i, 1.1, 50) for i in range(1, 11))


def scores(r2: float, *, calibrated: bool = False) -> Scores:
    bins = (BinError(0.6, 0.65, 400, 0.001, 0.02), BinError(0.9, 0.95, 3, 0.1, 0.5))
    pairs = PairScores(
        pairs=10, rmse=0.03, mae=0.02, bias=0.0, r2=r2, spearman=0.5, pearson=0.5, error_by_bin=bins
    )
    return Scores(pairs, pairs, 0.4, 1e-7, 1.0, 0.2, 0.3, None, calibration=DECILES if calibrated else None)


EVALUATION = Evaluation(
    choice="auto",
    settings={},
    validation={"worse": scores(0.1), "better": scores(0.6)},
    test={"worse": scores(0.2), "better": scores(0.5, calibrated=True)},
    baselines={},
    decode_ms={"worse": 0.01, "better": 0.05},
    learning_curve=(LearningPoint(100, 0.3), LearningPoint(200, 0.6)),
    confidence=tuple(ConfidenceDecile(i / 10, 0.03, None, 5) for i in range(10)),
    groups=(
        GroupScores("all", "", 90, 0.03, 0.0, 0.4),
        GroupScores("corpus", "costs $5", 30, 0.05, 0.01, 0.2),
        GroupScores("corpus", "news", 60, 0.02, 0.0, None),
    ),
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was given to the axes' plot."""
    from matplotlib.axes import Axes

    calls: list[tuple[Any, ...]] = []
    method = Axes.plot

    def noted(axes: Any, *args: Any, **options: Any) -> Any:
        calls.append((*args, options.get("label")))
        return method(axes, *args, **options)

    monkeypatch.setattr(Axes, "plot", noted)
    return calls


def test_a_full_report_has_every_plot() -> None:
    plots = report_plots(EVALUATION)
    assert sorted(plots) == [
        "bias_by_cosine.png",
        "calibration_of_confidence.png",
        "calibration_of_cosines.png",
        "comparison.png",
        "error_and_latency.png",
        "error_by_cosine.png",
        "error_by_group.png",
        "learning_curve.png",
        "recall.png",
    ]
    assert all(image.startswith(PNG) for image in plots.values())
    assert report_plots(EVALUATION) == plots  # the same bytes again


def test_what_was_not_measured_is_not_drawn() -> None:
    bare = replace(
        EVALUATION, test=EVALUATION.validation, decode_ms={}, learning_curve=(), confidence=(), groups=()
    )
    assert sorted(report_plots(bare)) == [
        "bias_by_cosine.png",
        "comparison.png",
        "error_by_cosine.png",
        "recall.png",
    ]


def test_bins_of_few_pairs_say_nothing(drawn: list[tuple[Any, ...]]) -> None:
    error_by_cosine({"one": scores(0.5)})
    ((middles, errors, _, label),) = drawn
    assert (middles, errors, label) == ([pytest.approx(0.625)], [0.02], "one")


def test_the_bias_is_drawn_by_the_middle_of_its_bin(drawn: list[tuple[Any, ...]]) -> None:
    bias_by_cosine({"one": scores(0.5)})
    ((middles, biases, _, label),) = drawn
    assert (middles, biases, label) == ([pytest.approx(0.625)], [0.001], "one")


def test_every_plot_has_a_caption() -> None:
    assert all(plot_caption(name) for name in (*report_plots(EVALUATION), "cosines_kriging.png"))
    assert plot_caption("a.png") == ""


def test_overlaps_that_are_unknown_leave_gaps(drawn: list[tuple[Any, ...]]) -> None:
    recall_curves({"one": scores(0.5)})
    ((ks, shares, _, _),) = drawn
    assert (ks, shares) == ([1, 5, 10], [0.2, 0.3, 0.4])


def test_calibration_points_are_predicted_and_observed(drawn: list[tuple[Any, ...]]) -> None:
    cosine_calibration(DECILES, title="one")
    assert drawn[-1][:2] == (
        [one.predicted_rmse for one in DECILES],
        [one.observed_rmse for one in DECILES],
    )


def test_a_learning_curve_goes_over_rows(drawn: list[tuple[Any, ...]]) -> None:
    learning_curve_plot(EVALUATION.learning_curve, title="better")
    assert drawn[0][:2] == ([100, 200], [0.3, 0.6])


def test_each_decoder_is_a_point_of_error_and_time(drawn: list[tuple[Any, ...]]) -> None:
    error_and_latency(EVALUATION.test, EVALUATION.decode_ms)
    assert [call[:2] for call in drawn] == [(0.01, 0.03), (0.05, 0.03)]


def test_each_group_is_a_point_the_worst_on_top(drawn: list[tuple[Any, ...]]) -> None:
    error_by_group(EVALUATION.groups, title="better")
    assert drawn[0][:2] == ([0.05, 0.02], [1, 0])
