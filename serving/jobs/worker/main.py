"""The worker process: does the array work and the files of batches, as the service tells it over a socket.

    python -m serving.jobs.worker.main SOCKET PARENT LOG_FORMAT LOG_LEVEL

It has no event loop, no database and no say in the gate: the service stops and continues the whole process
with signals, which it does not notice. It takes only idle processor time, and ends with
the service, however that ends.

Checkpoints do not hold up the work: a thread brings what is written to disk while rows are answered.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embup_core.artifacts.registry import Registry
from embup_core.batch import BatchRun
from embup_core.batch.workers.pool import PoolWorkerDiedError
from embup_core.errors import EmbupError
from embup_core.files.processes import end_with_parent, yield_to_others
from embup_core.object_store import ObjectPath
from serving.jobs.confinement import Confinement
from serving.jobs.paths import resolve_input
from serving.jobs.worker import protocol
from serving.jobs.worker.process import ENDED_WITHOUT_HELPER
from serving.realtime.threads import limit_math_threads

if TYPE_CHECKING:
    from embup_core.batch import Checkpoint
    from embup_core.upsampler import Upsampler

RECEIVE_BYTES = 65_536


class WorkerLog:
    """The log, loaded when there is something to say: that takes as long as half of this process's start.

    Parameters
    ----------
    log_format, log_level
        As in the settings.
    """

    def __init__(self, log_format: str, log_level: str) -> None:
        self._settings = (log_format, log_level)
        self._batch: dict[str, str] = {}

    def name_batch(self, batch_request_id: str, model_version: str) -> None:
        """Say what following lines are about."""
        self._batch = {"batch_request_id": batch_request_id, "model_version": model_version}

    def error(self, event: str, **more: Any) -> None:
        """Write a line."""
        import structlog

        from serving.observability.logs import configure_logging

        configure_logging(*self._settings)
        structlog.get_logger("embup.serving.jobs.worker").error(event, **self._batch, **more)

    def write_the_end(self, *error: Any) -> None:
        """Write what ends this process; for `sys.excepthook`."""
        self.error("the batch worker ends by an error", exc_info=error)


class ServiceGoneError(Exception):
    """The service hung up in the middle of the work."""


class CommandLines:
    """The commands that arrive at a socket.

    Parameters
    ----------
    connection
        The socket to the service.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def wait(self) -> protocol.Command | None:
        """Return the next command; None when the service has hung up."""
        while b"\n" not in self._received:
            data = self._connection.recv(RECEIVE_BYTES)
            if not data:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return protocol.decode_command(line)

    def look(self) -> bool:
        """Whether `wait` would return at once, or soon."""
        return b"\n" in self._received or bool(select.select([self._connection], [], [], 0)[0])


class BackgroundSync:
    """Brings what a run has written to disk, in a thread, while the run continues.

    Parameters
    ----------
    run
        The run; no other sync of it may be under way.
    """

    def __init__(self, run: BatchRun) -> None:
        self._run = run
        self._pending = run.start_sync()
        self._checkpoint: Checkpoint | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._finish, name="sync")
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether `result` would not wait."""
        return not self._thread.is_alive()

    def result(self) -> Checkpoint:
        """Wait for the checkpoint; raises as `BatchRun.finish_sync`."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._checkpoint is not None  # noqa: S101 - else there is an error
        return self._checkpoint

    def _finish(self) -> None:
        try:
            self._checkpoint = self._run.finish_sync(self._pending)
        except Exception as error:  # noqa: BLE001 - raised by `result`
            self._error = error


