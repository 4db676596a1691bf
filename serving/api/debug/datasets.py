"""The data debugger: data sets, what was found in them, and what people decided about it."""

from __future__ import annotations

import json
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from debugger.queries import analysis_row, finding_counts, get_row, list_findings, suggest
from debugger.views.classes import list_slices
from embup_core.errors import InputError
from serving.actions.debugging import (
    compare_analyses,
    describe_dataset,
    known_datasets,
    not_found,
    read_dataset,
)
from serving.api.debug.reviews import stored_review
from serving.description.operations import DescribedOperation, problems
from serving.schemas.debug import (
    DebugComparison,
    DebugDataset,
    DebugDatasetDetails,
    DebugDatasetList,
    DebugFinding,
    DebugFindings,
    DebugRow,
    DebugSlice,
    DebugSlices,
    DebugSuggestion,
    DebugSuggestions,
    Severity,
)
from serving.services import Services

if TYPE_CHECKING:
    from debugger.reading import OpenDataset

T = TypeVar("T")
OCTETS: Final = "application/octet-stream"
MOST_ROWS: Final = 200

Version = Annotated[
    int | None, QueryParameter(ge=1, le=2**31 - 1, description="Which analysis; the newest without it.")
]
RowNumber = Annotated[int, QueryParameter(ge=0, le=2**53)]
Colour = Annotated[
    str,
    QueryParameter(
        max_length=60,
        description="What colours stand for: `label`, `usage`, `finding`, `decision` or a score.",
    ),
]


class DebugController(Controller):
    """The data debugger."""

    path = "/v1/debug/datasets"
    tags = ("debug",)
    opt = {"access": "read"}  # noqa: RUF012 - Litestar's own attribute

    @get(
        operation_class=DescribedOperation,
        operation_id="listDebugDatasets",
        summary="Imported data sets",
        responses=problems(),
    )
    async def datasets(self, services: NamedDependency[Services]) -> DebugDatasetList:
        """Answer every data set with the number of its findings by kind."""
        return DebugDatasetList([_dataset(one) for one in await known_datasets(services)])

    @get(
        "/{name:str}",
        operation_class=DescribedOperation,
        operation_id="getDebugDataset",
        summary="One data set",
        responses=problems(404),
    )
    async def dataset(
        self, name: FromPath[str], services: NamedDependency[Services], version: Version = None
    ) -> DebugDatasetDetails:
        """Answer a data set with the figures of its analysis."""

        def read(opened: OpenDataset) -> DebugDatasetDetails:
            summary = {} if opened.version is None else analysis_row(opened)["summary"]
            return DebugDatasetDetails(_dataset(describe_dataset(opened)), opened.version, summary)

        return await read_dataset(services, name, read, version=version)

    @get(
        "/{name:str}/findings",
        operation_class=DescribedOperation,
        operation_id="listFindings",
        summary="Findings, the most important first",
        responses=problems(404, 409),
    )
    async def findings(
        self,
        name: FromPath[str],
        services: NamedDependency[Services],
        kind: Annotated[str | None, QueryParameter(max_length=60, description="Only this kind.")] = None,
        severity: Annotated[Severity | None, QueryParameter(description="Only this severity.")] = None,
        decided: Annotated[
            bool, QueryParameter(description="Also findings whose rows all have a review.")
        ] = False,
        limit: Annotated[int, QueryParameter(ge=1, le=200, description="Most entries to answer.")] = 50,
        after: Annotated[
            int, QueryParameter(ge=0, le=2**53, description="`next_after` of the page before.")
        ] = 0,
        version: Version = None,
    ) -> DebugFindings:
        """Answer a page of findings; the next one begins after its last."""

        def read(opened: OpenDataset) -> DebugFindings:
            if kind is not None and kind not in finding_counts(opened):
                raise not_found(f"Analysis {opened.version} of {name} has no findings of the kind {kind!r}.")
            found = list_findings(
                opened, kind=kind, severity=severity, decided=decided, limit=limit + 1, after=after
            )
            shown = msgspec.convert(found[:limit], list[DebugFinding])
            more = shown[-1].finding if len(found) > limit else None
            return DebugFindings(opened.version or 0, shown, more)

        return await read_dataset(services, name, read, version=version, analysed=True)

    @get(
        "/{name:str}/rows/{row:int}",
        operation_class=DescribedOperation,
        operation_id="getDebugRow",
        summary="One row with everything",
        responses=problems(404),
    )
    async def row(
        self,
        name: FromPath[str],
        row: FromPath[int],
        services: NamedDependency[Services],
        version: Version = None,
    ) -> DebugRow:
        """Answer a row with its scores, predictions, neighbours, findings and reviews."""
        return await read_dataset(services, name, partial(read_row, row=row), version=version)

    @get(
        "/{name:str}/slices",
        operation_class=DescribedOperation,
        operation_id="listSlices",
        summary="Slices, the significantly worse ones first",
        responses=problems(404, 409),
    )
    async def slices(
        self,
        name: FromPath[str],
        services: NamedDependency[Services],
        worse: Annotated[bool, QueryParameter(description="Only significantly worse ones.")] = False,
        version: Version = None,
    ) -> DebugSlices:
        """Answer at most 200 slices with their intervals, corrected for how many were looked at."""

        def read(opened: OpenDataset) -> DebugSlices:
            found = msgspec.convert(list_slices(opened, worse=worse), list[DebugSlice])
            return DebugSlices(opened.version or 0, found)

        return await read_dataset(services, name, read, version=version, analysed=True)

    @get(
        "/{name:str}/suggestions",
        operation_class=DescribedOperation,
        operation_id="suggestRows",
        summary="Rows to label next",
        responses=problems(404, 409),
    )
    async def suggestions(
        self,
        name: FromPath[str],
        services: NamedDependency[Services],
        count: Annotated[int, QueryParameter(ge=1, le=1000, description="Most rows to answer.")] = 50,
        version: Version = None,
    ) -> DebugSuggestions:
        """Answer the rows that teach a classifier most, the most useful first."""

        def read(opened: OpenDataset) -> DebugSuggestions:
            return DebugSuggestions(msgspec.convert(suggest(opened, count=count), list[DebugSuggestion]))

        return await read_dataset(services, name, read, version=version, analysed=True)

    @get(
        "/{name:str}/comparison",
        operation_class=DescribedOperation,
        operation_id="compareAnalyses",
        summary="Two analyses side by side",
        responses=problems(404),
    )
    async def comparison(
        self,
        name: FromPath[str],
        services: NamedDependency[Services],
        before: Annotated[int, QueryParameter(ge=1, le=2**31 - 1, description="The earlier analysis.")],
        after: Annotated[int, QueryParameter(ge=1, le=2**31 - 1, description="The later one.")],
    ) -> DebugComparison:
        """Answer which scores, slices and findings got better and worse."""
        found = await compare_analyses(services, name, before, after)
        return msgspec.convert(json.loads(msgspec.json.encode(found)), DebugComparison)


def read_row(opened: OpenDataset, *, row: int) -> DebugRow:
    """Everything about a row; a 404 where there is none."""
    try:
        found = get_row(opened, row)
    except InputError as error:
        raise not_found(error.message) from error
    reviews = [stored_review(one) for one in opened.reviews if one.row == row]
    return msgspec.convert({**found, "reviews": reviews}, DebugRow)


def _dataset(described: dict[str, Any]) -> DebugDataset:
    times = {
        name: at.replace(tzinfo=UTC) if (at := described[name]) is not None else None
        for name in ("imported_at", "analysed_at")
    }
    return msgspec.convert({**described, **times}, DebugDataset)
