"""The map of a data set, and the rows that were selected on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlencode

import numpy as np
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect

from debugger.queries import analysis_row
from debugger.views.points import CATEGORIES, colour_kinds, map_points, parse_polygon, select_on_map
from debugger.views.rows import row_lines
from embup_core.debugging.kinds import SCORE_KINDS
from serving.access.sessions import Viewer
from serving.actions.debugging import read_dataset
from serving.pages.debugger.frame import PAGE_ROWS, PATH, dataset_page, frame_of
from serving.services import Services

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from debugger.reading import OpenDataset

CELLS: Final = (64, 40)

Edge = Annotated[float | None, QueryParameter(ge=-1e30, le=1e30)]


class MapPages(Controller):
    """The page of the map."""

    path = f"{PATH}/{{name:str}}/map"
    include_in_schema = False
    opt = {"access": "read", "page": True}  # noqa: RUF012 - Litestar's own attribute

    @get()
    async def map(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        colour: Annotated[str, QueryParameter(max_length=60)] = "label",
        polygon: Annotated[str, QueryParameter(max_length=6000)] = "",
        start: Annotated[int, QueryParameter(ge=0, le=1000)] = 0,
        left: Edge = None,
        right: Edge = None,
        bottom: Edge = None,
        top: Edge = None,
    ) -> Response[Any]:
        """Show the map; the rows inside a polygon of the address, if there is one."""
        if left is not None and right is not None and bottom is not None and top is not None:
            corners = f"{left!r},{bottom!r} {right!r},{bottom!r} {right!r},{top!r} {left!r},{top!r}"
            query = urlencode({"colour": colour, "polygon": corners})
            return Redirect(f"{request.url.path}?{query}#selected", status_code=303)
        wanted = parse_polygon(polygon) if polygon.strip() else None

        def read(opened: OpenDataset) -> dict[str, Any]:
            points = map_points(opened, colour)
            found: dict[str, Any] = {
                "frame": frame_of(opened), "legend": points.legend, "colours": colour_kinds(opened),
                "count": len(points.places), "cells": _cells(points.places), "selected": None, "lines": [],
                "note": (analysis_row(opened)["summary"].get("map") or {}).get("note", ""),
                "bounds": _bounds(points.places),
            }  # fmt: skip
            if wanted is not None:
                selected = select_on_map(opened, wanted)
                rows = selected["first"][start : start + PAGE_ROWS]
                found |= {"selected": selected, "lines": row_lines(opened, rows)}
            return found

        found = await read_dataset(services, name, read, analysed=True)
        return dataset_page(
            "map.html", request, viewer, found.pop("frame"), tab="/map", title="Map", colour=colour,
            polygon=polygon, start=start, page_rows=PAGE_ROWS, is_score=colour not in CATEGORIES,
            meanings=SCORE_KINDS, **found,
        )  # fmt: skip


def _bounds(places: NDArray[np.float32]) -> list[float]:
    """Left, right, bottom and top, with a margin."""
    if not len(places):
        return [0.0, 1.0, 0.0, 1.0]
    low, high = places.min(axis=0).astype(float), places.max(axis=0).astype(float)
    margin = 0.03 * np.maximum(high - low, 1e-6)
    low, high = low - margin, high + margin
    return [float(low[0]), float(high[0]), float(low[1]), float(high[1])]


def _cells(places: NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """How many points lie in each cell of a grid: column, row from above, and a share of the most, 0 to 1."""
    if not len(places):
        return []
    left, right, bottom, top = _bounds(places)
    rows = CELLS[1]
    counts, _, _ = np.histogram2d(
        places[:, 0], places[:, 1], bins=CELLS, range=((left, right), (bottom, top))
    )
    strength = np.sqrt(counts / counts.max())
    return [
        (int(column), rows - 1 - int(row), round(float(strength[column, row]), 2))
        for column, row in zip(*np.nonzero(counts), strict=True)
    ]
