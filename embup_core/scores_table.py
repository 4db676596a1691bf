"""Scores as a table for people: the same columns in the terminal, in Dagster, in the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embup_core.evaluation import Scores

COLUMNS = (
    "decoder",
    "RMSE",
    "MAE",
    "bias",
    "R2",
    "Spearman",
    "RMSE test x train",
    "R2 test x train",
    "overlap@10",
    "unit error",
    "fit s",
)


def scores_table(scores: Mapping[str, Scores]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names, and one row of text a decoder, baselines first, then by test x test R2.

    Unless a column says otherwise, its figure is over test x test pairs.
    """
    in_order = sorted(
        scores.items(), key=lambda item: (item[1].unit_norm_error is not None, item[1].test_test.r2)
    )
    return COLUMNS, [(name, *_cells(score)) for name, score in in_order]


def markdown_table(scores: Mapping[str, Scores]) -> str:
    """`scores_table` in Markdown, with padded cells."""
    columns, rows = scores_table(scores)
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]

    def line(cells: tuple[str, ...]) -> str:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    return "\n".join([line(columns), rule + "|", *map(line, rows)])


def _cells(score: Scores) -> tuple[str, ...]:
    return (
        f"{score.test_test.rmse:.4f}",
        f"{score.test_test.mae:.4f}",
        f"{score.test_test.bias:+.4f}",
        f"{score.test_test.r2:.3f}",
        _or_dash(score.test_test.spearman, ".3f"),
        f"{score.test_train.rmse:.4f}",
        f"{score.test_train.r2:.3f}",
        _or_dash(score.overlap_at_10, ".3f"),
        _or_dash(score.unit_norm_error, ".0e"),
        _or_dash(score.fit_s, ".1f"),
    )


def _or_dash(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
