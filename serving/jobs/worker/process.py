"""The worker as the service sees it: started, sent commands, frozen, thawed, and reaped.

See `serving.jobs.worker.main` for what runs in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from embup_core.files.processes import ONE_MATH_THREAD
from serving.jobs.worker import protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

# -P: a module of that name in the folder where the service was started is not meant.
COMMAND: Final = (sys.executable, "-P", "-m", "serving.jobs.worker.main")
LONGEST_LINE_BYTES: Final = 1 << 20
HUNG_UP_S: Final = 2.0
ENDED_WITHOUT_HELPER: Final = 3  # the exit code of a worker that lost a helper


class WorkerDiedError(Exception):
    """The worker process ended unexpectedly."""


class WorkerProcess:
    """One worker process.

    `freeze` and `thaw` stop and continue it with its helpers, wherever they are, at once.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._reaping = False
        self._ended = False

    @classmethod
    async def start(cls, log_format: str, log_level: str, descriptors: Sequence[int] = ()) -> WorkerProcess:
        """Start a worker, from the main thread: the kernel ends it when the thread that started it ends.

        Parameters
        ----------
        log_format, log_level
            As in the settings.
        descriptors
            What it inherits, under the same numbers.
        """
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as undone:
            undone.callback(ours.close)
            # Not through the event loop, which would be woken by each stop of the child.
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - returns when the child is there; our own words
                [*COMMAND, str(theirs.fileno()), str(os.getpid()), log_format, log_level],
                env=os.environ | ONE_MATH_THREAD,
                pass_fds=[theirs.fileno(), *descriptors],
                process_group=0,
                stdin=subprocess.DEVNULL,
            )
            undone.callback(process.wait)
            undone.callback(process.kill)
            with suppress(OSError):  # its own wish to yield to others comes after its imports
                os.setpriority(os.PRIO_PROCESS, process.pid, 19)
            worker = cls(process)
            worker._reader, worker._writer = await asyncio.open_connection(
                sock=ours, limit=LONGEST_LINE_BYTES
            )
            undone.pop_all()
        return worker

    @property
    def pid(self) -> int:
        """The process id; also the id of the group that its helpers are in."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether the process is gone, noticed or not."""
        if self._ended:
            return True
        # Without reaping it: until then its id is not reused.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def freeze(self) -> None:
        """Stop the worker and its helpers in the middle of whatever they do."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume them."""
        self._signal(signal.SIGCONT)

    def tell(self, command: protocol.Command) -> None:
        """Send a command."""
        self._writer.write(protocol.encode(command))

    async def hear(self) -> protocol.Reply:
        """Wait for an answer, whichever it is.

        Raises
        ------
        WorkerDiedError
            The worker is gone.
        """
        try:
            line = await self._reader.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise WorkerDiedError(await self._reap())
        return protocol.decode_reply(line)

    async def ask(self, command: protocol.Command) -> protocol.Reply:
        """Send a command and wait for its answer.

        Raises
        ------
        WorkerDiedError
            The worker is gone.
        Exception
            What went wrong in the worker.
        """
        self.tell(command)
        reply = await self.hear()
        if isinstance(reply, protocol.Failed):
            raise reply.error()
        return reply

    async def end(self) -> None:
        """Let the worker end: at once if it has nothing to do; again is harmless."""
        if self._ended:
            return
        self.kill()
        await self._reap()

    def kill(self) -> None:
        """End it wherever it is. What it has made durable stays."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # Once it is being reaped, its id may be given to another process at any moment.
        if not self._reaping:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _reap(self) -> str:
        """Wait for the end and say how it came."""
        loop = asyncio.get_running_loop()
        self._reaping = True
        try:
            # One that has hung up is about to end by itself, and its helpers with it.
            code = await loop.run_in_executor(None, self._process.wait, HUNG_UP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # it exists: it has not been reaped
            code = await loop.run_in_executor(None, self._process.wait)
        self._ended = True
        self._writer.close()
        if code == ENDED_WITHOUT_HELPER:
            return "lost a helper process, which was killed or ended"
        if code >= 0:
            return f"ended with exit code {code}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"
