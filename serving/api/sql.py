"""POST /v1/sql: one SELECT on the published history, in a process of its own with a deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from litestar import Controller, MediaType, Request, Response, Router, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody

from serving.description.operations import DescribedOperation, problems
from serving.problems.handlers import require_json
from serving.problems.problem import CLIENT_CLOSED_REQUEST
from serving.sql.runner import MAX_ANSWER_BYTES, MAX_ROWS, StatementRunner

if TYPE_CHECKING:
    from serving.settings import ServingSettings

MAX_STATEMENT_CHARACTERS: Final = 100_000


class SqlRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One statement."""

    statement: Annotated[
        str,
        msgspec.Meta(
            max_length=MAX_STATEMENT_CHARACTERS,
            description="One SELECT in DuckDB's SQL (also WITH, FROM, VALUES, SHOW TABLES, DESCRIBE and "
            "SUMMARIZE), on the tables batch_jobs and batch_events.",
        ),
    ]


class SqlColumn(msgspec.Struct, frozen=True):
    """One column of an answer."""

    name: str
    type: Annotated[str, msgspec.Meta(description="DuckDB's name of the type, such as VARCHAR.")]


class SqlAnswer(msgspec.Struct, frozen=True):
    """What the statement found."""

    columns: list[SqlColumn]
    rows: Annotated[
        list[list[Any]],
        msgspec.Meta(
            description="One list a row, in the order of the columns. Times are text in ISO 8601, intervals "
            "seconds, bytes text in hexadecimal; a number that is not finite is null."
        ),
    ]
    truncated: Annotated[bool, msgspec.Meta(description="Whether there are more rows than an answer takes.")]
    published_at: Annotated[str, msgspec.Meta(description="When the snapshot was published, UTC.")]
    snapshot_age_s: float


class SqlController(Controller):
    """Statements on the history."""

    path = "/v1/sql"
    tags = ("operations",)

    @post(
        status_code=200,
        guards=[require_json],
        opt={"access": "admin"},
        operation_class=DescribedOperation,
        operation_id="sql",
        summary="Ask the history of batches in SQL",
        response_description=f"At most {MAX_ROWS:,} rows and {MAX_ANSWER_BYTES >> 20} MiB.",
        responses=problems(400, 413, 415, 422, 429, 503),
    )
    async def ask(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[SqlRequest],
        statements: NamedDependency[StatementRunner],
    ) -> Response[SqlAnswer]:
        """Run one SELECT on the snapshot that is published, read-only; it reaches nothing else.

        It runs in a process of its own, with little memory and a deadline, at idle priority, and ends when
        the client hangs up. One runs at a time.
        """
        asking = asyncio.ensure_future(statements.answer(data.statement))
        leaving = asyncio.ensure_future(_hung_up(request))
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return Response(b"", status_code=CLIENT_CLOSED_REQUEST)  # type: ignore[arg-type]
            return Response(asking.result(), media_type=MediaType.JSON)  # type: ignore[arg-type]
        finally:
            leaving.cancel()
            asking.cancel()
            await asyncio.wait({asking, leaving})


async def _hung_up(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def sql_router(settings: ServingSettings) -> Router:
    """Give the one route, with what runs its statements."""
    runner = StatementRunner(settings)
    return Router(
        "/",
        route_handlers=[SqlController],
        dependencies={"statements": Provide(lambda: runner, sync_to_thread=False)},
        signature_types=[StatementRunner],
    )
