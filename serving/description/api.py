"""The OpenAPI description of the whole service, completed with what Litestar cannot know."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import (
    Components,
    OpenAPI,
    OpenAPIType,
    Operation,
    PathItem,
    Reference,
    Schema,
    SecurityScheme,
    Tag,
)

from serving.access.control import OPEN, needed_scope
from serving.realtime.answering import FLOAT32_MAX
from serving.schemas import BatchRequest, UpsampleRequest
from serving.schemas.debug import NewReview, NewReviews
from serving.schemas.search import SearchRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.openapi.plugins import OpenAPIRenderPlugin

DOCS_PATH = "/docs"
OPERATIONS = (
    "upsample", "search", "submitBatch", "getBatch", "listBatches", "followBatch", "cancelBatch",
    "listModels", "promoteModel", "rollBackModel", "reloadModel", "listDebugDatasets", "getDebugDataset",
    "listFindings", "getDebugRow", "addReviews", "listReviews", "suggestRows", "listSlices", "getDebugMap",
    "getDebugMapLegend", "selectOnMap", "compareAnalyses", "exportDebugDataset", "live", "ready", "sql",
)  # fmt: skip
"""Operations in the order in which people need them; the page shows them so."""
KEY_SCHEME = "apiKey"
DESCRIPTION = """
Turns projected embeddings of {input_dims} numbers back into unit vectors of {output_dims} numbers, whose
cosines are as close as can be to those of the originals.

* **Realtime**: `POST /v1/upsample`. A running batch is paused while a realtime request is in flight.
* **Batches**: `POST /v1/batches` takes the path of a file of vectors and the path of the answer's file, on
  the service's machine: text, `.npy` or `.parquet`, by their endings. Relative paths start at the first
  folder of `EMBUP_BATCH_ROOTS` (by default the data folder). Every path must lie below one of those folders,
  where no link is followed, and outside the folders that hold the service's own state. The output appears
  when it is complete. Until then it grows beside its place: names that end in `.part` and `.errors.jsonl` are
  reserved for that, and a batch is refused where a `.part` of its output's name lies already.
* **Dimensions** are those of the decoder in service; before there is one, those of the built-in sample.
  `GET /v1/models` lists those of every decoder.
* **API keys**: a service that has them asks for `Authorization: Bearer <key>`. On this page the button
  *Authorize* takes one, and keeps it until the page is left.
* **Errors** are problem+json (RFC 9457): `detail` says what was expected and found, `remedy` what to do.
"""


def state_shapes(described: OpenAPI, *, max_rows: int) -> None:
    """Say how many rows the realtime request takes, and that no request has fields besides its own.

    The controller checks these, with messages that say where and what it found; the generated description
    does not know of them.
    """
    schemas = described.components.schemas
    for closed in (UpsampleRequest, BatchRequest, NewReview, NewReviews):
        schemas[closed.__name__].additional_properties = False
    embedding, embeddings = _one_of_two(schemas[UpsampleRequest.__name__], "embedding", "embeddings")
    embeddings.min_items, embeddings.max_items = 1, max_rows
    rows = [embedding, embeddings.items]
    if SearchRequest.__name__ in schemas:  # only where the service has an index
        searched = schemas[SearchRequest.__name__]
        searched.additional_properties = False
        rows += _one_of_two(searched, "vector", "short")
    for row in rows:
        if not isinstance(row, Schema):
            raise TypeError("a row is not described in place")
        row.contains = Schema(schema_not=Schema(const=0))
        if isinstance(row.items, Schema):
            row.items.minimum, row.items.maximum = -FLOAT32_MAX, FLOAT32_MAX
    for kind in getattr((schemas[BatchRequest.__name__].properties or {})["max_bad_rows"], "one_of", ()):
        if isinstance(kind, Schema) and kind.type == OpenAPIType.NUMBER:
            kind.minimum = 0


def state_order(described: OpenAPI) -> None:
    """Put the addresses into the order of `OPERATIONS`; Litestar sorts them by their text."""

    def place(item: PathItem) -> int:
        operations = (item.get, item.post)
        ids = [one.operation_id for one in operations if one is not None and one.operation_id in OPERATIONS]
        return min((OPERATIONS.index(one) for one in ids), default=len(OPERATIONS))

    described.paths = dict(sorted((described.paths or {}).items(), key=lambda entry: place(entry[1])))


def state_access(app: Litestar) -> None:
    """Say of each operation which scope its key needs."""
    for route in app.routes:
        described = (app.openapi_schema.paths or {}).get(route.path_format)
        for handler in getattr(route, "route_handlers", ()):
            for method in handler.http_methods:
                operation = getattr(described, method.lower(), None)
                scope = needed_scope(handler)
                if isinstance(operation, Operation) and scope != OPEN:
                    operation.security = [{KEY_SCHEME: []}]
                    operation.description = (
                        f"{operation.description}\n\nWhere the service has API keys: scope `{scope}`."
                    )


def _one_of_two(request: Schema, first: str, second: str) -> tuple[Schema, Schema]:
    """Say that a request has one of two lists, and give both."""
    nothing, there = Schema(type=OpenAPIType.NULL), Schema(type=OpenAPIType.ARRAY)
    request.one_of = [
        Schema(required=[first], properties={second: nothing, first: there}),
        Schema(required=[second], properties={first: nothing, second: there}),
    ]
    fields = request.properties or {}
    return _list_of(fields[first]), _list_of(fields[second])


def _list_of(described: Schema | Reference) -> Schema:
    """Give the list among the kinds that a field may have."""
    kinds = described.one_of or () if isinstance(described, Schema) else ()
    return next(kind for kind in kinds if isinstance(kind, Schema) and kind.items)


def openapi_config(
    page: OpenAPIRenderPlugin,
    file: OpenAPIRenderPlugin,
    finish: Callable[[Response[Any]], Response[Any]] = lambda response: response,
) -> OpenAPIConfig:
    """Describe the API.

    Parameters
    ----------
    page
        Renders the page at `/docs`.
    file
        Renders the description as JSON.
    finish
        Completes the answers of both.
    """

    def completed(response: Response[Any]) -> Response[Any]:
        if response.status_code == HTTPStatus.NOT_FOUND:
            # Litestar has a page of its own for unknown addresses below; here that is a problem as any other.
            raise NotFoundException
        return finish(response)

    return OpenAPIConfig(
        title="embup",
        version=version("embup"),
        description=DESCRIPTION,
        openapi_router=Router(
            DOCS_PATH,
            route_handlers=[],
            include_in_schema=False,
            opt={"access": OPEN, "page": True},
            after_request=completed,
        ),
        components=Components(
            security_schemes={
                KEY_SCHEME: SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="An API key, where the service has keys; `embup keys new` makes one.",
                )
            }
        ),
        render_plugins=[page, file],
        tags=[
            Tag("realtime", "One embedding at once, or a few."),
            Tag("batches", "Files of any length, in the background."),
            Tag("models", "Published decoders."),
            Tag("debug", "Where a model is wrong, and whether it is the data's fault."),
            Tag("operations", "Health and metrics. They never hold the gate."),
        ],
        use_handler_docstrings=True,
    )
