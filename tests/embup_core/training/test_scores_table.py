"""The table lines up wherever it is shown, and ends with the best."""

from __future__ import annotations

from dataclasses import replace

from embup_core.evaluation import Intervals, PairScores, Scores
from embup_core.training.scores_table import COLUMNS, SEVERAL_NUMBERS, markdown_table, scores_table

PAIRS = PairScores(
    pairs=10, rmse=0.03, mae=0.02, bias=-0.001, r2=0.5, spearman=0.6, pearson=0.7, p99_abs_error=0.08
)
BEST = Scores(
    PAIRS,
    PAIRS,
    recall_at_10=0.48,
    unit_norm_error=1e-7,
    fit_s=1.5,
    recall_at_1=0.0,
    recall_at_5=0.4,
    intervals=Intervals(r2=(0.47, 0.53), rmse=(0.029, 0.031), recall_at_10=None, rows=90),
)
SCORES = {
    "kriging": BEST,
    "linear": replace(BEST, test_test=replace(PAIRS, r2=-28.3), intervals=None),
    "constant_mean": Scores(replace(PAIRS, r2=0.9, spearman=None, pearson=None), None, None),
}


def test_baselines_stand_first_and_the_best_decoder_last() -> None:
    _, rows = scores_table(SCORES)
    assert [row[0] for row in rows] == ["constant_mean", "linear", "kriging"]


def test_cells_say_what_their_columns_promise() -> None:
    columns, rows = scores_table(SCORES, {"kriging": 0.0621}, {"kriging": 0.61})
    assert columns == COLUMNS
    assert [cell.strip() for cell in rows[-1]] == [
        "kriging",
        "0.0300",
        "0.0200",
        "0.0800",
        "-0.0010",
        "0.610",
        "0.500 [0.470, 0.530]",
        "0.700",
        "0.600",
        "0.00/0.40/0.48/-",
        "1.5",
        "0.062",
    ]
    assert [cell.strip() for cell in rows[0]][-5:] == ["-", "-", "-", "-", "-"]


def test_cells_of_several_numbers_are_equally_wide() -> None:
    _, rows = scores_table(SCORES)
    for column in map(COLUMNS.index, SEVERAL_NUMBERS):
        assert len({len(row[column]) for row in rows}) == 1


def test_every_line_of_the_markdown_is_equally_long() -> None:
    assert (
        len({len(line) for line in markdown_table(*scores_table(SCORES), marked="kriging").splitlines()}) == 1
    )
    assert scores_table({}) == (COLUMNS, [])


def test_one_row_of_the_markdown_is_set_in_bold() -> None:
    lines = markdown_table(*scores_table(SCORES), marked="kriging").splitlines()
    assert [line for line in lines if "**" in line] == [lines[-1]]
    assert lines[-1].startswith("| **kriging** ")
