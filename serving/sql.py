"""POST /v1/sql: one SELECT on the published history, in a process of its own with a deadline."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import structlog
from litestar import Controller, MediaType, Request, Response, Router, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody

from embup_core.processes import ONE_MATH_THREAD
from serving.openapi import DescribedOperation, problems
from serving.problems import CLIENT_CLOSED_REQUEST, ProblemError, require_json
from serving.sql_process import Found, Question, Refused

if TYPE_CHECKING:
    from serving.settings import ServingSettings

log = structlog.get_logger("embup.serving")

# -P: a module of that name in the folder where the service was started is not meant.
COMMAND: Final = (sys.executable, "-P", "-m", "serving.sql_process")
# Nothing else of the service's environment, which may hold its keys.
INHERITED: Final = ("LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH")
MAX_ROWS: Final = 10_000
MAX_ANSWER_BYTES: Final = 4 << 20
MAX_STATEMENT_CHARACTERS: Final = 100_000
HEADER_BYTES: Final = 256 << 10  # a refusal may repeat the statement


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


class StatementRunner:
    """Runs statements, one at a time, each in a process that is gone when its answer is there.

    Parameters
    ----------
    settings
        Where the snapshot lies, and what a statement may take.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._snapshot = (settings.data / "history" / "history.duckdb").absolute()
        self._deadline_s = settings.sql_deadline_s
        self._memory_mb = settings.sql_memory_mb
        self._busy = False

    async def answer(self, statement: str) -> bytes:
        """Run a statement and give the body of its answer.

        Raises
        ------
        ProblemError
            Another one runs (429), it is refused, or it needs too much time or memory (422), or there is
            no snapshot (503).
        """
        if self._busy:
            raise ProblemError(
                "sql-busy",
                "Another statement runs, and one runs at a time.",
                remedy=f"Send it again; one takes at most {self._deadline_s:g} s.",
            )
        self._busy = True
        try:
            return await self._answer(statement)
        finally:
            self._busy = False

    async def _answer(self, statement: str) -> bytes:
        question = Question(
            statement=statement,
            snapshot=str(self._snapshot),
            memory_mb=self._memory_mb,
            deadline_s=self._deadline_s,
            max_rows=MAX_ROWS,
            max_bytes=MAX_ANSWER_BYTES,
        )
        process, connection = _started()
        answered = b""
        try:
            async with asyncio.timeout(self._deadline_s):
                answered = await _conversation(connection, msgspec.json.encode(question))
        except TimeoutError as error:
            raise ProblemError(
                "sql-deadline",
                f"The statement was not answered within {self._deadline_s:g} s, and was ended.",
                remedy="Ask for less, or with embup sql on the service's machine, which sets no deadline.",
            ) from error
        finally:
            process.kill()  # it has ended, or it has to
            code = await asyncio.get_running_loop().run_in_executor(None, process.wait)
        return _body(answered, code)


def _started() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the process; from the main thread, since the kernel ends it with the thread that started it."""
    ours, theirs = socket.socketpair()
    with theirs, ExitStack() as undone:
        undone.callback(ours.close)
        process = subprocess.Popen(  # noqa: S603 - our own words
            [*COMMAND, str(os.getpid())],
            env={name: os.environ[name] for name in INHERITED if name in os.environ} | dict(ONE_MATH_THREAD),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            process_group=0,  # a Ctrl-C at a terminal is the service's to hear
        )
        undone.pop_all()
    return process, ours


async def _conversation(connection: socket.socket, question: bytes) -> bytes:
    """Ask, and give all that is said until the other side ends; an endless one is cut."""
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        writer.write(question)
        writer.write_eof()
        answered = bytearray()
        while len(answered) <= MAX_ANSWER_BYTES + HEADER_BYTES and (part := await reader.read(1 << 20)):
            answered += part
        return bytes(answered)
    except ConnectionError:  # it died before it had heard all
        return b""
    finally:
        writer.transport.abort()


def _body(answered: bytes, code: int) -> bytes:
    line, _, body = answered.partition(b"\n")
    reply: Found | Refused | None = None
    with suppress(msgspec.MsgspecError):
        reply = msgspec.json.decode(line, type=Found | Refused)
    if isinstance(reply, Found) and len(body) == reply.body_bytes:
        return body
    if isinstance(reply, Refused):
        raise ProblemError(reply.kind, reply.detail, remedy=reply.remedy)
    log.warning("a statement ended its process", exit_code=code)
    raise ProblemError(
        "sql-died",
        "The process that ran the statement died under it, most likely for want of memory.",
        remedy="Ask for fewer rows or columns at a time.",
    )


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
