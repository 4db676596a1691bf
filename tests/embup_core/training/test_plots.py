"""Plots are PNG images, and what they must show is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.evaluation import PairScores, Scores
from embup_core.training.plots import LOWEST_BAR, comparison, residual_angles, training_curves

if TYPE_CHECKING:
    from collections.abc import Callable

PNG = b"\x89PNG"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """What a method of the axes was given: keywords, the last ``args``, ``thirds`` and ``labels`` of all."""
    from matplotlib.axes import Axes

    calls: dict[str, dict[str, Any]] = {}

    def watch(name: str) -> dict[str, Any]:
        method = getattr(Axes, name)

        def noted(axes: Any, *args: Any, **options: Any) -> Any:
            calls[name]["thirds"] += args[2:3]
            calls[name]["labels"] += [options["label"]] if "label" in options else []
            calls[name].update(options, args=args)
            return method(axes, *args, **options)

        calls[name] = {"thirds": [], "labels": []}
        monkeypatch.setattr(Axes, name, noted)
        return calls[name]

    return watch


def scores(r2: float) -> Scores:
    pairs = PairScores(pairs=10, rmse=0.03, mae=0.02, bias=0.0, r2=r2, spearman=0.5)
    return Scores(pairs, pairs, 0.4, 1e-7, 1.0)


def test_a_training_curve_has_one_point_a_step(seen: Callable[[str], dict[str, Any]]) -> None:
    drawn = seen("plot")
    assert training_curves({"loss": {"": [0.2, 0.1, 0.05]}}, title="mlp").startswith(PNG)
    steps, losses = drawn["args"]
    assert (list(steps), losses) == ([1, 2, 3], [0.2, 0.1, 0.05])


def test_fits_within_one_are_lines_that_each_begin_at_step_1(seen: Callable[[str], dict[str, Any]]) -> None:
    drawn = seen("plot")
    training_curves({"loss": {"calibration 1": [0.3, 0.2], "all rows": [0.2, 0.1, 0.05]}}, title="two")
    assert (list(drawn["args"][0]), drawn["labels"]) == ([1, 2, 3], ["calibration 1", "all rows"])


@pytest.mark.parametrize("wrong", [[], [3, 7]])
def test_angles_of_wrong_rows_are_drawn_apart(
    seen: Callable[[str], dict[str, Any]], wrong: list[int]
) -> None:
    drawn, scales = seen("hist"), seen("set")
    angles = np.full(20, 1e-4)
    angles[wrong] = 0.4
    angles[0] = 0  # has a place on a logarithmic scale, too
    assert residual_angles(angles, np.array(wrong, np.int64)).startswith(PNG)
    groups = drawn["args"][0]
    assert [len(group) for group in groups] == ([18, 2] if wrong else [20])
    assert sum(np.histogram(group, drawn["bins"])[0].sum() for group in groups) == 20
    assert (scales["xscale"], scales["yscale"]) == ("log", "log")


def test_only_what_is_above_zero_is_drawn_on_a_logarithmic_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from matplotlib.axes import Axes

    scales: list[str] = []
    set_scale = Axes.set_yscale

    def noted(axes: Any, value: str, **options: Any) -> None:
        scales.append(value)
        set_scale(axes, value, **options)

    monkeypatch.setattr(Axes, "set_yscale", noted)
    training_curves({"loss": {"": [2.0, 1.0]}, "r2": {"": [-0.5, 0.5]}}, title="both")
    assert scales == ["log", "linear"]


def test_a_comparison_stands_worst_first_cut_off_below_with_the_true_number(
    seen: Callable[[str], dict[str, Any]],
) -> None:
    bars, labels = seen("barh"), seen("text")
    png = comparison({"kriging": scores(0.579), "linear": scores(-42.0), "mlp": scores(0.363)})
    assert png.startswith(PNG)
    assert bars["args"] == (["linear", "mlp", "kriging"], [LOWEST_BAR, 0.363, 0.579])
    assert labels["thirds"] == ["-42.000", "0.363", "0.579"]


def test_equal_scores_give_equal_images() -> None:
    assert comparison({"linear": scores(0.1)}) == comparison({"linear": scores(0.1)})
