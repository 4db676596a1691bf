"""The map: a place and a colour for each row, and the rows inside a polygon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from debugger.views.rows import MOST_LINES, ranking_score
from embup_core.debugging.kinds import SCORE_KINDS
from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from debugger.reading import OpenDataset

MOST_VERTICES: Final = 200
MOST_COLOURS: Final = 11
MISSING: Final = 65535
"""Colour of a row without a score."""
CATEGORIES: Final = {
    "label": "SELECT row, label AS category FROM labels",
    "usage": "SELECT row, usage AS category FROM rows WHERE usage IS NOT NULL",
    "finding": (
        "SELECT row, arg_min(kind, finding) AS category"
        " FROM (SELECT unnest(rows) AS row, kind, finding FROM findings) GROUP BY row"
    ),
    "decision": "SELECT row, action AS category FROM decisions",
}
"""What the colours of rows can stand for, beside score kinds: a category of each row."""


@dataclass(frozen=True, eq=False)
class MapPoints:
    """Places and colours.

    Attributes
    ----------
    places
        float32, shape (n, 2).
    colours
        uint16, shape (n,). Categories: number of the entry of `legend`. Scores: quantile of the score, from 0
        to 65534; 65535 for none.
    legend
        Categories: ``name`` and ``rows``, the most frequent first, then all others and rows without one.
        Scores: ``name`` is a quantile, such as ``0.5``, and ``value`` the score there.
    """

    places: NDArray[np.float32]
    colours: NDArray[np.uint16]
    legend: list[dict[str, Any]]


def colour_kinds(opened: OpenDataset) -> list[str]:
    """What colours can stand for."""
    found = {one["kind"] for one in opened.query("SELECT DISTINCT kind FROM scores")}
    return [*CATEGORIES, *(kind for kind in SCORE_KINDS if kind in found)]


def map_points(opened: OpenDataset, colour: str) -> MapPoints:
    """Places and colours of all rows that have a place, by row number.

    Parameters
    ----------
    opened
        The data set.
    colour
        One of `colour_kinds`.

    Raises
    ------
    InputError
        Colours cannot stand for this.
    """
    if colour in CATEGORIES:
        return _by_category(opened, CATEGORIES[colour])
    if colour not in (known := colour_kinds(opened)):
        raise InputError(f"Expected a colour of {', '.join(known)}, found {colour!r}.", remedy="Choose one.")
    found = opened.connection.execute(
        """
        WITH one AS (SELECT row, value FROM scores WHERE kind = ?)
        SELECT x, y, coalesce(value, 'nan'::DOUBLE) AS value FROM positions LEFT JOIN one USING (row)
        ORDER BY row
        """,
        [colour],
    ).fetchnumpy()
    values = np.asarray(found["value"], np.float64)
    known_values = np.sort(values[np.isfinite(values)])
    ranks = np.searchsorted(known_values, values) / max(1, len(known_values) - 1)
    colours = np.where(np.isfinite(values), 65534 * ranks, MISSING).round().astype(np.uint16)
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    quantiles = np.quantile(known_values, shares).tolist() if len(known_values) else []
    legend = [{"name": f"{share:g}", "value": value} for share, value in zip(shares, quantiles, strict=False)]
    return MapPoints(_places(found), colours, legend)


def _by_category(opened: OpenDataset, categories: str) -> MapPoints:
    coded = f"""
        WITH of_rows AS ({categories}),
        counted AS (
            SELECT category, count(*) AS rows,
                least(row_number() OVER (ORDER BY count(*) DESC, category) - 1, {MOST_COLOURS}) AS colour
            FROM positions JOIN of_rows USING (row) GROUP BY category
        )
    """  # noqa: S608 - our own text
    found = opened.connection.execute(
        f"""
        {coded} SELECT x, y, coalesce(colour, {MOST_COLOURS + 1})::USMALLINT AS colour
        FROM positions LEFT JOIN of_rows USING (row) LEFT JOIN counted USING (category) ORDER BY row
        """  # noqa: S608 - our own text
    ).fetchnumpy()
    names = opened.query(
        f"""
        {coded} SELECT colour, min(category) AS name, sum(rows)::BIGINT AS rows FROM counted GROUP BY colour
        ORDER BY colour
        """  # noqa: S608
    )
    colours = np.asarray(found["colour"], np.uint16)
    legend = [{"name": one["name"], "rows": one["rows"]} for one in names if one["colour"] < MOST_COLOURS]
    # Colours are numbers of entries, so both of these close up behind the last category.
    others, none = (int((colours == MOST_COLOURS + more).sum()) for more in (0, 1))
    last = len(legend)
    colours = np.where(colours >= MOST_COLOURS, last + (colours > MOST_COLOURS), colours).astype(np.uint16)
    legend += [{"name": "all others", "rows": others}, {"name": "none", "rows": none}]
    return MapPoints(_places(found), colours, legend)


def _places(found: Any) -> NDArray[np.float32]:
    return np.stack([np.asarray(found["x"], np.float32), np.asarray(found["y"], np.float32)], axis=1)


def parse_polygon(text: str) -> NDArray[np.float64]:
    """Read the corners of a polygon: `x,y` each, separated by blanks.

    Returns
    -------
    float64, shape (k, 2).

    Raises
    ------
    InputError
        There are fewer than 3 or more than 200, or one is no pair of finite numbers.
    """
    corners = []
    for number, part in enumerate(text.split(), 1):
        try:
            x, y = map(float, part.split(","))
        except ValueError as error:
            raise InputError(
                f"Expected `x,y` as corner {number} of the polygon, found {part[:40]!r}.",
                remedy="Separate corners by blanks.",
            ) from error
        corners.append((x, y))
    polygon = np.array(corners, dtype=np.float64).reshape(-1, 2)
    if not 3 <= len(polygon) <= MOST_VERTICES or not np.isfinite(polygon).all():
        raise InputError(
            f"Expected a polygon of 3 to {MOST_VERTICES} corners with finite numbers, found {len(polygon)}.",
            remedy="Draw another one.",
        )
    return polygon


def points_inside(places: NDArray[np.float32], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points lie inside a polygon, by the even-odd rule.

    Parameters
    ----------
    places
        float32, shape (n, 2).
    polygon
        Corners in order: float64, shape (k, 2); the last is joined to the first.

    Returns
    -------
    bool, shape (n,).
    """
    x, y = places[:, 0].astype(np.float64), places[:, 1].astype(np.float64)
    inside = np.zeros(len(places), dtype=bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        crosses = (y1 > y) != (y2 > y)
        inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside


def select_on_map(opened: OpenDataset, polygon: NDArray[np.float64]) -> dict[str, Any]:
    """Rows inside a polygon, and how they differ from all rows of the map.

    Parameters
    ----------
    opened
        The data set.
    polygon
        As `parse_polygon` reads it.

    Returns
    -------
    ``rows``: how many; ``all_rows`` of the map; ``labels``: ``label``, ``rows``, ``share`` among the selected
    rows with a label and ``share_of_all``, the most frequent first, at most 10; ``findings`` by kind: how
    many of the rows are in one; ``first``: at most 1,000 row numbers, by their ranking score.
    """
    import pyarrow as pa

    found = opened.connection.execute("SELECT row, x, y FROM positions ORDER BY row").fetchnumpy()
    rows = np.asarray(found["row"], np.int64)[points_inside(_places(found), polygon)]
    opened.connection.register("inside", pa.table({"row": rows}))
    try:
        return {
            "rows": len(rows),
            "all_rows": len(found["row"]),
            "labels": _labels(opened),
            "findings": _findings(opened),
            "first": _ranked(opened),
        }
    finally:
        opened.connection.unregister("inside")


def _labels(opened: OpenDataset) -> list[dict[str, Any]]:
    return opened.query(
        """
        WITH counted AS (SELECT label, count(*) AS n FROM inside JOIN labels USING (row) GROUP BY label),
        everywhere AS (SELECT label, count(*) AS n FROM positions JOIN labels USING (row) GROUP BY label)
        SELECT label, counted.n AS rows, counted.n / (SELECT sum(n) FROM counted) AS share,
            everywhere.n / (SELECT sum(n) FROM everywhere) AS share_of_all
        FROM counted JOIN everywhere USING (label) ORDER BY rows DESC, label LIMIT 10
        """
    )


def _findings(opened: OpenDataset) -> dict[str, int]:
    found = opened.query(
        """
        SELECT kind, count(DISTINCT row) AS rows
        FROM (SELECT kind, unnest(rows) AS row FROM findings) SEMI JOIN inside USING (row)
        GROUP BY kind ORDER BY rows DESC, kind
        """
    )
    return {one["kind"]: one["rows"] for one in found}


def _ranked(opened: OpenDataset) -> list[int]:
    kind = ranking_score(opened)
    found: Sequence[dict[str, Any]] = opened.query(
        f"""
        WITH ranked AS (SELECT row, value FROM scores WHERE kind = $kind)
        SELECT row FROM inside LEFT JOIN ranked USING (row) ORDER BY value DESC NULLS LAST, row
        LIMIT {MOST_LINES}
        """,  # noqa: S608 - our own number
        {"kind": kind or ""},
    )
    return [one["row"] for one in found]
