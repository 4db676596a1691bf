"""Tables of rows with review in place: findings, classes, slices, what to label next; and one row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from debugger.queries import get_row, list_findings, suggest
from debugger.views.classes import confused_rows, confusion, list_slices, slice_rows
from debugger.views.rows import finding_rows, row_lines
from embup_core.debugging.kinds import FINDING_KINDS, SCORE_KINDS
from embup_core.errors import InputError
from serving.access.sessions import Viewer
from serving.actions.debugging import not_found, read_dataset
from serving.pages.charts import LEFT, RIGHT, WIDTH, Panel, round_ticks
from serving.pages.debugger.datasets import kinds_to_look_at
from serving.pages.debugger.frame import PAGE_ROWS, PATH, dataset_page, frame_of
from serving.services import Services

if TYPE_CHECKING:
    from debugger.reading import OpenDataset

Start = Annotated[int, QueryParameter(ge=0, le=2**40)]
Text = Annotated[str, QueryParameter(max_length=1000)]
DOTS: Final = 40
ROWS_OF_FINDING: Final = 3  # that a list of findings shows


class TablePages(Controller):
    """The pages with tables of rows."""

    path = f"{PATH}/{{name:str}}"
    include_in_schema = False
    opt = {"access": "read", "page": True}  # noqa: RUF012 - Litestar's own attribute

    @get("/findings")
    async def findings(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        kind: Annotated[str, QueryParameter(max_length=60)] = "",
        decided: Annotated[bool, QueryParameter()] = False,
        after: Start = 0,
    ) -> Response[str]:
        """List findings, of one kind if that is asked for, with a form for the first row of each."""

        def read(opened: OpenDataset) -> dict[str, Any]:
            kinds = opened.once("kinds", lambda: kinds_to_look_at(opened))
            if kind and kind not in {one["kind"] for one in kinds}:
                raise not_found(f"There are no findings of the kind {kind!r}.")
            found = list_findings(
                opened, kind=kind or None, decided=decided, limit=PAGE_ROWS + 1, after=after
            )
            shown = found[:PAGE_ROWS]
            lines = {
                line["row"]: line for line in row_lines(opened, [r for f in shown for r in f["rows"][:3]])
            }
            return {
                "frame": frame_of(opened), "kinds": kinds, "findings": shown, "lines": lines,
                "following": shown[-1]["finding"] if len(found) > PAGE_ROWS else None,
            }  # fmt: skip

        found = await read_dataset(services, name, read, analysed=True)
        return dataset_page(
            "findings.html", request, viewer, found.pop("frame"), tab="/findings", title="Findings",
            kind=kind, decided=decided, after=after, meaning=FINDING_KINDS.get(kind, ""), **found,
        )  # fmt: skip

    @get("/findings/{finding:int}")
    async def finding(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        finding: FromPath[int],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        start: Start = 0,
    ) -> Response[str]:
        """Show one finding with its rows."""

        def read(opened: OpenDataset) -> dict[str, Any]:
            found = finding_rows(opened, finding, start=start, limit=PAGE_ROWS) if finding < 2**53 else None
            if found is None:
                raise not_found(f"There is no finding {finding}.")
            figures = {
                key: value
                for key, value in json.loads(found["evidence"]).items()
                if isinstance(value, int | float | str | bool)
            }
            return {
                "frame": frame_of(opened), "lead": found["suggestion"], "heading": found["title"],
                "note": FINDING_KINDS.get(found["kind"], ""), "figures": figures,
                "lines": row_lines(opened, found["rows"]), "row_count": found["row_count"],
            }  # fmt: skip

        found = await read_dataset(services, name, read, analysed=True)
        return self._rows(request, viewer, found, tab="/findings", start=start, title=f"Finding {finding}")

    @get("/rows/{row:int}")
    async def row(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        row: FromPath[int],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
    ) -> Response[str]:
        """Show one row with everything."""

        def read(opened: OpenDataset) -> dict[str, Any]:
            try:
                found = get_row(opened, row)
            except (InputError, OverflowError) as error:
                raise not_found(f"There is no row {row}.") from error
            return {"frame": frame_of(opened), "found": found, "line": row_lines(opened, [row])[0]}

        if row >= 2**53:
            raise not_found(f"There is no row {row}.")
        found = await read_dataset(services, name, read)
        return dataset_page(
            "row.html", request, viewer, found.pop("frame"), tab="/findings", title=f"Row {row:,}",
            meanings=SCORE_KINDS, **found,
        )  # fmt: skip

    @get("/classes")
    async def classes(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        label: Text = "",
        predicted: Text = "",
        start: Start = 0,
    ) -> Response[str]:
        """Show which classes are taken for each other; the rows of one cell if that is asked for."""

        def read(opened: OpenDataset) -> dict[str, Any]:
            found = {
                "frame": frame_of(opened),
                "confused": opened.once("confusion", lambda: confusion(opened)),
                "lines": [],
                "more": False,
            }
            if label and predicted:
                rows = confused_rows(opened, label, predicted, start=start, limit=PAGE_ROWS + 1)
                found |= {"lines": row_lines(opened, rows[:PAGE_ROWS]), "more": len(rows) > PAGE_ROWS}
            return found

        found = await read_dataset(services, name, read, analysed=True)
        return dataset_page(
            "classes.html", request, viewer, found.pop("frame"), tab="/classes", title="Classes",
            label=label, predicted=predicted, start=start, page_rows=PAGE_ROWS, **found,
        )  # fmt: skip

    @get("/slices")
    async def slices(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
    ) -> Response[str]:
        """Show the slices with their intervals."""

        def read(opened: OpenDataset) -> dict[str, Any]:
            found = list_slices(opened)
            return {"frame": frame_of(opened), "slices": found, "plots": _dot_plots(found)}

        found = await read_dataset(services, name, read, analysed=True)
        return dataset_page(
            "slices.html", request, viewer, found.pop("frame"), tab="/slices", title="Slices", **found
        )

    @get("/slices/{number:int}")
    async def slice(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        number: FromPath[int],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        start: Start = 0,
    ) -> Response[str]:
        """Show the rows of one slice."""

        def read(opened: OpenDataset) -> dict[str, Any]:
            found = slice_rows(opened, number, start=start, limit=PAGE_ROWS) if number < 2**53 else None
            if found is None:
                raise not_found(f"There is no slice {number}.")
            return {
                "frame": frame_of(opened),
                "heading": f'{found["partition"].capitalize()} "{found["name"]}"',
                "lead": "Look for wrong data among these rows; if there is none, add rows like them.",
                "note": f"Compared by {found['metric'].replace('_', ' ')}.", "figures": {},
                "lines": row_lines(opened, found["rows"]), "row_count": found["row_count"],
            }  # fmt: skip

        found = await read_dataset(services, name, read, analysed=True)
        return self._rows(request, viewer, found, tab="/slices", start=start, title=f"Slice {number}")

    @get("/next")
    async def label_next(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        count: Annotated[int, QueryParameter(ge=1, le=200)] = 25,
    ) -> Response[str]:
        """Show the rows to label next."""

        def read(opened: OpenDataset) -> dict[str, Any]:
            found = suggest(opened, count=count)
            reasons = {one["row"]: one for one in found}
            return {
                "frame": frame_of(opened), "lines": row_lines(opened, list(reasons)), "reasons": reasons,
            }  # fmt: skip

        found = await read_dataset(services, name, read, analysed=True)
        return dataset_page(
            "next.html", request, viewer, found.pop("frame"), tab="/next", title="Label next", count=count,
            **found,
        )  # fmt: skip

    @staticmethod
    def _rows(
        request: Request[Any, Any, Any],
        viewer: Viewer,
        found: dict[str, Any],
        *,
        tab: str,
        start: int,
        title: str,
    ) -> Response[str]:
        return dataset_page(
            "rows.html", request, viewer, found.pop("frame"), tab=tab, title=title, start=start,
            page_rows=PAGE_ROWS, **found,
        )  # fmt: skip


def _dot_plots(slices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Coordinates of a plot for each metric: a line with a dot and an interval for each slice."""
    plots = []
    for metric in dict.fromkeys(one["metric"] for one in slices):
        shown = [one for one in slices if one["metric"] == metric and one["value"] is not None][:DOTS]
        if not shown:
            continue
        marks = round_ticks(max(one["high"] or one["value"] for one in shown))
        left = LEFT + 200.0  # room for names

        def x(value: float | None, *, highest: float = marks[-1], left: float = left) -> float:
            return left + (WIDTH - RIGHT - left) * min(max(value or 0.0, 0.0), highest) / highest

        height = 22.0 * len(shown)
        panel = Panel.fitting(marks, top=8.0, height=height, x=x)
        plots.append(
            {
                "metric": metric,
                "height": height + 34,
                "bottom": panel.bottom,
                "rest": x(shown[0]["rest"]),
                "ticks": [{"at": x(tick), "label": f"{tick:g}"} for tick in marks],
                "dots": [
                    one | {
                        "y": 8.0 + 22 * place + 11, "x": x(one["value"]), "from": x(one["low"]),
                        "to": x(one["high"]),
                    }
                    for place, one in enumerate(shown)
                ],
            }
        )  # fmt: skip
    return plots