class Worker:
    """Carries out commands, one at a time.

    Parameters
    ----------
    connection
        The socket to the service.
    log
        For unexpected errors.
    """

    def __init__(self, connection: socket.socket, log: WorkerLog) -> None:
        self._connection = connection
        self._log = log
        self._commands = CommandLines(connection)
        self._upsampler: Upsampler | None = None
        self._run: BatchRun | None = None

    def serve(self) -> None:
        """Carry out commands until the service hangs up.

        Raises
        ------
        PoolWorkerDiedError
            A helper process is gone, and this one is not worth more without it.
        ServiceGoneError
            The service hung up in the middle of the work.
        """
        while (command := self._commands.wait()) is not None:
            if isinstance(command, protocol.Halt):
                continue  # it crossed the answer that made it needless
            if isinstance(command, protocol.Kept):
                self._note_kept(command)
                continue
            try:
                answer = self._carry_out(command)
            except (PoolWorkerDiedError, ServiceGoneError):
                raise
            except Exception as error:  # noqa: BLE001 - the service decides what becomes of it
                if not isinstance(error, EmbupError):
                    command_name = type(command).__name__
                    self._log.error("the worker met an error", command=command_name, exc_info=error)
                answer = protocol.Failed.of(error)
            self._say(answer)

    def close(self) -> None:
        """Close an open batch."""
        run, self._run = self._run, None  # with its decoder: the next batch may have another
        if run is not None:
            run.close()

    def _carry_out(self, command: protocol.Command) -> protocol.Reply:
        match command:
            case protocol.Open():
                return self._open(command)
            case protocol.Work():
                return self._work(command)
            case protocol.Publish():
                self._opened().publish()
            case protocol.Abandon():
                self._opened().abort()
            case _:
                self.close()
        return protocol.Done()

    def _open(self, command: protocol.Open) -> protocol.Opened:
        self.close()
        self._log.name_batch(command.batch_request_id, command.model_version)
        if self._upsampler is None or self._upsampler.version != command.model_version:
            self._upsampler = None  # two need not be in memory
            self._upsampler = Registry(Path(command.registry)).load(command.model_version)
        low_confidence = command.low_confidence
        if low_confidence is None:
            low_confidence = self._upsampler.low_confidence or 0.0
        confinement = Confinement(
            [Path(folder) for folder in command.reserved], command.roots, command.buckets
        )
        spec = command.request.spec()
        if isinstance(spec.input_path, ObjectPath):  # not opened through a folder that looks
            resolve_input(str(spec.input_path), confinement)
        self._run = BatchRun(
            spec,
            self._upsampler.in_basis(command.request.basis),
            checkpoint=command.checkpoint,
            chunk_rows=command.chunk_rows,
            workers=command.helpers,
            patience_s=command.patience_s,
            low_confidence=low_confidence,
            open_folder=confinement.open_folder,
            replace_parts=command.replace_parts,
        )
        return protocol.Opened(self._run.rows, self._run.bytes_total)

    def _work(self, command: protocol.Work) -> protocol.Worked:
        run = self._opened()
        syncing: BackgroundSync | None = None
        due = time.monotonic() + command.checkpoint_interval_s
        more, halted = True, None
        try:
            while more and halted is None:
                more = run.step()
                if syncing is not None and syncing.ended:
                    self._say(protocol.Synced(syncing.result(), run.take_statistics()))
                    syncing = None
                if syncing is None and time.monotonic() >= due:
                    syncing = BackgroundSync(run)
                    due = time.monotonic() + command.checkpoint_interval_s
                halted = self._halted()
        finally:
            last = None if syncing is None else syncing.result()
        if last is not None:
            self._say(protocol.Synced(last, run.take_statistics()))
        checkpoint = run.sync() if halted is None or halted.sync else None
        return protocol.Worked(more, checkpoint, run.take_statistics())

    def _halted(self) -> protocol.Halt | None:
        """Look whether the service wants the work to stop; it sends nothing else meanwhile but `Kept`."""
        if not self._commands.look():
            return None
        command = self._commands.wait()
        if isinstance(command, protocol.Kept):
            self._note_kept(command)
            return None
        if not isinstance(command, protocol.Halt):
            raise ServiceGoneError
        return command

    def _note_kept(self, command: protocol.Kept) -> None:
        if self._run is not None:
            self._run.kept(command.uploaded_parts)

    def _opened(self) -> BatchRun:
        if self._run is None:
            raise RuntimeError("no batch is open")
        return self._run

    def _say(self, message: protocol.Reply) -> None:
        self._connection.sendall(protocol.encode(message))


def main() -> None:
    """Serve the socket that is the first argument, as a child of the process that is the second."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    log = WorkerLog(*sys.argv[3:])
    sys.excepthook = log.write_the_end
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a stop of everything is the service's to carry out
    end_with_parent(parent)
    yield_to_others()
    limit_math_threads()
    connection = socket.socket(fileno=descriptor)
    os.register_at_fork(after_in_child=connection.close)  # a helper must not keep the service waiting
    worker = Worker(connection, log)
    try:
        with suppress(ConnectionError, ServiceGoneError):
            worker.serve()
    except PoolWorkerDiedError as error:
        log.error("the batch worker ends", error=error.message)  # noqa: TRY400 - its place says nothing
        sys.exit(ENDED_WITHOUT_HELPER)
    finally:
        worker.close()


if __name__ == "__main__":
    main()
