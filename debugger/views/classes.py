"""Classes that are taken for each other, and slices."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from debugger.reading import OpenDataset

MOST_CLASSES: Final = 14
MOST_PAIRS: Final = 50
MOST_SLICES: Final = 200
_TOLD: Final = """
    told AS (
        SELECT row, labels.label, own.label AS predicted, own.confidence
        FROM own_predictions AS own JOIN labels USING (row)
        WHERE own.source = (SELECT min(source) FROM own_predictions)
    )
"""


def confusion(opened: OpenDataset) -> dict[str, Any]:
    """How often rows of one label are predicted to have another, by a classifier that has not seen them.

    Returns
    -------
    ``pairs``: ``label``, ``predicted``, ``rows`` and mean ``confidence`` of the 50 most frequent
    confusions; ``classes``: the 14 with the most of them; ``cells``: ``rows`` by label and predicted label of
    these; ``right`` and ``rows`` of all.
    """
    counts = opened.query(
        f"""
        WITH {_TOLD}
        SELECT label, predicted, count(*) AS rows, avg(confidence) AS confidence FROM told GROUP BY ALL
        ORDER BY rows DESC, label, predicted
        """  # noqa: S608 - our own text
    )
    wrong = [one for one in counts if one["label"] != one["predicted"]]
    confusions: Counter[str] = Counter()
    for one in wrong:
        for name in (one["label"], one["predicted"]):
            confusions[name] += one["rows"]
    classes = sorted(sorted(confusions), key=lambda name: -confusions[name])[:MOST_CLASSES]
    cells = {(one["label"], one["predicted"]): one["rows"] for one in counts}
    return {
        "pairs": wrong[:MOST_PAIRS],
        "classes": sorted(classes),
        "cells": {
            (label, predicted): cells[label, predicted]
            for label in classes
            for predicted in classes
            if (label, predicted) in cells
        },
        "right": sum(one["rows"] for one in counts if one["label"] == one["predicted"]),
        "rows": sum(one["rows"] for one in counts),
    }


def confused_rows(opened: OpenDataset, label: str, predicted: str, *, start: int, limit: int) -> list[int]:
    """Rows of one label that are predicted to have another one (or the same), the surest first."""
    found = opened.query(
        f"""
        WITH {_TOLD}
        SELECT row FROM told WHERE label = $label AND predicted = $predicted
        ORDER BY confidence DESC, row LIMIT $limit OFFSET $start
        """,  # noqa: S608
        {"label": label, "predicted": predicted, "limit": limit, "start": start},
    )
    return [one["row"] for one in found]


def list_slices(opened: OpenDataset, *, worse: bool = False) -> list[dict[str, Any]]:
    """Slices that were looked at, the significantly worse ones first; at most 200.

    Parameters
    ----------
    opened
        The data set.
    worse
        Only those that are significantly worse.

    Returns
    -------
    Columns of ``slices``, but ``rows`` is how many there are; ``slice`` is its number, from 1.
    """
    return opened.query(
        f"""
        WITH numbered AS (SELECT row_number() OVER () AS slice, * FROM slices)
        SELECT slice, partition, name, metric, value, low, high, rest, p, q, worse, len(rows) AS rows
        FROM numbered WHERE worse OR NOT $worse
        ORDER BY worse DESC, q NULLS LAST, slice LIMIT {MOST_SLICES}
        """,  # noqa: S608
        {"worse": worse},
    )


def slice_rows(opened: OpenDataset, number: int, *, start: int, limit: int) -> dict[str, Any] | None:
    """One slice with a part of its rows, those with the highest ranking score first; None for no such one."""
    found = opened.query(
        """
        WITH numbered AS (SELECT row_number() OVER () AS slice, * FROM slices)
        SELECT slice, partition, name, metric, rows FROM numbered WHERE slice = $slice
        """,
        {"slice": number},
    )
    if not found:
        return None
    one = found[0]
    count = len(one["rows"])
    one["row_count"], one["rows"] = count, one["rows"][start : start + limit]
    return one
