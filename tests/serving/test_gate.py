"""The gate: realtime shares and goes first, the batch is alone, and nobody is lost or let in twice."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gate import PriorityGate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Scene:
    """Clients of one gate, started by name, that hold it until they are told to let go."""

    def __init__(self) -> None:
        self.gate = PriorityGate()
        self.realtime: set[str] = set()
        self.batch: set[str] = set()
        self.order: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.releases: dict[str, asyncio.Event] = {}

    def start(self, name: str, *, realtime: bool) -> None:
        self.releases[name] = asyncio.Event()
        client: Callable[[str], Coroutine[None, None, None]] = self._realtime if realtime else self._batch
        self.tasks[name] = asyncio.create_task(client(name))

    async def _realtime(self, name: str) -> None:
        async with self.gate.realtime():
            self.realtime.add(name)
            self.order.append(name)
            try:
                await self.releases[name].wait()
            finally:
                self.realtime.discard(name)

    async def _batch(self, name: str) -> None:
        async with self.gate.batch() as lease:
            self.batch.add(name)
            self.order.append(name)
            try:
                while not self.releases[name].is_set() and not lease.contended:
                    await asyncio.sleep(0)
                await self.releases[name].wait()
            finally:
                self.batch.discard(name)

    def check(self) -> None:
        assert len(self.batch) <= 1
        assert not (self.batch and self.realtime)
        seen = self.gate.statistics()
        assert seen.realtime_holding >= len(self.realtime)
        assert seen.batch_holding or not self.batch
        if seen.realtime_waiting:
            assert seen.batch_holding, "realtime waits for nothing but a batch"
        if seen.batch_waiting:
            assert seen.batch_holding or seen.realtime_holding, "a batch waits for nobody"

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)
            self.check()


async def settle(turns: int = 6) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


Action = tuple[str, int, bool]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["start", "release", "cancel", "turn"]), st.integers(0, 7), st.booleans()),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(ACTIONS)
def test_no_interleaving_breaks_the_gate(actions: list[Action]) -> None:
    """Whatever starts, releases and is cancelled in whatever order: exclusive, live, and free at the end."""

    async def story() -> None:
        scene = Scene()
        for kind, number, realtime in actions:
            name = f"client {number}"
            if kind == "start" and name not in scene.tasks:
                scene.start(name, realtime=realtime)
            elif kind == "release" and name in scene.releases:
                scene.releases[name].set()
            elif kind == "cancel" and name in scene.tasks:
                scene.tasks[name].cancel()
            else:
                await asyncio.sleep(0)
            scene.check()
        for release in scene.releases.values():
            release.set()
        async with asyncio.timeout(5):
            await asyncio.gather(*scene.tasks.values(), return_exceptions=True)
        seen = scene.gate.statistics()
        assert (seen.realtime_holding, seen.realtime_waiting, seen.batch_holding, seen.batch_waiting) == (
            0,
            0,
            False,
            0,
        )
        async with asyncio.timeout(1):
            async with scene.gate.batch():
                pass
            async with scene.gate.realtime():
                pass

    asyncio.run(story())


def test_realtime_requests_share_the_gate() -> None:
    async def story() -> None:
        gate = PriorityGate()
        async with asyncio.timeout(1), gate.realtime(), gate.realtime():
            assert gate.statistics().realtime_holding == 2

    asyncio.run(story())


def test_a_waiting_realtime_request_is_seen_by_the_batch_and_goes_before_other_batches() -> None:
    async def story() -> None:
        scene = Scene()
        scene.start("batch 1", realtime=False)
        await scene.settle()
        scene.start("batch 2", realtime=False)
        await scene.settle()
        scene.start("realtime", realtime=True)
        await scene.settle()
        assert scene.order == ["batch 1"]
        scene.releases["batch 1"].set()
        await scene.settle()
        assert scene.order == ["batch 1", "realtime"]
        assert scene.gate.statistics().batch_waiting == 1
        for release in scene.releases.values():
            release.set()
        await scene.settle()
        assert scene.order == ["batch 1", "realtime", "batch 2"]

    asyncio.run(story())


def test_the_lease_is_contended_only_while_a_realtime_request_waits() -> None:
    async def story() -> None:
        gate = PriorityGate()
        async with gate.batch() as lease:
            assert not lease.contended

            async def request() -> None:
                async with gate.realtime():
                    pass

            waiting = asyncio.create_task(request())
            await settle()
            assert lease.contended
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            assert not lease.contended, "nobody waits any more"

    asyncio.run(story())


def test_batches_take_turns_in_the_order_they_came() -> None:
    async def story() -> None:
        scene = Scene()
        for name in ("first", "second", "third"):
            scene.start(name, realtime=False)
            await scene.settle()
        for release in scene.releases.values():
            release.set()
        await asyncio.gather(*scene.tasks.values())
        assert scene.order == ["first", "second", "third"]

    asyncio.run(story())


def test_nobody_barges_in_between_a_release_and_the_waiters_turn() -> None:
    """The gate is the waiter's at the release already, not only when its task runs."""

    async def story() -> None:
        gate = PriorityGate()
        holding = gate.batch()
        await holding.__aenter__()
        waiter = asyncio.create_task(gate._acquire_realtime())
        await settle()
        await holding.__aexit__(None, None, None)
        assert gate.statistics().realtime_holding == 1
        assert not gate.free_for_batch
        await waiter

    asyncio.run(story())


def test_a_waiter_cancelled_after_it_was_handed_the_gate_passes_it_on() -> None:
    async def story() -> None:
        scene = Scene()
        scene.start("batch 1", realtime=False)
        await scene.settle()
        scene.start("unlucky", realtime=False)
        scene.start("batch 2", realtime=False)
        await scene.settle()
        scene.releases["batch 1"].set()
        while not scene.tasks["batch 1"].done():
            await asyncio.sleep(0)
        # The release handed the gate to "unlucky", whose task had no turn yet.
        seen = scene.gate.statistics()
        assert (seen.batch_holding, seen.batch_waiting) == (True, 1)
        assert scene.order == ["batch 1"]
        scene.tasks["unlucky"].cancel()
        await scene.settle()
        assert scene.order == ["batch 1", "batch 2"]
        scene.releases["batch 2"].set()
        await scene.tasks["batch 2"]
        assert scene.gate.free_for_batch

    asyncio.run(story())


def test_a_cancelled_holder_releases() -> None:
    async def story() -> None:
        scene = Scene()
        scene.start("request", realtime=True)
        await scene.settle()
        scene.tasks["request"].cancel()
        await scene.settle()
        assert scene.gate.free_for_batch

    asyncio.run(story())


def test_statistics_count_waits() -> None:
    async def story() -> None:
        gate = PriorityGate()

        async def request() -> None:
            async with gate.realtime():
                pass

        async with gate.batch():
            waiting = asyncio.create_task(request())
            await asyncio.sleep(0.02)
        await waiting
        seen = gate.statistics()
        assert (seen.realtime_granted, seen.batch_granted) == (1, 1)
        assert seen.realtime_waited_max_s >= 0.015
        assert seen.realtime_waited_s >= seen.realtime_waited_max_s

    asyncio.run(story())
