"""The OpenAPI description and its page, both served by the service itself: the page works without a network.

Swagger UI's files come from the package `offapi`, which carries them; they are read, not imported, because
importing it would render every page it knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from litestar import Response, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import (
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
    Tag,
)
from litestar.params import FromPath

from embup_core.dims import INPUT_DIMS
from serving import examples
from serving.problems import PROBLEM_JSON, Problem
from serving.schemas import UpsampleRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar import Request

DOCS_PATH = "/docs"
ASSETS: Mapping[str, tuple[str, str]] = {
    "swagger-ui.css": ("swagger_style.css", "text/css"),
    "swagger-ui-bundle.js": ("swagger_bundle.js", "text/javascript"),
}
DESCRIPTION = """
Turns 32-number projected embeddings back into 1536-number unit vectors whose cosines are as close as can
be to those of the originals.

* **Realtime**: `POST /v1/upsample`. A running batch is paused while a realtime request is in flight.
* **Batches**: `POST /v1/batches` takes the paths of a text file in and a text file out, on the service's
  machine. Relative paths start at the first folder of `EMBUP_BATCH_ROOTS` (by default the data folder),
  and every path must lie in one of those folders after links are followed, outside the folders that hold
  the service's own state. The output appears when it is complete. Until then it grows beside its
  place: names that end in `.part` and `.errors.jsonl` are reserved for that, and a file `<output>.part` or
  `<output>.errors.jsonl.part` that no running batch holds is removed when a batch to `<output>` starts.
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


def _exemplify(described: OpenAPIMediaType, found: Mapping[str, Any]) -> None:
    described.examples = {name: Example(summary=name, value=value) for name, value in found.items()}


def state_lengths(described: OpenAPI, *, max_rows: int) -> None:
    """Say how long the lists of the realtime request are.

    The controller checks these lengths, with messages that say where and what it found; the generated
    description does not know of them.
    """
    fields = described.components.schemas[UpsampleRequest.__name__].properties or {}
    embedding, embeddings = _list_of(fields["embedding"]), _list_of(fields["embeddings"])
    embeddings.min_items, embeddings.max_items = 1, max_rows
    for row in (embedding, embeddings.items):
        if not isinstance(row, Schema):
            raise TypeError("a row is not described in place")
        row.min_items = row.max_items = INPUT_DIMS


def _list_of(described: Schema | Reference) -> Schema:
    """Give the list among the kinds that a field may have."""
    kinds = described.one_of or () if isinstance(described, Schema) else ()
    return next(kind for kind in kinds if isinstance(kind, Schema) and kind.items)


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe the errors an operation may answer with."""
    return {
        status: ResponseSpec(
            Problem,
            description=HTTPStatus(status).phrase,
            media_type=PROBLEM_JSON,
            generate_examples=False,
        )
        for status in statuses
    }


def openapi_config() -> OpenAPIConfig:
    """Describe the API."""
    return OpenAPIConfig(
        title="embup",
        version=version("embup"),
        description=DESCRIPTION,
        path=DOCS_PATH,
        render_plugins=[SwaggerPage(), JsonRenderPlugin(path="/openapi.json")],
        tags=[
            Tag("realtime", "One embedding at once, or a few."),
            Tag("batches", "Files of any length, in the background."),
            Tag("models", "Published decoders."),
            Tag("operations", "Health and metrics. They never hold the gate."),
        ],
        use_handler_docstrings=True,
    )
