"""Runs statements on the published history, each in a process of its own with a deadline."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from embup_core.files.processes import ONE_MATH_THREAD
from serving.problems.problem import ProblemError
from serving.sql.process import Found, Question, Refused

if TYPE_CHECKING:
    from serving.settings import ServingSettings

log = structlog.get_logger("embup.serving")

# -P: a module of that name in the folder where the service was started is not meant.
COMMAND: Final = (sys.executable, "-P", "-m", "serving.sql.process")
# Nothing else of the service's environment, which may hold its keys.
INHERITED: Final = ("LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "TMPDIR")
MAX_ROWS: Final = 10_000
MAX_ANSWER_BYTES: Final = 4 << 20
HEADER_BYTES: Final = 256 << 10  # a refusal may repeat the statement


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
