"""The OpenAPI description and its page, both served by the service itself: the page works without a network.

Swagger UI's files come from the package `offapi`, which carries them; they are read, not imported, because
importing it would render every page it knows.

`python -m serving.openapi` prints the description, as `openapi.json` has it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from litestar import Litestar, Response, Router, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPI,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
    Tag,
)
from litestar.params import FromPath

from embup_core.dims import INPUT_DIMS
from serving import examples
from serving.access import OPEN, needed_scope
from serving.problems import PROBLEM_JSON, Problem
from serving.schemas import BatchRequest, UpsampleRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar import Request
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

DOCS_PATH = "/docs"
FLOAT32_MAX = 3.4028234663852886e38
KEY_SCHEME = "apiKey"
ASSETS: Mapping[str, tuple[str, str]] = {
    "swagger-ui.css": ("swagger_style.css", "text/css"),
    "swagger-ui-bundle.js": ("swagger_bundle.js", "text/javascript"),
}
DESCRIPTION = """
Turns 32-number projected embeddings back into 1536-number unit vectors whose cosines are as close as can
be to those of the originals.

* **Realtime**: `POST /v1/upsample`. A running batch is paused while a realtime request is in flight.
* **Batches**: `POST /v1/batches` takes the path of a file of vectors and the path of the answer's file, on
  the service's machine: text, `.npy` or `.parquet`, by their endings. Relative paths start at the first
  folder of `EMBUP_BATCH_ROOTS` (by default the data folder). Every path must lie below one of those folders,
  where no link is followed, and outside the folders that hold the service's own state. The output appears
  when it is complete. Until then it grows beside its place: names that end in `.part` and `.errors.jsonl` are
  reserved for that, and a batch is refused where a `.part` of its output's name lies already.
* **API keys**: a service that has them asks for `Authorization: Bearer <key>`. On this page the button
  *Authorize* takes one, and keeps it until the page is left.
* **Errors** are problem+json (RFC 9457): `detail` says what was expected and found, `remedy` what to do.
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>embup API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}/assets/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="{root}/assets/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{
  url: "{root}/openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null,
  tryItOutEnabled: true, defaultModelsExpandDepth: 0
}});
</script>
</body>
</html>
"""


class SwaggerPage(OpenAPIRenderPlugin):
    """Swagger UI from the service's own files."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """Give the page; the description is fetched by it."""
        return PAGE.format(root=DOCS_PATH).encode()


@get(
    f"{DOCS_PATH}/assets/{{name:str}}",
    include_in_schema=False,
    opt={"access": OPEN},
    sync_to_thread=True,
    cache_control=CacheControlHeader(max_age=86400, public=True),
)
def docs_asset(name: FromPath[str]) -> Response[bytes]:
    """Serve one of Swagger UI's files."""
    if name not in ASSETS:
        raise NotFoundException
    file, media_type = ASSETS[name]
    spec = find_spec("offapi")
    if spec is None or not spec.submodule_search_locations:
        raise NotFoundException
    content = (Path(next(iter(spec.submodule_search_locations))) / file).read_bytes()
    return Response(content, media_type=media_type)


@dataclass
class DescribedOperation(Operation):
    """Adds the examples, by operation id, where the page offers them to be tried and read."""

    def __post_init__(self) -> None:
        """Complete the description of the request and of the answer."""
        operation_id = self.operation_id or ""
        if isinstance(self.request_body, RequestBody) and operation_id in examples.REQUESTS:
            _exemplify(self.request_body.content["application/json"], examples.REQUESTS[operation_id])
        if operation_id in examples.ANSWERS:
            _exemplify(self.answer("application/json"), examples.ANSWERS[operation_id])
        for status, answer in (self.responses or {}).items():
            if int(status) in examples.PROBLEMS and isinstance(answer, OpenAPIResponse) and answer.content:
                _exemplify(answer.content[PROBLEM_JSON], examples.PROBLEMS[int(status)])

    def answer(self, media_type: str) -> OpenAPIMediaType:
        """Give the description of the successful answer's body."""
        content = self.success.content
        if content is None:
            raise TypeError(f"{self.operation_id} has no answer")
        return content[media_type]

    @property
    def success(self) -> OpenAPIResponse:
        """The description of the successful answer."""
        found = next(answer for status, answer in (self.responses or {}).items() if status.startswith("2"))
        if not isinstance(found, OpenAPIResponse):
            raise TypeError(f"{self.operation_id} refers to its answer")
        return found


@dataclass
class FollowOperation(DescribedOperation):
    """Says what one event of the stream is."""

    def __post_init__(self) -> None:
        """Complete the description of the answer."""
        super().__post_init__()
        self.answer("text/event-stream").schema = Schema(
            type=OpenAPIType.OBJECT,
            required=["event", "data"],
            properties={
                "event": Schema(const="status"),
                "data": Schema(
                    type=OpenAPIType.STRING,
                    content_media_type="application/json",
                    content_schema=Reference(ref="#/components/schemas/BatchStatus"),
                ),
            },
        )


