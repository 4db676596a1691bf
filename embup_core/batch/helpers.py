"""Helper processes: copies of this one that answer blocks on other cores, into memory that both see.

A helper is forked, so it shares the decoder's memory, and does nothing but compute: it opens, reads and
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

from embup_core.batch.tally import Tally
from embup_core.errors import EmbupError
from embup_core.processes import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import ForkProcess

    from embup_core.batch.answering import BlockAnswerer, RowBlock
    from embup_core.batch.encoding import Bytes
    from embup_core.text.parser import BadRow

    _Answers = SimpleQueue[tuple[tuple[BadRow, ...], Tally, str | None]]

# One block at work and one waiting, so that a helper never waits for the next.
_SLOTS: Final = 2


class HelperDiedError(EmbupError):
    """A helper process ended before it answered."""

    code = "worker_killed"

    def __init__(self) -> None:
        super().__init__(
            "A helper process of the batch ended before it answered.",
            remedy="Look into the kernel's log: was there too little memory?",
        )


@dataclass(slots=True)
class _Slot:
    memory: Bytes
    number: int


class _Helper:
    """One helper, seen from the process that it works for."""

    def __init__(self, process: ForkProcess, connection: Connection, slots: Sequence[_Slot]) -> None:
        self.process = process
        self.connection = connection
        self.free = deque(slots)


class HelperAnswer:
    """An answer that a helper works on, or has made."""

    def __init__(self, helper: _Helper, slot: _Slot, block: RowBlock, row_bytes: int) -> None:
        self.block = block
        self._helper = helper
        self._slot = slot
        self._row_bytes = row_bytes

    def ready(self) -> bool:
        """Whether `take` would not wait. A helper answers in order: ask for the oldest only."""
        return self._helper.connection.poll()

    def take(self) -> tuple[Bytes, tuple[BadRow, ...], Tally]:
        """Wait for the answer; its bytes are valid until `release`.

        Raises
        ------
        HelperDiedError
            The helper is gone.
        RuntimeError
            It met an error.
        """
        try:
            bad, tally, error = self._helper.connection.recv()
        except (EOFError, OSError) as found:
            raise HelperDiedError from found
        if error is not None:
            raise RuntimeError(error)
        return self._slot.memory[: self.block.rows * self._row_bytes], bad, tally

    def release(self) -> None:
        """Give the memory back for another block."""
        self._helper.free.append(self._slot)


class HelperPool:
    """Some helpers. Fork them while this process has one thread, and before it opens what only it may hold.

    Parameters
    ----------
    answerer
        What each does with a block.
    count
        How many.
    chunk_rows
        Rows of the largest block.
    """

    def __init__(self, answerer: BlockAnswerer, *, count: int, chunk_rows: int) -> None:
        self._row_bytes = answerer.encoder.row_bytes
        slot_bytes = chunk_rows * self._row_bytes
        forking = multiprocessing.get_context("fork")
        pipes = [Pipe() for _ in range(count)]
        ours = [pipe[0] for pipe in pipes]
        self._helpers: list[_Helper] = []
        parent = os.getpid()
        try:
            for our, their in pipes:
                memory = np.frombuffer(mmap.mmap(-1, max(1, _SLOTS * slot_bytes)), dtype=np.uint8)
                slots = [_Slot(memory[n * slot_bytes : (n + 1) * slot_bytes], n) for n in range(_SLOTS)]
                foreign = [*ours, *(other for _, other in pipes if other is not their)]
                process = forking.Process(
                    target=_help, args=(answerer, their, foreign, slots, parent), daemon=True
                )
                process.start()
                their.close()  # else the end of a helper could not be told
                self._helpers.append(_Helper(process, our, slots))
            for helper in self._helpers:
                # Whoever stops them all from here on stops none that would outlive this process.
                helper.connection.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise HelperDiedError from error
        except BaseException:
            self.close()
            raise
        finally:
            for _, their in pipes:
                their.close()

    def hand_out(self, block: RowBlock) -> HelperAnswer:
        """Give a block to the helper with the least to do; only while `has_room`.

        Raises
        ------
        HelperDiedError
            The helper is gone.
        """
        helper = max(self._helpers, key=lambda one: len(one.free))
        slot = helper.free.popleft()
        try:
            helper.connection.send((slot.number, block))
        except OSError as error:
            raise HelperDiedError from error
        return HelperAnswer(helper, slot, block, self._row_bytes)

    @property
    def has_room(self) -> bool:
        """Whether a helper could take a block."""
        return any(helper.free for helper in self._helpers)

    def close(self) -> None:
        """End the helpers; again is harmless."""
        for helper in self._helpers:
            helper.connection.close()
            helper.process.kill()
            helper.process.join()
            helper.process.close()
        self._helpers.clear()


def _help(
    answerer: BlockAnswerer,
    connection: Connection,
    foreign: Sequence[Connection],
    slots: Sequence[_Slot],
    parent: int,
) -> None:
    """Answer blocks until nobody asks any more; what a helper process runs."""
    end_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the process that it works for
    for other in foreign:
        other.close()  # else nobody would learn that the process at their other end is gone
    connection.send(None)
    row_bytes = answerer.encoder.row_bytes
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
        tally = Tally()
        try:
            bad, tally = answerer.answer(block, slots[number].memory[: block.rows * row_bytes])
        except Exception as found:  # noqa: BLE001 - told to the process that asked
            error = f"{type(found).__name__}: {found}"
        answers.put((bad, tally, error))


def _send_all(connection: Connection, answers: _Answers) -> None:
    with suppress(OSError):  # nobody asks any more: `_help` learns it too
        while True:
            connection.send(answers.get())
