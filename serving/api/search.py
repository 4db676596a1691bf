"""POST /v1/search: the nearest rows of an exported index, ahead of every batch."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from embup_core.stores.vectors import basis_difference, decoded_part, query_of_originals
from serving.description.operations import DescribedOperation, problems
from serving.problems.handlers import require_json
from serving.problems.problem import ProblemError
from serving.realtime.stages import STAGES_KEY
from serving.schemas.search import SearchAnswer, SearchRequest
from serving.services import Services

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.stores.faiss_folder import FaissIndex
    from embup_core.upsampler import Upsampler


class SearchController(Controller):
    """Search in the index that `EMBUP_SEARCH_INDEX` names."""

    path = "/v1/search"
    tags = ("realtime",)

    @post(
        opt={"access": "realtime"},
        status_code=200,
        guards=[require_json],
        operation_class=DescribedOperation,
        operation_id="search",
        summary="Find the nearest rows of an exported index",
        response_description="The nearest rows. A running batch is paused meanwhile.",
        responses=problems(409, 413, 415, 422, 429),
    )
    async def search(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[SearchRequest],
        services: NamedDependency[Services],
    ) -> SearchAnswer:
        """Search with an original, for which the decoder may need anchors, or with a short vector."""
        index = services.search_index
        if index is None:
            raise RuntimeError("the route is there only where an index is")
        upsampler = services.model.current()
        require_same_basis(index, upsampler)
        request.scope["state"][STAGES_KEY].parsed = perf_counter()
        return await asyncio.get_running_loop().run_in_executor(
            services.realtime_executor, lambda: _found(index, upsampler, data)
        )


def require_same_basis(index: FaissIndex, upsampler: Upsampler) -> None:
    """Check that queries of a decoder can be compared with the vectors of an index.

    Raises
    ------
    ProblemError
        They cannot.
    """
    if difference := basis_difference(index.state.space, upsampler):
        raise ProblemError(
            "index-of-another-basis",
            f"The index does not fit the decoder in service: {difference}.",
            remedy="Export the archive again with `embup export --recreate`, or put a version of the index's "
            "basis into service.",
        )


def _found(index: FaissIndex, upsampler: Upsampler, data: SearchRequest) -> SearchAnswer:
    space = index.state.space
    if (data.vector is None) == (data.short is None):
        found = "neither" if data.vector is None else "both"
        raise ProblemError(
            "malformed-request",
            f"Expected one of the fields `vector` and `short`, found {found}.",
            remedy="Send an original as `vector`, or a projected embedding as `short`.",
        )
    if data.vector is not None:
        query = query_of_originals(upsampler, space, _unit("vector", data.vector, upsampler.output_dims))
    else:
        z = _unit("short", data.short or [], upsampler.input_dims)
        query, _ = decoded_part(upsampler, space, z)
    places, products = index.search(query, data.k, exact=data.exact, where=data.filter)
    there = places[0] >= 0
    return SearchAnswer(
        index.ids(places[0]),
        [round(product, 6) for product in products[0][there].tolist()],
        index.payload(places[0]),
        upsampler.version,
        space.basis,
        space.basis_id,
    )


def _unit(name: str, values: list[float], dims: int) -> NDArray[np.float32]:
    """A query as a unit row: float32, shape (1, dims)."""
    if len(values) != dims:
        raise ProblemError(
            "malformed-request",
            f"{name}: expected {dims} numbers, found {len(values)}.",
            remedy=f"Send {dims} numbers.",
        )
    row = np.array([values], np.float64)
    largest = float(np.abs(row).max(initial=0))
    if not 0 < largest < np.inf:
        raise ProblemError(
            "bad-input", f"{name}: expected a direction, found only zeros.", remedy="Send another vector."
        )
    row /= largest  # squares of the largest numbers would be infinite
    unit: NDArray[np.float32] = (row / np.sqrt(np.square(row).sum())).astype(np.float32)
    return unit
