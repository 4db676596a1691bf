"""What people decided about the rows of a data set, and exports with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Stream

from debugger.exports import DEFAULT_COUNT
from debugger.reviews import Review, as_json
from serving.access.sessions import Viewer
from serving.actions.debugging import (
    blocks_of,
    make_export,
    read_dataset,
    store_reviews,
)
from serving.description.operations import DescribedOperation, problems
from serving.problems.handlers import require_json
from serving.schemas.debug import (
    DebugReview,
    DebugReviews,
    NewReviews,
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


class DebugReviewController(Controller):
    """Reviews and exports."""

    path = "/v1/debug/datasets"
    tags = ("debug",)
    opt = {"access": "read"}  # noqa: RUF012 - Litestar's own attribute

    @get(
        "/{name:str}/reviews",
        operation_class=DescribedOperation,
        operation_id="listReviews",
        summary="Reviews in the order of decision",
        responses=problems(404),
    )
    async def reviews(
        self,
        name: FromPath[str],
        services: NamedDependency[Services],
        after: Annotated[int, QueryParameter(ge=0, le=2**53, description="Only later ones.")] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=1000, description="Most entries to answer.")] = 100,
    ) -> DebugReviews:
        """Answer what people decided; undone decisions are in the list, and the undoing after them."""

        def read(opened: OpenDataset) -> DebugReviews:
            found = [one for one in opened.reviews if one.seq > after]
            more = found[limit - 1].seq if len(found) > limit else None
            return DebugReviews([stored_review(one) for one in found[:limit]], more)

        return await read_dataset(services, name, read)

    @post(
        "/{name:str}/reviews",
        status_code=201,
        opt={"access": "debug"},
        guards=[require_json],
        operation_class=DescribedOperation,
        operation_id="addReviews",
        summary="Decide about rows",
        response_description="Stored: they survive a crash of the service.",
        responses=problems(404, 409, 413, 415, 422),
    )
    async def review(
        self,
        name: FromPath[str],
        data: JSONBody[NewReviews],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
    ) -> DebugReviews:
        """Store up to 1,000 decisions, all or none. The imported data stays as it is; exports apply them."""
        reviews = [
            Review(
                row=one.row, action=one.action, label=one.label, note=one.note, version=one.version,
                reviewer=viewer.name or "api",
            )
            for one in data.reviews
        ]  # fmt: skip
        stored = await store_reviews(services, name, reviews, unchanged_since=data.unchanged_since)
        return DebugReviews([stored_review(one) for one in stored])

    @get(
        "/{name:str}/exports/{kind:str}",
        operation_class=DescribedOperation,
        operation_id="exportDebugDataset",
        summary="Download what was decided",
        media_type=OCTETS,
        responses={
            **problems(404, 409, 422),
            200: ResponseSpec(
                bytes, media_type=OCTETS, generate_examples=False, description="The file, with a name for it."
            ),
        },
    )
    async def export(
        self,
        name: FromPath[str],
        kind: FromPath[Literal["cleaned", "dropped", "annotate", "reviews"]],
        services: NamedDependency[Services],
        count: Annotated[
            int, QueryParameter(ge=1, le=10_000, description="Most rows of `annotate`.")
        ] = DEFAULT_COUNT,
    ) -> Stream:
        """Answer `cleaned`: the data set with its new labels, in its own format; `dropped`: row numbers.

        These are `.npy`. `annotate`: rows to label next, CSV. `reviews`: all decisions, CSV.
        """
        shown, file = await make_export(services, name, kind, count=count)
        return Stream(
            blocks_of(services, file),
            media_type=OCTETS,
            headers={"Content-Disposition": f'attachment; filename="{shown}"'},
        )


def stored_review(review: Review) -> DebugReview:
    """A review as it is answered."""
    at = datetime.fromisoformat(review.reviewed_at).replace(tzinfo=UTC)
    return DebugReview(**{**as_json(review), "reviewed_at": at})
