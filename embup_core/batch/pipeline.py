"""Answers in the order of the input, made here and by helpers at the same time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from embup_core.batch.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.batch.answering import BlockAnswerer, RowBlock
    from embup_core.batch.encoding import Bytes
    from embup_core.batch.helpers import HelperPool
    from embup_core.text.parser import BadRow

# Own answers that may wait for helpers' earlier ones.
_OWN_BUFFERS: Final = 3


class BlockReader(Protocol):
    """Where blocks come from."""

    @property
    def exhausted(self) -> bool:
        """Whether none is left."""

    def read_block(self) -> RowBlock | None:
        """Return the next block."""


class _Pending(Protocol):
    """An answer whose turn has not come."""

    @property
    def block(self) -> RowBlock:
        """What it answers."""

    def ready(self) -> bool:
        """Whether it is made."""

    def take(self) -> tuple[Bytes, tuple[BadRow, ...], Tally]:
        """Wait for it."""

    def release(self) -> None:
        """Give its memory back."""


class _OwnAnswer:
    def __init__(
        self,
        block: RowBlock,
        bad: tuple[BadRow, ...],
        tally: Tally,
        used: Bytes,
        buffer: Bytes,
        free: list[Bytes],
    ) -> None:
        self.block = block
        self._bad = bad
        self._tally = tally
        self._used = used
        self._buffer = buffer
        self._free = free

    def ready(self) -> bool:
        return True

    def take(self) -> tuple[Bytes, tuple[BadRow, ...], Tally]:
        return self._used, self._bad, self._tally

    def release(self) -> None:
        self._free.append(self._buffer)


class AnswerPipeline:
    """Turns the blocks of a reader into answers.

    Parameters
    ----------
    reader
        Where the blocks come from.
    answerer
        Answers blocks in this process.
    helpers
        Processes that answer others meanwhile, if there are any.
    chunk_rows
        Rows of the largest block.
    """

    def __init__(
        self,
        reader: BlockReader,
        answerer: BlockAnswerer,
        helpers: HelperPool | None,
        *,
        chunk_rows: int,
    ) -> None:
        self._reader = reader
        self._answerer = answerer
        self._helpers = helpers
        self._row_bytes = answerer.encoder.row_bytes
        count = 1 if helpers is None else _OWN_BUFFERS
        self._free = [np.empty(chunk_rows * self._row_bytes, dtype=np.uint8) for _ in range(count)]
        self._pending: deque[_Pending] = deque()

    @property
    def exhausted(self) -> bool:
        """Whether every answer was given."""
        return not self._pending and self._reader.exhausted

    def advance(self) -> Iterator[tuple[RowBlock, Bytes, tuple[BadRow, ...], Tally]]:
        """Answer one block here, or wait for a helper's answer; give the answers whose turn has come.

        Yields
        ------
        block, encoded, bad, tally
            The block; its answer, uint8, shape (block.rows * row_bytes,), valid until the next one; the
            refused rows; what it took.

        Raises
        ------
        InputFileError
            As `InputReader.read_block`.
        HelperDiedError
            A helper is gone.
        """
        self._hand_out()
        waiting = not self._answer_one_here()
        while self._pending and (waiting or self._pending[0].ready()):
            waiting = False
            answer = self._pending.popleft()
            encoded, bad, tally = answer.take()
            yield answer.block, encoded, bad, tally
            answer.release()

    def _hand_out(self) -> None:
        while self._helpers is not None and self._helpers.has_room:
            block = self._reader.read_block()
            if block is None:
                return
            if not block.rows:
                self._pending.append(self._nothing(block))
                return
            self._pending.append(self._helpers.hand_out(block))

    def _answer_one_here(self) -> bool:
        """Return whether there was a block, and memory for its answer."""
        if not self._free or (block := self._reader.read_block()) is None:
            return False
        if not block.rows:
            self._pending.append(self._nothing(block))
            return True
        buffer = self._free.pop()
        used = buffer[: block.rows * self._row_bytes]
        bad, tally = self._answerer.answer(block, used)
        self._pending.append(_OwnAnswer(block, bad, tally, used, buffer, self._free))
        return True

    def _nothing(self, block: RowBlock) -> _OwnAnswer:
        """Answer a block without rows."""
        empty = np.empty(0, dtype=np.uint8)
        return _OwnAnswer(block, (), Tally(), empty, empty, [])
