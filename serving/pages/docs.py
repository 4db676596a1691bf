"""The API page: Swagger UI from the package `offapi`, so that it works without a network.

`offapi` is located, not imported: its import would render every page that it knows.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from litestar import MediaType, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.params import FromPath

from serving.access.control import OPEN
from serving.access.sessions import Sessions, viewer_of
from serving.description.api import DOCS_PATH, OPERATIONS
from serving.pages.layout import PAGE_HEADERS, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar import Request

ASSETS: Mapping[str, tuple[str, str]] = {
    "swagger-ui.css": ("swagger_style.css", "text/css"),
    "swagger-ui-bundle.js": ("swagger_bundle.js", "text/javascript"),
}
# Swagger UI sets styles on its elements, and its style sheet holds pictures.
POLICY: Final = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'"


class SwaggerPage(OpenAPIRenderPlugin):
    """Swagger UI from the service's own files.

    Parameters
    ----------
    sessions
        Of browsers: the page shows who looks at it.
    """

    def __init__(self, sessions: Sessions) -> None:
        super().__init__(path="/")
        self._sessions = sessions

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """Give the page; the description is fetched by it."""
        viewer = viewer_of(request.scope, self._sessions)
        order = json.dumps(OPERATIONS)
        return render("docs.html", viewer, here=DOCS_PATH, title="API", root=DOCS_PATH, order=order).encode()


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


def with_policy(response: Response[Any]) -> Response[Any]:
    """Say what a browser may load for the page."""
    if response.media_type == MediaType.HTML:
        response.headers.update(PAGE_HEADERS | {"Content-Security-Policy": POLICY})
    return response
