"""What people ask of a data set: findings, one row with everything, what to label next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from embup_core.errors import InputError

if TYPE_CHECKING:
    from debugger.reading import OpenDataset

MOST: Final = 10_000
_TEXT_SHOWN: Final = 200
_WINDOW: Final = 1_000
LABEL_NEXT: Final = "label_next"
_FINDINGS: Final = """
WITH listed AS (
    SELECT *, len(rows) AS row_count,
        coalesce(len(list_intersect(rows, done.list)), 0) AS decided_rows
    FROM findings, (SELECT coalesce(list(row), []) AS list FROM decisions) AS done
    WHERE finding > $after AND finding <= $until AND ($kind IS NULL OR kind = $kind)
        AND ($severity IS NULL OR severity = $severity)
)
SELECT finding, kind, severity, title, suggestion, score, evidence, rows[:200] AS rows, row_count,
    decided_rows, left(text, $shown) AS text, label
FROM listed LEFT JOIN rows AS first ON first.row = listed.rows[1] LEFT JOIN labels USING (row)
WHERE $decided OR row_count = 0 OR decided_rows < row_count
ORDER BY finding LIMIT $limit
"""


def list_findings(
    opened: OpenDataset,
    *,
    kind: str | None = None,
    severity: str | None = None,
    decided: bool = False,
    limit: int = 50,
    after: int = 0,
) -> list[dict[str, Any]]:
    """Findings in the order of importance.

    Parameters
    ----------
    opened
        The data set.
    kind, severity
        Only these.
    decided
        Whether findings are listed, too, whose rows all have a review.
    limit
        How many at most.
    after
        Number of the last finding of the page before.

    Returns
    -------
    A finding each: ``finding``, ``kind``, ``severity``, ``title``, ``suggestion``, ``score``, ``evidence``,
    ``rows`` (at most 200), ``row_count``, ``decided_rows``; ``text`` and ``label`` of the first row.

    Raises
    ------
    InputError
        There is no analysis, or no finding of this kind in it.
    """
    require_analysis(opened)
    if kind is not None and kind not in (kinds := finding_counts(opened)):
        raise InputError(
            f"Analysis {opened.version} has no findings of the kind {kind!r}.",
            remedy=f"There are: {', '.join(kinds) or 'none'}.",
        )
    wanted = min(max(limit, 0), MOST)
    last = opened.query("SELECT coalesce(max(finding), 0) AS last FROM findings")[0]["last"]
    given = {"kind": kind, "severity": severity, "decided": decided, "shown": _TEXT_SHOWN}
    found: list[dict[str, Any]] = []
    window = _WINDOW
    while len(found) < wanted and after < last:  # a page of a million findings looks at few of them
        ends = {"after": after, "until": after + window, "limit": wanted - len(found)}
        found += opened.query(_FINDINGS, given | ends)
        after, window = after + window, 4 * window
    return [{**one, "evidence": json.loads(one["evidence"])} for one in found]


def finding_counts(opened: OpenDataset) -> dict[str, int]:
    """How many findings there are by kind, in the order of importance."""
    counted = "SELECT kind, count(*) AS n FROM findings GROUP BY kind ORDER BY min(finding)"
    found = opened.once("finding_counts", lambda: opened.query(counted))
    return {one["kind"]: one["n"] for one in found}


def require_analysis(opened: OpenDataset) -> int:
    """The version of the analysis; raises `InputError` where there is none."""
    if opened.version is None:
        raise InputError(
            f"{opened.name} has not been analysed.",
            remedy=f"Analyse it with `embup debug run {opened.name}`.",
        )
    return opened.version


def get_row(opened: OpenDataset, row: int) -> dict[str, Any]:
    """Everything about one row.

    Returns
    -------
    Columns of ``rows`` and ``label``; ``scores`` by kind; ``predictions``; ``neighbours`` by what they are
    alike in; ``findings`` that it is in; ``reviews`` of it, and the ``decision`` that holds.

    Raises
    ------
    InputError
        There is no such row.
    """
    found = opened.query("SELECT * FROM rows LEFT JOIN labels USING (row) WHERE row = ?", [row])
    if not found:
        raise InputError(
            f"There is no row {row}: there are 0 to {opened.count('rows') - 1:,}.",
            remedy="Take the number from `embup debug findings`.",
        )
    scores = opened.query("SELECT kind, value, expected FROM scores WHERE row = ? ORDER BY kind", [row])
    neighbours: dict[str, list[dict[str, Any]]] = {}
    for one in opened.query(
        "SELECT kind, other, cosine, left(text, ?) AS text, label FROM neighbours"
        " JOIN rows ON rows.row = other LEFT JOIN labels ON labels.row = other"
        " WHERE neighbours.row = ? ORDER BY kind, rank",
        [_TEXT_SHOWN, row],
    ):
        neighbours.setdefault(one.pop("kind"), []).append(one)
    decision = opened.decisions.get(row)
    return {
        **found[0],
        "scores": {one["kind"]: one["value"] for one in scores},
        "expected": {one["kind"]: one["expected"] for one in scores if one["expected"] is not None},
        "predictions": opened.query(
            "SELECT source, label, confidence, candidates, in_sample FROM predictions WHERE row = ?"
            " ORDER BY source",
            [row],
        ),
        "failures": opened.query("SELECT source, reason FROM prediction_failures WHERE row = ?", [row]),
        "neighbours": neighbours,
        "findings": opened.query(
            "SELECT finding, kind, severity, title, suggestion FROM findings WHERE list_contains(rows, ?)"
            " ORDER BY finding LIMIT 50",
            [row],
        ),
        "reviews": opened.query("SELECT * FROM reviews WHERE row = ? ORDER BY seq", [row]),
        "decision": None if decision is None else decision.action,
    }


def suggest(opened: OpenDataset, *, count: int = 50) -> list[dict[str, Any]]:
    """Rows to label next: those that reviewers asked for, then the analysis chose, then the least certain.

    Parameters
    ----------
    opened
        The data set.
    count
        How many at most.

    Returns
    -------
    A row each: ``row``, ``external_id``, ``text``, ``label``, ``predicted``, ``confidence``, ``margin`` and
    ``why``.

    Raises
    ------
    InputError
        There is no analysis.
    """
    require_analysis(opened)
    asked = [row for row, one in opened.decisions.items() if one.action == "annotate_next"]
    return opened.query(
        """
        WITH chosen AS (
            SELECT unnest($asked::BIGINT[]) AS row, 0 AS part, generate_subscripts($asked, 1) AS place,
                'asked for' AS why
            UNION ALL
            SELECT unnest(rows), 1, generate_subscripts(rows, 1), 'chosen: uncertain and unlike the others'
            FROM findings WHERE kind = $label_next
            UNION ALL
            SELECT row, 2, row_number() OVER (ORDER BY value, row), 'least certain'
            FROM scores ANTI JOIN labels USING (row) WHERE kind = 'margin'
            UNION ALL
            SELECT row, 3, row, 'not labelled' FROM rows ANTI JOIN labels USING (row)
        ),
        first AS (
            SELECT * FROM chosen WHERE part = 0 OR row NOT IN (SELECT row FROM decisions)
            QUALIFY row_number() OVER (PARTITION BY row ORDER BY part, place) = 1
            ORDER BY part, place LIMIT $count
        )
        SELECT first.row, external_id, text, labels.label, told.label AS predicted, told.confidence,
            margin.value AS margin, why
        FROM first JOIN rows USING (row) LEFT JOIN labels USING (row)
            LEFT JOIN (
                SELECT * FROM own_predictions SEMI JOIN first USING (row)
                QUALIFY row_number() OVER (PARTITION BY row ORDER BY source) = 1
            ) AS told USING (row)
            LEFT JOIN (
                SELECT row, value FROM scores SEMI JOIN first USING (row) WHERE kind = 'margin'
            ) AS margin USING (row)
        ORDER BY part, place
        """,
        {"asked": asked, "label_next": LABEL_NEXT, "count": min(max(count, 0), MOST)},
    )


def analysis_row(opened: OpenDataset) -> dict[str, Any]:
    """The row of the table ``analysis``, its summary parsed."""
    require_analysis(opened)
    (found,) = opened.query("SELECT * FROM analysis")
    return {**found, "summary": json.loads(found["summary"])}
