"""The gate: realtime requests share it, the batch takes it alone and only while no realtime request wants it.

Nothing here knows HTTP or batches. All methods run on one event loop; the one exception is reading
`BatchLease.contended`, which the batch's worker thread does between two slices.

Ownership is handed over inside a release, so nobody barges in between a release and the waiter's turn, and a
waiter that is cancelled after it was handed the gate passes it on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class BatchLease:
    """The batch's turn.

    Attributes
    ----------
    contended
        True once a realtime request waits: finish the slice in hand and release. A plain attribute, so that
        a worker thread reads it without a lock.
    """

    __slots__ = ("contended",)

    def __init__(self) -> None:
        self.contended = False


@dataclass(frozen=True)
class GateStatistics:
    """The gate at one moment, and what it did since the start. Times in seconds."""

    realtime_holding: int
    realtime_waiting: int
    batch_holding: bool
    batch_waiting: int
    realtime_granted: int
    batch_granted: int
    realtime_waited_s: float
    realtime_waited_max_s: float


class PriorityGate:
    """A semaphore with two sides: `realtime()` is shared and goes first, `batch()` is exclusive."""

    def __init__(self) -> None:
        self._realtime_holding = 0
        self._lease: BatchLease | None = None
        self._realtime_waiters: deque[asyncio.Future[None]] = deque()
        self._batch_waiters: deque[asyncio.Future[BatchLease]] = deque()
        self._realtime_granted = 0
        self._batch_granted = 0
        self._realtime_waited_s = 0.0
        self._realtime_waited_max_s = 0.0

    @asynccontextmanager
    async def realtime(self) -> AsyncIterator[None]:
        """Hold the gate together with other realtime requests; wait for at most one slice of batch work."""
        await self._acquire_realtime()
        try:
            yield
        finally:
            self._release_realtime()

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[BatchLease]:
        """Hold the gate alone, first come first served; wait while any realtime request holds or waits."""
        lease = await self._acquire_batch()
        try:
            yield lease
        finally:
            self._release_batch()

    @property
    def free_for_batch(self) -> bool:
        """Whether `batch()` would be granted without waiting."""
        return self._lease is None and self._realtime_holding == 0

    def statistics(self) -> GateStatistics:
        """Say who holds and who waits; changes nothing."""
        return GateStatistics(
            realtime_holding=self._realtime_holding,
            realtime_waiting=sum(not waiter.done() for waiter in self._realtime_waiters),
            batch_holding=self._lease is not None,
            batch_waiting=sum(not waiter.done() for waiter in self._batch_waiters),
            realtime_granted=self._realtime_granted,
            batch_granted=self._batch_granted,
            realtime_waited_s=self._realtime_waited_s,
            realtime_waited_max_s=self._realtime_waited_max_s,
        )

    async def _acquire_realtime(self) -> None:
        if self._lease is None:
            self._grant_realtime()
            return
        self._lease.contended = True
        started = time.perf_counter()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._realtime_waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._release_realtime()
            else:
                self._realtime_waiters.remove(waiter)
                if self._lease is not None and not self._realtime_waiters:
                    self._lease.contended = False
            raise
        waited = time.perf_counter() - started
        self._realtime_waited_s += waited
        self._realtime_waited_max_s = max(self._realtime_waited_max_s, waited)

    async def _acquire_batch(self) -> BatchLease:
        if self.free_for_batch:
            return self._grant_batch()
        waiter: asyncio.Future[BatchLease] = asyncio.get_running_loop().create_future()
        self._batch_waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._release_batch()
            else:
                self._batch_waiters.remove(waiter)
            raise

    def _grant_realtime(self) -> None:
        self._realtime_holding += 1
        self._realtime_granted += 1

    def _grant_batch(self) -> BatchLease:
        self._lease = BatchLease()
        self._batch_granted += 1
        return self._lease

    def _release_realtime(self) -> None:
        self._realtime_holding -= 1
        if self._realtime_holding == 0:
            self._hand_to_batch()

    def _release_batch(self) -> None:
        self._lease = None
        waiters, self._realtime_waiters = self._realtime_waiters, deque()
        for waiter in waiters:
            if waiter.cancelled():
                self._realtime_waiters.append(waiter)  # its own task still has to take it out
            else:
                self._grant_realtime()
                waiter.set_result(None)
        if self._realtime_holding == 0:
            self._hand_to_batch()

    def _hand_to_batch(self) -> None:
        for waiter in list(self._batch_waiters):
            if not waiter.cancelled():
                self._batch_waiters.remove(waiter)
                waiter.set_result(self._grant_batch())
                return
