"""The map of a data set: points, colours, and the rows inside a polygon."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from debugger.queries import analysis_row
from debugger.views.points import colour_kinds, map_points, parse_polygon, select_on_map
from serving.actions.debugging import (
    read_dataset,
)
from serving.description.operations import DescribedOperation, problems
from serving.schemas.debug import (
    DebugLegend,
    DebugSelection,
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


class DebugMapController(Controller):
    """The map."""

    path = "/v1/debug/datasets"
    tags = ("debug",)
    opt = {"access": "read"}  # noqa: RUF012 - Litestar's own attribute

    @get(
        "/{name:str}/map",
        operation_class=DescribedOperation,
        operation_id="getDebugMap",
        summary="The map: a place and a colour for each row",
        media_type=OCTETS,
        response_description="x and y of all points, little-endian float32; then each one's colour, uint16.",
        responses=problems(404, 409, 422),
    )
    async def map(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        colour: Colour = "label",
        version: Version = None,
    ) -> Response[bytes]:
        """Answer all points, 10 bytes each, places first. With `If-None-Match`, 304 where nothing changed."""

        def read(opened: OpenDataset) -> tuple[str, bytes | None]:
            parts = (
                opened.name, opened.version, opened.described["imported_at"], colour,
                analysis_row(opened)["analysed_at"],
                opened.reviews[-1].seq if colour == "decision" and opened.reviews else 0,
            )  # fmt: skip
            tag = f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'
            if tag in request.headers.get("if-none-match", ""):
                return tag, None
            points = map_points(opened, colour)
            return tag, points.places.astype("<f4").tobytes() + points.colours.astype("<u2").tobytes()

        tag, body = await read_dataset(services, name, read, version=version, analysed=True)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if body is None:
            return Response(b"", status_code=304, headers=headers)
        return Response(body, media_type=OCTETS, headers=headers)

    @get(
        "/{name:str}/map/legend",
        operation_class=DescribedOperation,
        operation_id="getDebugMapLegend",
        summary="What the colours of the map mean",
        responses=problems(404, 409, 422),
    )
    async def legend(
        self,
        name: FromPath[str],
        services: NamedDependency[Services],
        colour: Colour = "label",
        version: Version = None,
    ) -> DebugLegend:
        """Answer the entries of the legend, and what other colours there are."""

        def read(opened: OpenDataset) -> DebugLegend:
            return DebugLegend(colour, map_points(opened, colour).legend, colour_kinds(opened))

        return await read_dataset(services, name, read, version=version, analysed=True)

    @get(
        "/{name:str}/map/selection",
        operation_class=DescribedOperation,
        operation_id="selectOnMap",
        summary="The rows inside a polygon of the map",
        responses=problems(404, 409, 422),
    )
    async def selection(
        self,
        name: FromPath[str],
        services: NamedDependency[Services],
        polygon: Annotated[
            str,
            QueryParameter(
                max_length=6000,
                description="Corners `x,y`, separated by blanks, 3 to 200, in the map's own coordinates.",
            ),
        ],
        version: Version = None,
    ) -> DebugSelection:
        """Answer how many rows there are inside, what is special about them, and the first 1,000."""
        corners = parse_polygon(polygon)

        def read(opened: OpenDataset) -> DebugSelection:
            return msgspec.convert(select_on_map(opened, corners), DebugSelection)

        return await read_dataset(services, name, read, version=version, analysed=True)
