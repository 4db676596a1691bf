"""The data sets, what to do next with one of them, and two of its analyses side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from debugger.queries import analysis_row
from embup_core.debugging.kinds import FINDING_KINDS, SCORE_KINDS
from embup_core.debugging.versions import ALL_ROWS
from serving.access.sessions import Viewer
from serving.actions.debugging import (
    compare_analyses,
    describe_dataset,
    known_datasets,
    read_dataset,
)
from serving.pages.debugger.frame import PATH, dataset_page, frame_of
from serving.pages.layout import page
from serving.services import Services

if TYPE_CHECKING:
    from debugger.reading import OpenDataset

Version = Annotated[int | None, QueryParameter(ge=1, le=2**31 - 1)]


class DatasetPages(Controller):
    """The pages of data sets as a whole."""

    path = PATH
    include_in_schema = False
    opt = {"access": "read", "page": True}  # noqa: RUF012 - Litestar's own attribute

    @get()
    async def datasets(
        self, services: NamedDependency[Services], viewer: NamedDependency[Viewer]
    ) -> Response[str]:
        """List the data sets."""
        found = await known_datasets(services)
        return page("debugger/datasets.html", viewer, here=PATH, title="Data sets", datasets=found)

    @get("/{name:str}")
    async def to_do(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
    ) -> Response[str]:
        """Say what to do next, the most important first."""

        def read(opened: OpenDataset) -> dict[str, Any]:
            summary = {} if opened.version is None else analysis_row(opened)["summary"]
            return {
                "frame": frame_of(opened),
                "dataset": describe_dataset(opened),
                "summary": summary,
                "kinds": opened.once("kinds", lambda: kinds_to_look_at(opened)),
                "sources": opened.asked_sources(),
            }

        found = await read_dataset(services, name, read)
        return dataset_page("to_do.html", request, viewer, found.pop("frame"), tab="", title=name, **found)

    @get("/{name:str}/compare")
    async def compare_runs(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        before: Version = None,
        after: Version = None,
    ) -> Response[str]:
        """Show two analyses side by side; without a choice, the newest and the one before."""
        frame, versions = await read_dataset(
            services, name, lambda opened: (frame_of(opened), opened.folder.versions()), analysed=True
        )
        second = after or versions[-1]
        first = before or max((one for one in versions if one < second), default=second)
        compared = await compare_analyses(services, name, first, second)
        return dataset_page(
            "compare.html", request, viewer, frame, tab="", title="Two analyses",
            compared=compared, versions=versions, first=first, second=second, meanings=SCORE_KINDS,
            worse=[
                one | {"kind": kind}
                for kind, scores in compared["scores"].items()
                for one in scores["slices"]
                if one["worse"] and one["partition"] != ALL_ROWS
            ],
        )  # fmt: skip


def kinds_to_look_at(opened: OpenDataset) -> list[dict[str, Any]]:
    """Kinds of findings in the order of importance, with how many are still to be decided.

    Returns
    -------
    ``kind``, ``meaning``, ``severity``, ``findings``, ``open``: those with a row without a review, ``rows``,
    ``first`` and ``title`` and ``suggestion`` of the first.
    """
    found = opened.query(
        """
        WITH by_kind AS (
            SELECT kind, count(*) AS findings, min(finding) AS first, sum(len(rows))::BIGINT AS rows
            FROM findings GROUP BY kind
        ),
        -- Findings without a decided row are many, and those with one few: only these are looked into.
        decided AS (
            SELECT finding, any_value(kind) AS kind
            FROM (SELECT finding, kind, len(rows) AS row_count, unnest(rows) AS row FROM findings)
                SEMI JOIN decisions USING (row)
            GROUP BY finding HAVING count(*) = any_value(row_count)
        ),
        done AS (SELECT kind, count(*) AS n FROM decided GROUP BY kind)
        SELECT by_kind.kind, severity, by_kind.findings, first, by_kind.rows, title, suggestion,
            by_kind.findings - coalesce(n, 0) AS open
        FROM by_kind JOIN findings ON finding = first LEFT JOIN done ON done.kind = by_kind.kind
        ORDER BY first
        """
    )
    return [one | {"meaning": FINDING_KINDS.get(one["kind"], "")} for one in found]
