"""The plots of a report: where errors are, whether they were predicted, what time and more rows change."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from embup_core.evaluation import RECALLS
from embup_core.training.plots import blank, comparison, cosine_hexbin, png, training_curves

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from embup_core.evaluation import ConfidenceDecile, LearningPoint, Scores
    from embup_core.evaluation.calibration import CalibrationDecile
    from embup_core.evaluation.groups import GroupScores
    from embup_core.training.candidates import Measured
    from embup_core.training.selection import Evaluation

WITHIN = 0.15
"""The band that calibration is drawn with: observed errors within 15 % of predicted ones."""
WORST_GROUPS = 8
"""Of each kind, in the plot of errors by group."""
DPI = 120


def measured_plots(measured: Measured, *, dpi: int = DPI) -> dict[str, bytes]:
    """The plots of a published decoder: `report_plots`, and the champion's pairs and training curves."""
    evaluation, champion = measured.evaluation, measured.evaluation.champion
    drawn = report_plots(evaluation, dpi=dpi)
    drawn[f"cosines_{champion}.png"] = pairs_plot(measured, champion, dpi=dpi)
    history = measured.histories.get(champion)
    if history:
        drawn[f"training_{champion}.png"] = training_curves(history, title=champion, dpi=dpi)
    return drawn


def pairs_plot(measured: Measured, name: str, *, dpi: int = DPI) -> bytes:
    """True against predicted cosines of one candidate: PNG bytes."""
    title = f"{name}: R2 {measured.evaluation.test[name].test_test.r2:.3f}"
    return cosine_hexbin(*measured.pairs[name], title=title, dpi=dpi)


def report_plots(evaluation: Evaluation, *, dpi: int = DPI) -> dict[str, bytes]:
    """All plots that an evaluation holds the numbers of, PNG bytes by file name."""
    champion = evaluation.champion
    best = evaluation.test[champion]
    drawn = {
        "comparison.png": comparison(evaluation.test, dpi=dpi),
        "bias_by_cosine.png": bias_by_cosine(_ranked(evaluation.test), dpi=dpi),
        "error_by_cosine.png": error_by_cosine(_ranked(evaluation.test), dpi=dpi),
        "recall.png": recall_curves(_ranked(evaluation.test), dpi=dpi),
    }
    if evaluation.decode_ms:
        drawn["error_and_latency.png"] = error_and_latency(evaluation.test, evaluation.decode_ms, dpi=dpi)
    if len(evaluation.groups) > 1:
        drawn["error_by_group.png"] = error_by_group(evaluation.groups, title=champion, dpi=dpi)
    if best.calibration is not None:
        drawn["calibration_of_cosines.png"] = cosine_calibration(best.calibration, title=champion, dpi=dpi)
    if evaluation.confidence:
        drawn["calibration_of_confidence.png"] = confidence_calibration_plot(
            evaluation.confidence, title=champion, dpi=dpi
        )
    if len(evaluation.learning_curve) > 1:
        drawn["learning_curve.png"] = learning_curve_plot(evaluation.learning_curve, title=champion, dpi=dpi)
    return drawn


def bias_by_cosine(scores: Mapping[str, Scores], *, dpi: int = DPI) -> bytes:
    """Mean error by bin of the true cosine, a line a decoder, bins of fewer than 30 pairs left out: PNG.

    A line that falls from above 0 to below is regression towards the mean: low cosines come out too high,
    high ones too low.
    """
    figure, (axes,) = blank(height_in=3.8)
    for name, one in scores.items():
        bins = [part for part in one.test_test.error_by_bin if part.pairs >= 30]
        axes.plot(
            [(part.low + part.high) / 2 for part in bins], [part.bias for part in bins], ".-", label=name
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="true cosine", ylabel="predicted - true", title="Bias by true cosine")
    axes.grid(visible=True, alpha=0.3)
    _legend_beside(axes)
    return png(figure, dpi)


def error_by_cosine(scores: Mapping[str, Scores], *, dpi: int = DPI) -> bytes:
    """RMSE by bin of the true cosine, a line a decoder, bins of fewer than 30 pairs left out: PNG bytes."""
    figure, (axes,) = blank(height_in=3.8)
    for name, one in scores.items():
        bins = [part for part in one.test_test.error_by_bin if part.pairs >= 30]
        axes.plot(
            [(part.low + part.high) / 2 for part in bins], [part.rmse for part in bins], ".-", label=name
        )
    axes.set(xlabel="true cosine", ylabel="RMSE", title="Error by true cosine", yscale="log")
    _plain_ticks(axes.yaxis)
    axes.grid(visible=True, which="both", alpha=0.3)
    _legend_beside(axes)
    return png(figure, dpi)


def error_by_group(groups: Sequence[GroupScores], *, title: str, dpi: int = DPI) -> bytes:
    """RMSE of the worst groups of each kind, beside that of all rows, a point a group: PNG bytes."""
    everything, *others = groups
    shown = [
        one
        for kind in dict.fromkeys(one.kind for one in others)
        for one in [one for one in others if one.kind == kind][:WORST_GROUPS]
    ]
    figure, (axes,) = blank(height_in=1.4 + 0.22 * len(shown))
    places = range(len(shown) - 1, -1, -1)  # the first one on top
    axes.plot([one.rmse for one in shown], list(places), "o")
    axes.axvline(everything.rmse, color="crimson", linewidth=1, label=f"all {everything.rows:,} test rows")
    labels = [f"{one.kind} {one.name[:40]} ({one.rows:,})".replace("$", r"\$") for one in shown]
    axes.set_yticks(list(places), labels, fontsize="small")
    axes.set(xlabel="RMSE of cosines with fitted rows", title=f"{title}: error by group")
    axes.grid(visible=True, axis="x", alpha=0.3)
    axes.legend(fontsize="small")
    return png(figure, dpi)


