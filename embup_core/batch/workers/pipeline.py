"""Results in the order of the input, computed here and by workers at the same time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from embup_core.batch.statistics import BatchStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.batch.outputs.encoding import Bytes
    from embup_core.batch.workers.decoding import BlockDecoder, RowBlock
    from embup_core.batch.workers.pool import WorkerPool
    from embup_core.text.parser import BadRow

# Results computed here that may wait for earlier ones of workers.
_OWN_BUFFERS: Final = 3


class BlockReader(Protocol):
    """Where blocks come from."""

    @property
    def exhausted(self) -> bool:
        """Whether none is left."""

    def read_block(self) -> RowBlock | None:
        """Return the next block."""


class _Pending(Protocol):
    """A result that waits for its turn."""

    @property
    def block(self) -> RowBlock:
        """What it answers."""

    def ready(self) -> bool:
        """Whether it is made."""

    def take(self) -> tuple[Bytes, tuple[BadRow, ...], BatchStatistics]:
        """Wait for it."""

    def release(self) -> None:
        """Give its memory back."""


class _OwnResult:
    def __init__(
        self,
        block: RowBlock,
        bad: tuple[BadRow, ...],
        statistics: BatchStatistics,
        used: Bytes,
        buffer: Bytes,
        free: list[Bytes],
    ) -> None:
        self.block = block
        self._bad = bad
        self._statistics = statistics
        self._used = used
        self._buffer = buffer
        self._free = free

    def ready(self) -> bool:
        return True

    def take(self) -> tuple[Bytes, tuple[BadRow, ...], BatchStatistics]:
        return self._used, self._bad, self._statistics

    def release(self) -> None:
        self._free.append(self._buffer)


class OrderedPipeline:
    """Turns the blocks of a reader into answers.

    Parameters
    ----------
    reader
        Where the blocks come from.
    decoder
        Answers blocks in this process.
    workers
        Processes that answer others meanwhile, if there are any.
    chunk_rows
        Rows of the largest block.
    """

    def __init__(
        self,
        reader: BlockReader,
        decoder: BlockDecoder,
        workers: WorkerPool | None,
        *,
        chunk_rows: int,
    ) -> None:
        self._reader = reader
        self._decoder = decoder
        self._workers = workers
        self._row_bytes = decoder.encoder.row_bytes
        count = 1 if workers is None else _OWN_BUFFERS
        self._free = [np.empty(chunk_rows * self._row_bytes, dtype=np.uint8) for _ in range(count)]
        self._pending: deque[_Pending] = deque()

    @property
    def exhausted(self) -> bool:
        """Whether every result was yielded."""
        return not self._pending and self._reader.exhausted

    def advance(self) -> Iterator[tuple[RowBlock, Bytes, tuple[BadRow, ...], BatchStatistics]]:
        """Decode one block here, or wait for a worker's result; yield the results that are next in order.

        Yields
        ------
        block, encoded, bad, statistics
            The block; its answer, uint8, shape (block.rows * row_bytes,), valid until the next one; the
            refused rows; what it took.

        Raises
        ------
        InputFileError
            As `InputReader.read_block`.
        PoolWorkerDiedError
            A worker ended.
        """
        self._submit()
        waiting = not self._decode_one_here()
        while self._pending and (waiting or self._pending[0].ready()):
            waiting = False
            answer = self._pending.popleft()
            encoded, bad, statistics = answer.take()
            yield answer.block, encoded, bad, statistics
            answer.release()

    def _submit(self) -> None:
        while self._workers is not None and self._workers.has_room:
            block = self._reader.read_block()
            if block is None:
                return
            if not block.rows:
                self._pending.append(self._nothing(block))
                return
            self._pending.append(self._workers.submit(block))

    def _decode_one_here(self) -> bool:
        """Return whether there was a block, and memory for its answer."""
        if not self._free or (block := self._reader.read_block()) is None:
            return False
        if not block.rows:
            self._pending.append(self._nothing(block))
            return True
        buffer = self._free.pop()
        used = buffer[: block.rows * self._row_bytes]
        bad, statistics = self._decoder.answer(block, used)
        self._pending.append(_OwnResult(block, bad, statistics, used, buffer, self._free))
        return True

    def _nothing(self, block: RowBlock) -> _OwnResult:
        """Answer a block without rows."""
        empty = np.empty(0, dtype=np.uint8)
        return _OwnResult(block, (), BatchStatistics(), empty, empty, [])
