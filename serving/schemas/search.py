"""Body and answer of POST /v1/search."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

MOST_FOUND: Final = 1000


class SearchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the two fields `vector` and `short`: what to search with."""

    vector: (
        Annotated[
            list[float],
            Meta(description="An original, from the embedding model: {output_dims} numbers, not all zero."),
        ]
        | None
    ) = None
    short: (
        Annotated[list[float], Meta(description="A projected embedding: {input_dims} numbers, not all zero.")]
        | None
    ) = None
    k: Annotated[int, Meta(ge=1, le=MOST_FOUND, description="How many rows to find.")] = 10
    filter: Annotated[
        dict[str, str | int | float | bool | None],
        Meta(description="Only rows whose columns have these values."),
    ] = {}
    exact: Annotated[
        bool, Meta(description="Compare each row, also where the index has a graph of neighbours.")
    ] = False


class SearchAnswer(Struct, frozen=True):
    """The rows found, the nearest first."""

    ids: list[int | str]
    cosines: Annotated[
        list[float], Meta(description="The best prediction of each row's cosine with the query.")
    ]
    payload: Annotated[
        list[dict[str, str | int | float | bool | None]],
        Meta(description="What was exported beside each vector: its confidence, and further columns."),
    ]
    model_version: Annotated[str, Meta(description="Version of the decoder in service.")]
    basis: Annotated[str, Meta(description="Axes of the vectors in the index.")]
    basis_id: Annotated[str, Meta(description="Basis of the decoder that made them.")]