def recall_curves(scores: Mapping[str, Scores], *, dpi: int = DPI) -> bytes:
    """Share of the k true nearest training rows found, by k, a line a decoder: PNG bytes."""
    figure, (axes,) = blank(height_in=3.8)
    for name, one in scores.items():
        found = {k: getattr(one, f"recall_at_{k}") for k in RECALLS}
        known = {k: share for k, share in found.items() if share is not None}
        axes.plot(list(known), list(known.values()), ".-", label=name)
    axes.set(xlabel="k", ylabel="recall@k", title="Nearest training rows found", xscale="log", ylim=(0, 1))
    axes.set_xticks(RECALLS, [str(k) for k in RECALLS])
    axes.grid(visible=True, alpha=0.3)
    _legend_beside(axes)
    return png(figure, dpi)


def cosine_calibration(deciles: Sequence[CalibrationDecile], *, title: str, dpi: int = DPI) -> bytes:
    """Predicted against observed error of cosines, a point a decile, with the band of 15 %: PNG bytes."""
    figure, (axes,) = blank(height_in=4.4)
    predicted, observed = (
        [getattr(one, f"{kind}_rmse") for one in deciles] for kind in ("predicted", "observed")
    )
    line = [min(predicted + observed) * 0.9, max(predicted + observed) * 1.1]
    axes.fill_between(
        line,
        [x * (1 - WITHIN) for x in line],
        [x * (1 + WITHIN) for x in line],
        alpha=0.2,
        label="within 15 %",
    )
    axes.plot(line, line, color="crimson", linewidth=1)
    axes.plot(predicted, observed, "o")
    axes.set(xlabel="predicted RMSE", ylabel="observed RMSE", title=f"{title}: errors of cosines by decile")
    axes.legend(fontsize="small")
    return png(figure, dpi)


def confidence_calibration_plot(deciles: Sequence[ConfidenceDecile], *, title: str, dpi: int = DPI) -> bytes:
    """RMSE of a row's cosines with fitted rows by its confidence, observed and predicted: PNG bytes."""
    figure, (axes,) = blank(height_in=3.8)
    confidence = [one.confidence for one in deciles]
    axes.plot(confidence, [one.observed_rmse for one in deciles], "o-", label="observed")
    predicted = [(one.confidence, one.predicted_rmse) for one in deciles if one.predicted_rmse is not None]
    if predicted:
        axes.plot(*zip(*predicted, strict=True), ".--", label="predicted")
    axes.set(
        xlabel="confidence",
        ylabel="RMSE of a row's cosines",
        title=f"{title}: error by confidence",
        ylim=(0, None),
    )
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    return png(figure, dpi)


def learning_curve_plot(points: Sequence[LearningPoint], *, title: str, dpi: int = DPI) -> bytes:
    """R2 between validation rows by the rows fitted on: PNG bytes."""
    figure, (axes,) = blank(height_in=3.4)
    axes.plot([point.rows for point in points], [point.r2 for point in points], "o-")
    axes.set(xlabel="rows fitted on", ylabel="R2 of cosines, validation", title=f"{title}: learning curve")
    axes.grid(visible=True, alpha=0.3)
    return png(figure, dpi)


def error_and_latency(
    scores: Mapping[str, Scores], decode_ms: Mapping[str, float], *, dpi: int = DPI
) -> bytes:
    """RMSE against the milliseconds a row takes, a point a decoder: PNG bytes."""
    figure, (axes,) = blank(height_in=4.4)
    best_first = sorted(decode_ms, key=lambda name: scores[name].test_test.rmse)
    for name, marker in zip(best_first, itertools.cycle("os^vD*PX<>"), strict=False):
        axes.plot(decode_ms[name], scores[name].test_test.rmse, marker, label=name)
    _legend_beside(axes)
    axes.set(
        xlabel="ms a row, blocks of 256, one core",
        ylabel="RMSE of cosines, test x test",
        title="Error and time",
        xscale="log",
        yscale="log",
    )
    for axis in (axes.xaxis, axes.yaxis):
        _plain_ticks(axis)
    axes.grid(visible=True, which="both", alpha=0.3)
    return png(figure, dpi)


def _plain_ticks(axis: Axis) -> None:
    """1, 2, 5, 10 on a logarithmic axis, written as people write them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_minor_formatter(NullFormatter())  # they run into each other
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend_beside(axes: Axes) -> None:
    """Beside the plot, where it hides no point."""
    axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.01, 1))


def _ranked(scores: Mapping[str, Scores], most: int = 6) -> dict[str, Scores]:
    """The best few, so that lines can be told apart; the best first."""
    best_first = sorted(scores.items(), key=lambda item: -item[1].test_test.r2)
    return dict(best_first[:most])
