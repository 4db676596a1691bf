"""Rows as lines of a table, whatever chose them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from debugger.reading import OpenDataset

TEXT_SHOWN: Final = 300
MOST_LINES: Final = 1000
RANKING_SCORES: Final = ("label_error", "pair_error", "isolation")
"""Score kinds by which rows are ranked; the first that a data set has."""


def row_lines(opened: OpenDataset, rows: Sequence[int]) -> list[dict[str, Any]]:
    """What a table shows of rows.

    Parameters
    ----------
    opened
        The data set.
    rows
        Their numbers; at most 1,000 are looked at.

    Returns
    -------
    A row each, in the order of `rows`: ``row``, ``external_id``, ``text`` (300 characters), ``characters``,
    ``usage``, ``label``, ``predicted`` and its ``confidence`` (of the finding that doubts the label, else of
    the classifier), ``score`` of the kind of `ranking_score`, and ``decision`` and ``decided_label`` of the
    review that holds.
    """
    wanted = [int(row) for row in rows[:MOST_LINES]]
    if not wanted:
        return []
    return opened.query(
        """
        WITH wanted AS (
            SELECT unnest($rows::BIGINT[]) AS row, generate_subscripts($rows::BIGINT[], 1) AS place
        ),
        told AS (
            SELECT row, label, confidence FROM own_predictions SEMI JOIN wanted USING (row)
            QUALIFY row_number() OVER (PARTITION BY row ORDER BY source) = 1
        ),
        ranked AS (SELECT row, value FROM scores SEMI JOIN wanted USING (row) WHERE kind = $kind),
        -- A finding weighs copies of the row, too, and may name another label than the classifier alone.
        doubted AS (
            SELECT rows[1] AS row, any_value(evidence ->> 'predicted') AS label,
                any_value((evidence ->> 'predicted_probability')::DOUBLE) AS confidence
            FROM findings WHERE kind = 'label_error' AND rows[1] IN (SELECT row FROM wanted) GROUP BY ALL
        )
        SELECT wanted.row, external_id, left(text, $shown) AS text, length(text) AS characters, usage,
            labels.label, coalesce(doubted.label, told.label) AS predicted,
            coalesce(doubted.confidence, told.confidence) AS confidence, ranked.value AS score,
            decisions.action AS decision, decisions.label AS decided_label
        FROM wanted JOIN rows USING (row) LEFT JOIN labels USING (row) LEFT JOIN told USING (row)
            LEFT JOIN doubted USING (row) LEFT JOIN ranked USING (row) LEFT JOIN decisions USING (row)
        ORDER BY place
        """,
        {"rows": wanted, "shown": TEXT_SHOWN, "kind": ranking_score(opened) or ""},
    )  # fmt: skip


def ranking_score(opened: OpenDataset) -> str | None:
    """The score kind by which rows of a data set are ranked; None before the first run."""
    kinds = opened.once("score_kinds", lambda: opened.query("SELECT DISTINCT kind FROM scores"))
    found = {one["kind"] for one in kinds}
    return next((kind for kind in RANKING_SCORES if kind in found), None)


def finding_rows(opened: OpenDataset, finding: int, *, start: int, limit: int) -> dict[str, Any] | None:
    """One finding with a part of its rows.

    Parameters
    ----------
    opened
        The data set.
    finding
        Its number.
    start, limit
        Which part of its rows, the worst first.

    Returns
    -------
    Columns of ``findings`` without ``key``, ``row_count``, and ``rows`` of the part; None where there is no
    such finding.
    """
    found = opened.query(
        "SELECT finding, kind, severity, title, suggestion, score, evidence, len(rows) AS row_count,"
        " rows[$start + 1 : $start + $limit] AS rows FROM findings WHERE finding = $finding",
        {"finding": finding, "start": start, "limit": limit},
    )
    return found[0] if found else None


def labels_by_rows(opened: OpenDataset, *, limit: int) -> list[dict[str, Any]]:
    """Labels with how many rows have them, the most frequent first, relabelled rows' new ones included."""
    return opened.query(
        """
        SELECT label, count(*) AS rows FROM (
            FROM (SELECT label FROM labels) UNION ALL
            FROM (SELECT label FROM decisions WHERE action = 'relabel')
        ) GROUP BY label ORDER BY rows DESC, label LIMIT ?
        """,
        [limit],
    )
