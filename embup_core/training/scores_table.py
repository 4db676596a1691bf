"""Scores as a table for people: the same columns in the terminal, in Dagster, in the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embup_core.evaluation import Scores

NOTHING = "-"
COLUMNS = (
    "decoder",
    "RMSE",
    "MAE",
    "p99",
    "bias",
    "R2 validation",
    "R2 [95 %]",
    "Pearson",
    "Spearman",
    "recall@1/5/10/50",
    "fit s",
    "decode ms",
)
SEVERAL_NUMBERS = ("R2 [95 %]", "recall@1/5/10/50")


def scores_table(
    scores: Mapping[str, Scores],
    decode_ms: Mapping[str, float] | None = None,
    validation_r2: Mapping[str, float] | None = None,
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names, and one row of text a decoder, baselines first, then by test x test R2.

    Figures are over test x test pairs, except "R2 validation", which decides, and recall: shares of the true
    nearest training rows found among as many decoded ones. p99 is the 99th percentile of the absolute error.

    Parameters
    ----------
    scores
        On test rows, by name.
    decode_ms
        Milliseconds that decoding takes a row, by name.
    validation_r2
        R2 between validation rows, by name.
    """
    decode_ms, validation_r2 = decode_ms or {}, validation_r2 or {}
    in_order = sorted(
        scores.items(), key=lambda item: (item[1].unit_norm_error is not None, item[1].test_test.r2)
    )
    rows = [
        (name, *_cells(score, validation_r2.get(name)), _or_dash(decode_ms.get(name), ".3f"))
        for name, score in in_order
    ]
    for column in map(COLUMNS.index, SEVERAL_NUMBERS):
        # Terminals put such cells to the left, where they line up only if they are equally wide.
        width = max((len(row[column]) for row in rows), default=0)
        rows = [(*row[:column], row[column].rjust(width), *row[column + 1 :]) for row in rows]
    return COLUMNS, rows


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, marked: str = "") -> str:
    """A table in Markdown, with padded cells.

    Parameters
    ----------
    columns, rows
        As from `scores_table`.
    marked
        First cell of the row that is set in bold.
    """
    shown = [[f"**{row[0]}**" if row[0] == marked else row[0], *row[1:]] for row in rows]
    widths = [max(len(row[i]) for row in (columns, *shown)) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    return "\n".join([line(columns), rule + "|", *map(line, shown)])


def _cells(score: Scores, validation_r2: float | None) -> tuple[str, ...]:
    pairs = score.test_test
    recalls = (score.recall_at_1, score.recall_at_5, score.recall_at_10, score.recall_at_50)
    return (
        f"{pairs.rmse:.4f}",
        f"{pairs.mae:.4f}",
        _or_dash(pairs.p99_abs_error, ".4f"),
        f"{pairs.bias:+.4f}",
        _or_dash(validation_r2, ".3f"),
        _with_interval(score),
        _or_dash(pairs.pearson, ".3f"),
        _or_dash(pairs.spearman, ".3f"),
        "/".join(_or_dash(share, ".2f") for share in recalls) if score.recall_at_1 is not None else NOTHING,
        _or_dash(score.fit_s, ".1f"),
    )


def _with_interval(score: Scores) -> str:
    r2 = f"{score.test_test.r2:.3f}"
    if score.intervals is None:
        return r2
    low, high = score.intervals.r2
    return f"{r2} [{low:.3f}, {high:.3f}]"


def _or_dash(value: float | None, spec: str) -> str:
    return NOTHING if value is None else format(value, spec)
