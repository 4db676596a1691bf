"""The gate: realtime requests share it and never wait; one batch at a time holds it, frozen while they do.

A priority semaphore that preempts. A batch brings two functions that stop and resume its work, wherever
that work is done (signals to a process group, say). The gate calls `freeze` before the first realtime request
is let in and `thaw` inside the release of the last one. Nothing here knows HTTP, batches or processes.

All on one event loop, no threads. Ownership is handed over inside a release, so no other waiter gets in
between a release and the waiter's turn, and a waiter that is cancelled after it was handed the gate passes
it on.

**The batch's share.** Realtime requests without a gap would keep a batch frozen for ever. With a share above
0 there is a token bucket: while a batch holds the gate, credit grows by `share` seconds each second, and each
second that the batch runs, for whatever reason, costs one. The bucket holds `SLOT_S` at most and never owes.
When it is full, the frozen batch is thawed for one slot of `SLOT_S` beside the realtime requests, and frozen
again at the slot's end if one still holds. So of the time that it holds the gate the batch runs at least
about `share`, and beside realtime requests at most `share`, each to within one slot. A slot outlives the
requests it began under: short requests with tiny gaps cannot cut it to pieces.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

log = structlog.get_logger("embup.serving.gate")

SLOT_S = 0.02
"""How long a batch runs at a stretch beside realtime requests, when its share lets it."""


class BatchLease:
    """A batch's hold of the gate.

    Parameters
    ----------
    freeze, thaw
        Stop and resume the batch's work; called in turns, `freeze` first. They should not raise: what
        they raise is logged, and otherwise ignored.
    clock
        Seconds, monotonic.

    Attributes
    ----------
    paused
        Whether the batch is frozen right now.
    pause_count
        How often it was frozen.
    """

    def __init__(
        self, freeze: Callable[[], None], thaw: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self.paused = False
        self.pause_count = 0
        self._freeze = freeze
        self._thaw = thaw
        self._clock = clock
        self._paused_at = 0.0
        self._ended_pauses_s = 0.0

    @property
    def paused_s(self) -> float:
        """Seconds frozen, the pause that lasts included."""
        return self._ended_pauses_s + (self._clock() - self._paused_at if self.paused else 0.0)

    def freeze(self) -> None:
        """Begin a pause. The gate's to call, while `paused` is false."""
        self.paused = True
        self.pause_count += 1
        self._paused_at = self._clock()
        self._tell(self._freeze)

    def thaw(self) -> None:
        """End the pause. The gate's to call, while `paused` is true."""
        self._ended_pauses_s = self.paused_s
        self.paused = False
        self._tell(self._thaw)

    def _tell(self, order: Callable[[], None]) -> None:
        try:
            order()
        except Exception as error:
            # The caller is usually a realtime request, which is not at fault.
            log.exception("gate_order_failed", paused=self.paused, error=repr(error))


@dataclass(frozen=True)
class GateStatistics:
    """The gate at one moment, and what it did since the start. Times in seconds.

    Attributes
    ----------
    realtime_holding, batch_holding, batch_waiting
        Who holds it and who waits; a realtime request never does.
    batch_frozen
        Whether the batch that holds it is frozen.
    realtime_granted, batch_granted
        How many were let in.
    pauses, paused_s
        How often and how long batches were frozen, the pause that lasts included.
    share_granted_s
        How long batches ran beside realtime requests, as their share lets them.
    realtime_waited_s, batch_waited_s
        How long those waited that got the gate: realtime requests until the batch was frozen, batches
        for the one before.
    """

    realtime_holding: int
    batch_holding: bool
    batch_waiting: int
    batch_frozen: bool
    realtime_granted: int
    batch_granted: int
    pauses: int
    paused_s: float
    share_granted_s: float
    realtime_waited_s: float
    batch_waited_s: float


