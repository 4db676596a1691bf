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
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Schema,
    Tag,
)
from litestar.params import FromPath

from serving import examples
from serving.problems import PROBLEM_JSON, Problem

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
  and every path must lie in one of those folders after links are followed. The output appears when it is complete.
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
class UpsampleOperation(Operation):
    """Adds what a handler's annotations cannot say: the second media type, and the examples of answers."""

    raw_headers: ClassVar[dict[str, str]] = {
        "Embup-Model-Version": "Version of the decoder that answered.",
        "Embup-Rows": "Rows in the body.",
        "Embup-Dims": "Numbers in a row.",
        "Embup-Confidence": "The rows' confidences, separated by commas.",
    }

    def __post_init__(self) -> None:
        """Complete the description of the 200 answer."""
        answer = (self.responses or {}).get("200")
        if not isinstance(answer, OpenAPIResponse) or answer.content is None:
            return
        answer.content["application/json"].examples = {
            "one": Example(summary="one embedding, shortened to 3 of 1536 numbers", value=examples.ONE_ANSWER)
        }
        answer.content["application/octet-stream"] = OpenAPIMediaType(
            schema=Schema(
                type=OpenAPIType.STRING,
                content_media_type="application/octet-stream",
                description="Rows of little-endian float32, one after the other.",
            )
        )
        answer.headers = {
            name: OpenAPIHeader(description=text, schema=Schema(type=OpenAPIType.STRING))
            for name, text in self.raw_headers.items()
        }


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
            Tag("operations", "Health and metrics. They never wait for the gate."),
        ],
        use_handler_docstrings=True,
    )
