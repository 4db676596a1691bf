"""Worker processes: forks of this one that decode blocks on other cores, into shared memory.

A worker is forked, so it shares the decoder's memory, and does nothing but compute: it opens, reads and
writes no file. Processes, because the many small array operations of one block leave threads waiting for the
interpreter's lock.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.batch.statistics import BatchStatistics
from embup_core.errors import EmbupError
from embup_core.files.processes import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import ForkProcess

    from embup_core.batch.outputs.encoding import Bytes
    from embup_core.batch.workers.decoding import BlockDecoder, RowBlock
    from embup_core.text.parser import BadRow

    _Answers = SimpleQueue[tuple[tuple[BadRow, ...], BatchStatistics, str | None]]

# One block at work and one waiting, so that a worker never waits for the next.
_SLOTS: Final = 2


class PoolWorkerDiedError(EmbupError):
    """A worker process ended before it returned its result."""

    code = "worker_killed"

    def __init__(self) -> None:
        super().__init__(
            "A worker process of the batch ended before it returned its result.",
            remedy="Look into the kernel's log: was there too little memory?",
        )


@dataclass(slots=True)
class _Slot:
    memory: Bytes
    number: int


class _Worker:
    """The parent's view of one worker."""

    def __init__(self, process: ForkProcess, connection: Connection, slots: Sequence[_Slot]) -> None:
        self.process = process
        self.connection = connection
        self.free = deque(slots)


class PoolResult:
    """A result that a worker computes, or has computed."""

    def __init__(self, worker: _Worker, slot: _Slot, block: RowBlock, row_bytes: int) -> None:
        self.block = block
        self._worker = worker
        self._slot = slot
        self._row_bytes = row_bytes

    def ready(self) -> bool:
        """Whether `take` would not wait. A worker answers in order: ask for the oldest only."""
        return self._worker.connection.poll()

    def take(self) -> tuple[Bytes, tuple[BadRow, ...], BatchStatistics]:
        """Wait for the answer; its bytes are valid until `release`.

        Raises
        ------
        PoolWorkerDiedError
            The worker ended.
        RuntimeError
            It met an error.
        """
        try:
            bad, statistics, error = self._worker.connection.recv()
        except (EOFError, OSError) as found:
            raise PoolWorkerDiedError from found
        if error is not None:
            raise RuntimeError(error)
        return self._slot.memory[: self.block.rows * self._row_bytes], bad, statistics

    def release(self) -> None:
        """Give the memory back for another block."""
        self._worker.free.append(self._slot)


class WorkerPool:
    """Some workers. Fork them while this process has one thread, and before it opens what only it may hold.

    Parameters
    ----------
    decoder
        What each does with a block.
    count
        How many.
    chunk_rows
        Rows of the largest block.
    """

    def __init__(self, decoder: BlockDecoder, *, count: int, chunk_rows: int) -> None:
        self._row_bytes = decoder.encoder.row_bytes
        slot_bytes = chunk_rows * self._row_bytes
        forking = multiprocessing.get_context("fork")
        pipes = [Pipe() for _ in range(count)]
        ours = [pipe[0] for pipe in pipes]
        self._workers: list[_Worker] = []
        parent = os.getpid()
        try:
            for our, their in pipes:
                memory = np.frombuffer(mmap.mmap(-1, max(1, _SLOTS * slot_bytes)), dtype=np.uint8)
                slots = [_Slot(memory[n * slot_bytes : (n + 1) * slot_bytes], n) for n in range(_SLOTS)]
                foreign = [*ours, *(other for _, other in pipes if other is not their)]
                process = forking.Process(
                    target=_work, args=(decoder, their, foreign, slots, parent), daemon=True
                )
                process.start()
                their.close()  # else the pipe stays open when the worker ends
                self._workers.append(_Worker(process, our, slots))
            for worker in self._workers:
                # From here on every worker is known to have asked the kernel to end it with its parent.
                worker.connection.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise PoolWorkerDiedError from error
        except BaseException:
            self.close()
            raise
        finally:
            for _, their in pipes:
                their.close()

    def submit(self, block: RowBlock) -> PoolResult:
        """Give a block to the worker with the least to do; only while `has_room`.

        Raises
        ------
        PoolWorkerDiedError
            The worker ended.
        """
        worker = max(self._workers, key=lambda one: len(one.free))
        slot = worker.free.popleft()
        try:
            worker.connection.send((slot.number, block))
        except OSError as error:
            raise PoolWorkerDiedError from error
        return PoolResult(worker, slot, block, self._row_bytes)

    @property
    def has_room(self) -> bool:
        """Whether a worker could take a block."""
        return any(worker.free for worker in self._workers)

    def close(self) -> None:
        """End the workers. Idempotent."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
            worker.process.join()
            worker.process.close()
        self._workers.clear()


def _work(
    decoder: BlockDecoder,
    connection: Connection,
    foreign: Sequence[Connection],
    slots: Sequence[_Slot],
    parent: int,
) -> None:
    """Decode blocks until the parent closes the pipe; the main function of a worker process."""
    end_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the parent
    for other in foreign:
        other.close()  # else the pipes of the other workers stay open when those end
    connection.send(None)
    row_bytes = decoder.encoder.row_bytes
    # A thread sends: who gives work may be sending the next block, and would not read before that is taken.
    answers: _Answers = SimpleQueue()
    threading.Thread(target=_send_all, args=(connection, answers), daemon=True).start()
    while True:
        try:
            number, block = connection.recv()
        except (EOFError, OSError):
            return
        error = None
        bad: tuple[BadRow, ...] = ()
        statistics = BatchStatistics()
        try:
            bad, statistics = decoder.answer(block, slots[number].memory[: block.rows * row_bytes])
        except Exception as found:  # noqa: BLE001 - reported to the parent
            error = f"{type(found).__name__}: {found}"
        answers.put((bad, statistics, error))


def _send_all(connection: Connection, answers: _Answers) -> None:
    with suppress(OSError):  # the parent closed the pipe: `_work` ends too
        while True:
            connection.send(answers.get())