class PriorityGate:
    """A semaphore with two sides: `realtime()` is shared and goes first, `batch()` is alone and gives way.

    Parameters
    ----------
    batch_share
        Share of the time that a batch gets however many realtime requests come; at least 0, below 1. With 0
        it stays frozen as long as one holds, and no timer is ever set.
    clock
        Seconds, monotonic.

    Raises
    ------
    ValueError
        If the share is out of bounds.
    """

    def __init__(self, *, batch_share: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 <= batch_share < 1:
            raise ValueError(f"expected a batch_share of at least 0 and below 1, found {batch_share}")
        self._share = batch_share
        self._clock = clock
        self._realtime_holding = 0
        self._realtime_granted = 0
        self._lease: BatchLease | None = None
        self._waiters: deque[tuple[asyncio.Future[None], BatchLease]] = deque()
        self._batch_granted = 0
        self._ended_leases_pauses = 0
        self._ended_leases_paused_s = 0.0
        self._credit_s = 0.0
        self._accounted_at = clock()
        self._share_granted_s = 0.0
        self._realtime_waited_s = 0.0
        self._batch_waited_s = 0.0
        self._in_slot = False
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def realtime(self) -> AsyncIterator[None]:
        """Hold the gate together with other realtime requests, at once.

        The first one freezes the batch before its body runs; the last one's release thaws it.
        """
        self._account()
        self._realtime_holding += 1
        self._realtime_granted += 1
        self._settle()
        self._realtime_waited_s += self._clock() - self._accounted_at
        try:
            yield
        finally:
            self._account()
            self._realtime_holding -= 1
            self._settle()

    @asynccontextmanager
    async def batch(
        self, *, freeze: Callable[[], None], thaw: Callable[[], None]
    ) -> AsyncIterator[BatchLease]:
        """Hold the gate alone among batches, first come first served.

        It does not wait for realtime requests: if one holds the gate, the batch starts frozen. A batch that
        releases while frozen is thawed first, so that its work can end.

        Parameters
        ----------
        freeze, thaw
            See `BatchLease`. Never called before the grant or after the release.
        """
        lease = BatchLease(freeze, thaw, self._clock)
        await self._acquire(lease)
        try:
            yield lease
        finally:
            self._release(lease)

    def statistics(self) -> GateStatistics:
        """Say who holds, who waits and what happened."""
        self._account()
        lease = self._lease
        return GateStatistics(
            realtime_holding=self._realtime_holding,
            batch_holding=lease is not None,
            batch_waiting=sum(not waiter.done() for waiter, _ in self._waiters),
            batch_frozen=lease is not None and lease.paused,
            realtime_granted=self._realtime_granted,
            batch_granted=self._batch_granted,
            pauses=self._ended_leases_pauses + (lease.pause_count if lease else 0),
            paused_s=self._ended_leases_paused_s + (lease.paused_s if lease else 0.0),
            share_granted_s=self._share_granted_s,
            realtime_waited_s=self._realtime_waited_s,
            batch_waited_s=self._batch_waited_s,
        )

    async def _acquire(self, lease: BatchLease) -> None:
        if self._lease is None:
            self._grant(lease)
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, lease))
        since = self._clock()
        try:
            await waiter
            self._batch_waited_s += self._clock() - since
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiters.remove((waiter, lease))
            else:
                self._release(lease)
            raise

    def _grant(self, lease: BatchLease) -> None:
        self._account()
        self._lease = lease
        self._batch_granted += 1
        self._settle()

    def _release(self, lease: BatchLease) -> None:
        self._account()
        self._in_slot = False
        self._set_timer(None)
        if lease.paused:
            lease.thaw()
        self._ended_leases_pauses += lease.pause_count
        self._ended_leases_paused_s += lease.paused_s
        self._lease = None
        for waiter, heir in self._waiters:
            if not waiter.done():  # a cancelled one is taken out by its own task
                self._waiters.remove((waiter, heir))
                self._grant(heir)
                waiter.set_result(None)
                return

    def _settle(self) -> None:
        """Freeze or thaw the batch as the holders and its credit say, and set the timer for the next time."""
        lease = self._lease
        if lease is None:
            return
        if lease.paused and self._credit_s >= SLOT_S:
            # Not only when the timer says so: a busy loop may run whole requests before a timer that is due.
            self._in_slot = True
            self._set_timer(SLOT_S)
            lease.thaw()
        elif lease.paused and self._realtime_holding == 0:
            self._set_timer(None)
            lease.thaw()
        elif not lease.paused and self._realtime_holding and not self._in_slot:
            lease.freeze()
            if self._share:
                self._set_timer((SLOT_S - self._credit_s) / self._share)

    def _account(self) -> None:
        """Book the time since the last call; to be called before anything changes."""
        now = self._clock()
        elapsed_s, self._accounted_at = now - self._accounted_at, now
        if self._lease is None:
            return
        if self._lease.paused:
            self._credit_s = min(self._credit_s + self._share * elapsed_s, SLOT_S)
            return
        self._credit_s = max(self._credit_s - (1 - self._share) * elapsed_s, 0.0)
        if self._realtime_holding:
            self._share_granted_s += elapsed_s

    def _set_timer(self, delay_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if delay_s is not None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._timer_due)

    def _timer_due(self) -> None:
        """End the slot, or begin one."""
        self._timer = None
        self._account()
        if self._in_slot:
            self._in_slot = False
        else:
            self._credit_s = SLOT_S  # a timer may come a fraction of a millisecond early
        self._settle()
