"""The description's dimensions are those of the decoder in service, filled in when it is rendered.

Texts and examples of the description hold placeholders, because another decoder may be put into service at
any time. Without one the description states the dimensions of the built-in sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from litestar.openapi.plugins import JsonRenderPlugin

from embup_core.dims import DEFAULT_INPUT_DIMS, DEFAULT_OUTPUT_DIMS
from serving.description.examples import AN_EMBEDDING, ANOTHER_EMBEDDING, EMBEDDING_VALUES
from serving.schemas import UpsampleRequest
from serving.schemas.search import SearchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from litestar import Request

DEFAULT_DIMS: Final = (DEFAULT_INPUT_DIMS, DEFAULT_OUTPUT_DIMS)


def at_dims(described: Mapping[str, Any], *, input_dims: int, output_dims: int) -> dict[str, Any]:
    """A copy of the description for a decoder of these dimensions.

    Parameters
    ----------
    described
        An OpenAPI document with placeholders.
    input_dims, output_dims
        Numbers in a projected embedding and in a decoded vector.
    """
    embedding = [EMBEDDING_VALUES[place % len(EMBEDDING_VALUES)] for place in range(input_dims)]
    whole = {AN_EMBEDDING: embedding, ANOTHER_EMBEDDING: embedding[::-1]}

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {filled(key): filled(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [filled(value) for value in node]
        if isinstance(node, str):
            if node in whole:
                return whole[node]
            return node.replace("{input_dims}", str(input_dims)).replace("{output_dims}", str(output_dims))
        return node

    document: dict[str, Any] = filled(described)
    schemas = document["components"]["schemas"]
    fields = schemas[UpsampleRequest.__name__]["properties"]
    one, several = (_list_among(fields[name]["oneOf"]) for name in ("embedding", "embeddings"))
    rows = [(one, input_dims), (several["items"], input_dims)]
    if SearchRequest.__name__ in schemas:  # only where the service has an index
        fields = schemas[SearchRequest.__name__]["properties"]
        rows += [
            (_list_among(fields[name]["oneOf"]), dims)
            for name, dims in (("vector", output_dims), ("short", input_dims))
        ]
    for row, dims in rows:
        row["minItems"] = row["maxItems"] = dims
    return document


def _list_among(kinds: list[dict[str, Any]]) -> dict[str, Any]:
    return next(kind for kind in kinds if "items" in kind)


class DescriptionFile(JsonRenderPlugin):
    """Serves the description as JSON.

    Parameters
    ----------
    dims
        Returns input and output dimensions of the decoder in service, None without one.
    """

    def __init__(self, dims: Callable[[], tuple[int, int] | None]) -> None:
        super().__init__(path="/openapi.json")
        self._dims = dims
        self._rendered: tuple[tuple[int, int], bytes] | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Render for the decoder in service; once, until one of other dimensions replaces it."""
        dims = self._dims() or DEFAULT_DIMS
        if self._rendered is None or self._rendered[0] != dims:
            document = at_dims(openapi_schema, input_dims=dims[0], output_dims=dims[1])
            self._rendered = dims, self.render_json(request, document)
        return self._rendered[1]