@dataclass
class UpsampleOperation(DescribedOperation):
    """Adds the second media type of the answer."""

    raw_headers: ClassVar[dict[str, str]] = {
        "Embup-Model-Version": "Version of the decoder that answered; on raw answers.",
        "Embup-Rows": "Rows in the body; on raw answers.",
        "Embup-Dims": "Numbers in a row; on raw answers.",
        "Embup-Confidence": "The rows' confidences, separated by commas; on raw answers.",
    }

    def __post_init__(self) -> None:
        """Complete the description of the answer."""
        super().__post_init__()
        success = self.success
        success.content = (success.content or {}) | {
            "application/octet-stream": OpenAPIMediaType(
                schema=Schema(
                    type=OpenAPIType.STRING,
                    content_media_type="application/octet-stream",
                    description="Rows of little-endian float32, one after the other.",
                )
            )
        }
        success.headers = {
            name: OpenAPIHeader(description=text, schema=Schema(type=OpenAPIType.STRING))
            for name, text in self.raw_headers.items()
        }
        success.headers["Embup-Normalised"] = OpenAPIHeader(
            description="How many of the rows had another length than 1 (by more than 0.001); absent when "
            "none had. Only a row's direction counts: it is made unit before it is decoded.",
            schema=Schema(type=OpenAPIType.INTEGER, minimum=1),
        )


def _exemplify(described: OpenAPIMediaType, found: Mapping[str, Any]) -> None:
    described.examples = {name: Example(summary=name, value=value) for name, value in found.items()}


def state_shapes(described: OpenAPI, *, max_rows: int) -> None:
    """Say how long the lists of the realtime request are, and that no request has fields besides its own.

    The controller checks these, with messages that say where and what it found; the generated description
    does not know of them.
    """
    schemas = described.components.schemas
    for closed in (UpsampleRequest, BatchRequest):
        schemas[closed.__name__].additional_properties = False
    request = schemas[UpsampleRequest.__name__]
    nothing = Schema(type=OpenAPIType.NULL)
    request.one_of = [
        Schema(required=["embedding"], properties={"embeddings": nothing, "embedding": _not_null()}),
        Schema(required=["embeddings"], properties={"embedding": nothing, "embeddings": _not_null()}),
    ]
    fields = request.properties or {}
    embedding, embeddings = _list_of(fields["embedding"]), _list_of(fields["embeddings"])
    embeddings.min_items, embeddings.max_items = 1, max_rows
    for row in (embedding, embeddings.items):
        if not isinstance(row, Schema):
            raise TypeError("a row is not described in place")
        row.min_items = row.max_items = INPUT_DIMS
        row.contains = Schema(schema_not=Schema(const=0))
        if isinstance(row.items, Schema):
            row.items.minimum, row.items.maximum = -FLOAT32_MAX, FLOAT32_MAX
    for kind in getattr((schemas[BatchRequest.__name__].properties or {})["max_bad_rows"], "one_of", ()):
        if isinstance(kind, Schema) and kind.type == OpenAPIType.NUMBER:
            kind.minimum = 0


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


def _no_page_of_its_own(response: Response[Any]) -> Response[Any]:
    """Let Litestar's own page for unknown addresses below the docs be a problem like any other."""
    if response.status_code == HTTPStatus.NOT_FOUND:
        raise NotFoundException
    return response


def _not_null() -> Schema:
    return Schema(type=OpenAPIType.ARRAY)


def _list_of(described: Schema | Reference) -> Schema:
    """Give the list among the kinds that a field may have."""
    kinds = described.one_of or () if isinstance(described, Schema) else ()
    return next(kind for kind in kinds if isinstance(kind, Schema) and kind.items)


# What any request may be answered with: broken or slow HTTP, a foreign page, another host's name, a fault
# of ours.
_ALWAYS = (400, 403, 408, 414, 421, 431, 500, 503)


def problems(*statuses: int, keyed: bool = True) -> dict[int, ResponseSpec]:
    """Describe the errors an operation may answer with, besides those that any may.

    Parameters
    ----------
    statuses
        Its own.
    keyed
        Whether it asks for an API key.
    """
    return {
        status: ResponseSpec(
            Problem,
            description=HTTPStatus(status).phrase,
            media_type=PROBLEM_JSON,
            generate_examples=False,
        )
        for status in sorted({*_ALWAYS, *statuses, *((401,) if keyed else ())})
    }


def openapi_config() -> OpenAPIConfig:
    """Describe the API."""
    return OpenAPIConfig(
        title="embup",
        version=version("embup"),
        description=DESCRIPTION,
        openapi_router=Router(
            DOCS_PATH,
            route_handlers=[],
            include_in_schema=False,
            opt={"access": OPEN},
            after_request=_no_page_of_its_own,
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
        render_plugins=[SwaggerPage(), JsonRenderPlugin(path="/openapi.json")],
        tags=[
            Tag("realtime", "One embedding at once, or a few."),
            Tag("batches", "Files of any length, in the background."),
            Tag("models", "Published decoders."),
            Tag("operations", "Health and metrics. They never hold the gate."),
        ],
        use_handler_docstrings=True,
    )


def openapi_file() -> str:
    """Write the description of a service with default settings, whatever is set on this machine.

    Nothing is opened or listened on for it.
    """
    from serving.services import Services
    from serving.settings import ServingSettings
    from serving.wiring import assemble

    class Defaults(ServingSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],  # noqa: ARG003  the base class names them so
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    with tempfile.TemporaryDirectory() as folder:
        app = assemble(Services(Defaults(data=Path(folder), registry=Path(folder) / "registry")))
    return json.dumps(app.openapi_schema.to_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_file())
