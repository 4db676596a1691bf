"""The gate: realtime never waits, the batch stands still beside it, and nobody is lost or let in twice."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.realtime.gate import SLOT_S, GateStatistics, PriorityGate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from serving.realtime.gate import BatchLease


class LeapingSelector(selectors.DefaultSelector):
    """Where a loop would wait for its next timer, the time leaps to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and no timer is set"
        self.now_s += max(timeout, 0.0)
        return super().select(0)


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop whose seconds take no time and on which every timer is exact."""

    def __init__(self) -> None:
        self.selector = LeapingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now_s


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(story())


def now_s() -> float:
    return asyncio.get_running_loop().time()


def new_gate(batch_share: float = 0.0) -> PriorityGate:
    return PriorityGate(batch_share=batch_share, clock=asyncio.get_running_loop().time)


def do_nothing() -> None:
    pass


class Work:
    """What a batch does: it runs or stands still as it is told, and measures how long."""

    def __init__(self) -> None:
        self.running = True
        self.orders: list[str] = []
        self.longest_run_s = 0.0
        self.begin()

    def begin(self) -> None:
        self.ended_runs_s = 0.0
        self.since_s = now_s()

    @property
    def ran_s(self) -> float:
        return self.ended_runs_s + (now_s() - self.since_s if self.running else 0.0)

    def freeze(self) -> None:
        assert self.running, "frozen twice"
        self.longest_run_s = max(self.longest_run_s, now_s() - self.since_s)
        self.ended_runs_s = self.ran_s
        self.running = False
        self.orders.append("freeze")

    def thaw(self) -> None:
        assert not self.running, "thawed twice, or never frozen"
        self.running = True
        self.since_s = now_s()
        self.orders.append("thaw")


class Scene:
    """Clients of one gate, started by number, that hold it until they are told to let go."""

    def __init__(self, batch_share: float = 0.0) -> None:
        self.gate = new_gate(batch_share)
        self.batch_share = batch_share
        self.realtime: set[int] = set()
        self.batch: dict[int, BatchLease] = {}
        self.work: dict[int, Work] = {}
        self.batch_order: list[int] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.releases: dict[int, asyncio.Event] = {}
        self.held_s = 0.0
        self.ran_s = 0.0

    def start(self, *, realtime: bool) -> int:
        number = len(self.tasks)
        self.releases[number] = asyncio.Event()
        client = self._realtime if realtime else self._batch
        self.tasks[number] = asyncio.create_task(client(number))
        return number

    async def _realtime(self, number: int) -> None:
        async with self.gate.realtime():
            self.realtime.add(number)
            try:
                await self.releases[number].wait()
            finally:
                self.realtime.discard(number)

    async def _batch(self, number: int) -> None:
        work = self.work[number] = Work()
        async with self.gate.batch(freeze=work.freeze, thaw=work.thaw) as lease:
            started = now_s()
            work.begin()
            self.batch[number] = lease
            self.batch_order.append(number)
            try:
                await self.releases[number].wait()
            finally:
                del self.batch[number]
                self.held_s += now_s() - started
                self.ran_s += work.ran_s
        assert work.running, "released frozen"

    def check(self) -> None:
        seen = self.gate.statistics()
        assert len(self.batch) <= 1
        assert seen.realtime_holding == len(self.realtime), "a realtime request waits"
        assert seen.batch_holding or not self.batch
        assert seen.batch_holding or not seen.batch_waiting, "a batch waits for nobody"
        assert self.batch_order == sorted(self.batch_order), "batches take turns in the order they came"
        for number, lease in self.batch.items():
            assert lease.paused == seen.batch_frozen == (not self.work[number].running)
            assert self.realtime or not lease.paused, "frozen for nobody"
            if self.batch_share == 0:
                assert lease.paused or not self.realtime, "a batch runs beside a realtime request"

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)
            self.check()

    def release_all(self) -> None:
        for release in self.releases.values():
            release.set()


Action = tuple[str, int]
NUMBERS = st.integers(0, 15)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["realtime", "batch", "turn"]), st.just(0)),
        st.tuples(st.sampled_from(["release", "cancel"]), NUMBERS),
        st.tuples(st.just("wait"), st.integers(1, 90)),
    ),
    max_size=50,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([0.0, 0.05, 0.3, 0.9]), ACTIONS)
@example(0.3, [("batch", 0), ("batch", 0), ("turn", 0), ("release", 0), ("turn", 0), ("cancel", 1)])
@example(0.3, [("batch", 0), ("realtime", 0), ("wait", 90), ("release", 1), ("realtime", 0), ("wait", 90)])
def test_no_interleaving_breaks_the_gate(batch_share: float, actions: list[Action]) -> None:
    """Whatever starts, ends and is cancelled in whatever order: exclusive, live, fair, free at the end."""

    async def story() -> None:
        scene = Scene(batch_share)
        for kind, number in actions:
            if kind in {"realtime", "batch"}:
                scene.start(realtime=kind == "realtime")
            elif kind == "release" and number in scene.releases:
                scene.releases[number].set()
            elif kind == "cancel" and number in scene.tasks:
                scene.tasks[number].cancel()
            elif kind == "wait":
                await asyncio.sleep(number / 1000)
            else:
                await asyncio.sleep(0)
            scene.check()
        scene.release_all()
        await asyncio.gather(*scene.tasks.values(), return_exceptions=True)
        for task in scene.tasks.values():
            assert task.cancelled() or task.exception() is None
        seen = scene.gate.statistics()
        assert (seen.realtime_holding, seen.batch_holding, seen.batch_waiting) == (0, False, 0)
        assert not seen.batch_frozen
        assert not scene.gate._waiters, "forgotten"
        assert scene.ran_s + seen.paused_s == pytest.approx(scene.held_s)
        assert scene.ran_s >= batch_share * scene.held_s - SLOT_S - 1e-6, "starved"
        assert seen.share_granted_s <= (batch_share * scene.held_s + SLOT_S if batch_share else 0) + 1e-6
        before = now_s()
        async with scene.gate.realtime(), scene.gate.batch(freeze=do_nothing, thaw=do_nothing) as lease:
            assert lease.paused
        assert now_s() == before

    play(story)


def test_realtime_requests_share_the_gate() -> None:
    async def story() -> None:
        gate = new_gate()
        async with gate.realtime(), gate.realtime():
            assert gate.statistics().realtime_holding == 2

    play(story)


def test_a_realtime_request_enters_without_one_turn_of_the_loop_whoever_holds_and_waits() -> None:
    async def story() -> None:
        scene = Scene()
        for _ in range(2):
            scene.start(realtime=False)
        scene.start(realtime=True)
        await scene.settle()
        request = scene.gate.realtime()
        with pytest.raises(StopIteration):  # a coroutine that ends without having handed back to the loop
            request.__aenter__().send(None)
        assert scene.gate.statistics().realtime_holding == 2
        with pytest.raises(StopIteration):
            request.__aexit__(None, None, None).send(None)
        scene.release_all()

    play(story)


def test_the_first_request_freezes_before_its_body_and_the_last_ones_release_thaws() -> None:
    async def story() -> None:
        gate = new_gate()
        work = Work()
        first, second = gate.realtime(), gate.realtime()
        async with gate.batch(freeze=work.freeze, thaw=work.thaw) as lease:
            assert (work.orders, lease.paused) == ([], False)
            await first.__aenter__()
            assert (work.orders, lease.paused) == (["freeze"], True)
            await second.__aenter__()
            await first.__aexit__(None, None, None)
            assert (work.orders, lease.paused) == (["freeze"], True), "the second one still holds"
            await second.__aexit__(None, None, None)
            assert (work.orders, lease.paused) == (["freeze", "thaw"], False)
        assert (work.orders, lease.pause_count) == (["freeze", "thaw"], 1)

    play(story)


def test_a_batch_granted_beside_a_realtime_request_is_frozen_before_its_body() -> None:
    async def story() -> None:
        gate = new_gate()
        work = Work()
        async with gate.realtime(), gate.batch(freeze=work.freeze, thaw=work.thaw) as lease:
            assert (work.orders, lease.paused) == (["freeze"], True)

    play(story)


def test_a_waiting_batch_is_frozen_inside_the_release_that_hands_it_the_gate() -> None:
    async def story() -> None:
        scene = Scene()
        before, after = scene.start(realtime=False), scene.start(realtime=False)
        scene.start(realtime=True)
        await scene.settle()
        assert scene.work[after].orders == [], "it does not hold the gate yet"
        scene.releases[before].set()
        while not scene.tasks[before].done():
            assert scene.work[after].orders == []
            await asyncio.sleep(0)
        assert after not in scene.batch, "its task had no turn yet"
        assert scene.work[after].orders == ["freeze"]
        scene.release_all()
        await scene.settle()

    play(story)


def test_a_batch_that_releases_while_frozen_is_thawed_first_and_never_told_anything_again() -> None:
    async def story() -> None:
        gate = new_gate(0.5)
        work = Work()
        async with gate.realtime():
            async with gate.batch(freeze=work.freeze, thaw=work.thaw):
                pass
            assert work.orders == ["freeze", "thaw"]
            await asyncio.sleep(1.0)
        assert work.orders == ["freeze", "thaw"]

    play(story)


def test_batches_take_turns_in_the_order_they_came() -> None:
    async def story() -> None:
        scene = Scene()
        numbers = [scene.start(realtime=False) for _ in range(4)]
        scene.release_all()
        await asyncio.gather(*scene.tasks.values())
        assert scene.batch_order == numbers

    play(story)


def test_nobody_barges_in_between_a_release_and_the_waiters_turn() -> None:
    """The gate is the waiter's at the release already, not only when its task runs."""

    async def story() -> None:
        scene = Scene()
        holding = scene.gate.batch(freeze=do_nothing, thaw=do_nothing)
        await holding.__aenter__()
        waiter = scene.start(realtime=False)
        await scene.settle()
        await holding.__aexit__(None, None, None)
        assert scene.batch_order == []
        scene.releases[waiter].set()
        async with scene.gate.batch(freeze=do_nothing, thaw=do_nothing):
            assert scene.batch_order == [waiter]
            assert scene.tasks[waiter].done()

    play(story)


@pytest.mark.parametrize("realtime", [False, True], ids=["alone", "beside a realtime request"])
def test_a_waiter_cancelled_after_it_was_handed_the_gate_passes_it_on(*, realtime: bool) -> None:
    async def story() -> None:
        scene = Scene()
        first, unlucky, last = (scene.start(realtime=False) for _ in range(3))
        if realtime:
            scene.start(realtime=True)
        await scene.settle()
        scene.releases[first].set()
        while not scene.tasks[first].done():
            await asyncio.sleep(0)
        # The release handed the gate to the unlucky one, whose task had no turn yet.
        seen = scene.gate.statistics()
        assert (seen.batch_holding, seen.batch_waiting, scene.batch_order) == (True, 1, [first])
        scene.tasks[unlucky].cancel()
        await scene.settle()
        assert scene.batch_order == [first, last]
        assert scene.work[unlucky].orders == (["freeze", "thaw"] if realtime else [])
        assert scene.work[last].running != realtime
        scene.release_all()
        await scene.settle()
        assert not scene.gate.statistics().batch_holding

    play(story)


@pytest.mark.parametrize("release_first", [False, True], ids=["gone before", "gone at the release"])
def test_a_waiter_cancelled_before_its_turn_is_passed_over(*, release_first: bool) -> None:
    async def story() -> None:
        scene = Scene()
        first, gone, last = (scene.start(realtime=False) for _ in range(3))
        await scene.settle()
        if release_first:
            scene.releases[first].set()
        scene.tasks[gone].cancel()
        assert scene.gate.statistics().batch_waiting == 1
        scene.releases[first].set()
        await scene.settle()
        assert scene.batch_order == [first, last]
        assert scene.gate.statistics().batch_waiting == 0
        scene.release_all()
        await scene.settle()

    play(story)


def test_a_cancelled_holder_releases() -> None:
    async def story() -> None:
        scene = Scene()
        batch, waiting, request = (scene.start(realtime=kind) for kind in (False, False, True))
        await scene.settle()
        scene.tasks[request].cancel()
        await scene.settle()
        assert scene.work[batch].orders == ["freeze", "thaw"]
        scene.tasks[batch].cancel()
        await scene.settle()
        assert scene.batch_order == [batch, waiting]
        scene.release_all()
        await scene.settle()

    play(story)


def test_a_freeze_or_thaw_that_raises_is_logged_and_harms_nobody() -> None:
    async def story() -> None:
        gate = new_gate()

        def die() -> None:
            raise ProcessLookupError("no such process")

        async with gate.batch(freeze=die, thaw=die) as lease:
            async with gate.realtime():
                assert lease.paused
            assert not lease.paused
            frozen_at_its_end = gate.realtime()
            await frozen_at_its_end.__aenter__()
        await frozen_at_its_end.__aexit__(None, None, None)
        seen = gate.statistics()
        assert (seen.realtime_holding, seen.batch_holding, seen.pauses) == (0, False, 2)

    with structlog.testing.capture_logs() as logs:
        play(story)
    assert [(line["event"], line["log_level"]) for line in logs] == [("gate_order_failed", "error")] * 4
    assert "no such process" in logs[0]["error"]


async def saturate(gate: PriorityGate, *, hold_s: float, gap_s: float, until_s: float) -> None:
    while now_s() < until_s:
        async with gate.realtime():
            await asyncio.sleep(hold_s)
        await asyncio.sleep(gap_s)


@pytest.mark.parametrize("batch_share", [0.05, 0.3, 0.9])
@pytest.mark.parametrize(
    ("hold_s", "gap_s"),
    [
        pytest.param(10.0, 0.0, id="a request that never leaves"),
        pytest.param(0.003, 0.00001, id="short requests with tiny gaps"),
        pytest.param(0.1, 0.00001, id="long requests with tiny gaps"),
    ],
)
def test_saturated_realtime_leaves_the_batch_its_share(
    hold_s: float, gap_s: float, batch_share: float
) -> None:
    async def story() -> None:
        gate = new_gate(batch_share)
        work = Work()
        traffic = asyncio.create_task(saturate(gate, hold_s=hold_s, gap_s=gap_s, until_s=10.0))
        await asyncio.sleep(0)
        async with gate.batch(freeze=work.freeze, thaw=work.thaw) as lease:
            work.begin()
            await asyncio.sleep(9.99)
            assert work.ran_s == pytest.approx(9.99 * batch_share, abs=SLOT_S + 0.01)
            assert lease.paused_s == pytest.approx(9.99 - work.ran_s, abs=SLOT_S + 0.01)
            assert work.longest_run_s == pytest.approx(SLOT_S, abs=0.001)
            assert gate.statistics().share_granted_s == pytest.approx(work.ran_s, abs=SLOT_S + 0.05)
        await traffic

    play(story)


def test_overlapping_requests_leave_the_batch_its_share() -> None:
    async def story() -> None:
        gate = new_gate(0.3)
        work = Work()
        async with asyncio.TaskGroup() as traffic, gate.batch(freeze=work.freeze, thaw=work.thaw):
            for hold_s in (0.007, 0.011, 0.013):
                traffic.create_task(saturate(gate, hold_s=hold_s, gap_s=0.0, until_s=3.0))
            await asyncio.sleep(3.0)
            assert work.ran_s == pytest.approx(0.9, abs=SLOT_S + 0.01)

    play(story)


def test_requests_that_never_let_a_timer_come_in_time_leave_the_batch_its_share() -> None:
    """A busy loop runs a request from its first to its last line before it looks at its timers."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LeapingLoop)
        gate = new_gate(0.3)
        work = Work()
        async with gate.batch(freeze=work.freeze, thaw=work.thaw):
            while now_s() < 3.0:
                async with gate.realtime():
                    loop.selector.now_s += 0.01
                await asyncio.sleep(0)
            assert work.ran_s >= 0.9 - SLOT_S

    play(story)


def test_batches_too_short_to_use_up_a_slot_have_one_share_together() -> None:
    async def story() -> None:
        gate = new_gate(0.3)
        ran_s = 0.0
        async with gate.realtime():
            while now_s() < 10.0:
                work = Work()
                async with gate.batch(freeze=work.freeze, thaw=work.thaw):
                    while work.ran_s < 0.005:
                        await asyncio.sleep(0.001)
                ran_s += work.ran_s
            assert ran_s == pytest.approx(3.0, abs=2 * SLOT_S)
            assert gate.statistics().share_granted_s == pytest.approx(ran_s)

    play(story)


def test_requests_with_room_between_them_never_run_beside_the_batch() -> None:
    async def story() -> None:
        gate = new_gate(0.25)
        work = Work()
        async with gate.batch(freeze=work.freeze, thaw=work.thaw):
            for _ in range(50):
                await asyncio.sleep(0.2)
                async with gate.realtime():
                    assert not work.running
                    await asyncio.sleep(0.9 * SLOT_S / 0.25)
                    assert not work.running
                assert work.running
        assert gate.statistics().share_granted_s == 0

    play(story)


def test_running_alone_builds_no_debt() -> None:
    async def story() -> None:
        gate = new_gate(0.25)
        work = Work()
        async with gate.batch(freeze=work.freeze, thaw=work.thaw):
            await asyncio.sleep(100.0)
            async with gate.realtime():
                await asyncio.sleep(SLOT_S / 0.25 + 0.001)
                assert work.running, "a slot is due as soon as the bucket can be full"
                await asyncio.sleep(SLOT_S)
                assert not work.running
        assert work.orders == ["freeze", "thaw", "freeze", "thaw"]

    play(story)


@pytest.mark.parametrize("leaves", [False, True], ids=["the timer comes first", "the request leaves first"])
def test_a_loop_that_stood_still_owes_one_slot_and_no_more(*, leaves: bool) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LeapingLoop)
        gate = new_gate(0.25)
        work = Work()
        first, second = gate.realtime(), gate.realtime()
        async with gate.batch(freeze=work.freeze, thaw=work.thaw):
            await first.__aenter__()
            loop.selector.now_s += 100.0
            if leaves:
                await first.__aexit__(None, None, None)
            await second.__aenter__()
            await asyncio.sleep(SLOT_S / 2)
            assert work.orders == ["freeze", "thaw"]
            await asyncio.sleep(SLOT_S)
            assert work.orders == ["freeze", "thaw", "freeze"]
            await asyncio.sleep(SLOT_S)
            assert work.orders == ["freeze", "thaw", "freeze"]

    play(story)


def test_what_runs_between_two_requests_is_taken_off_the_credit() -> None:
    async def story() -> None:
        gate = new_gate(0.25)
        work = Work()
        async with gate.batch(freeze=work.freeze, thaw=work.thaw):
            async with gate.realtime():
                await asyncio.sleep(0.9 * SLOT_S / 0.25)
            await asyncio.sleep(SLOT_S / 2)
            # A timer of the first request would come due in the gap.
            missing_s = 0.1 * SLOT_S + 0.75 * SLOT_S / 2
            async with gate.realtime():
                await asyncio.sleep(missing_s / 0.25 - 0.001)
                assert not work.running
                await asyncio.sleep(0.002)
                assert work.running

    play(story)


def test_the_time_before_its_grant_earns_a_batch_nothing() -> None:
    async def story() -> None:
        gate = new_gate(0.25)
        work = Work()
        request = gate.realtime()
        await request.__aenter__()
        await asyncio.sleep(100.0)
        async with gate.batch(freeze=work.freeze, thaw=work.thaw):
            await asyncio.sleep(SLOT_S / 0.25 / 2)
            await request.__aexit__(None, None, None)
            async with gate.realtime():
                assert not work.running

    play(story)


def test_a_slot_goes_on_over_a_change_of_requests_and_ends_in_time() -> None:
    async def story() -> None:
        gate = new_gate(0.5)
        work = Work()
        async with gate.batch(freeze=work.freeze, thaw=work.thaw):
            async with gate.realtime():
                await asyncio.sleep(SLOT_S / 0.5 + SLOT_S / 4)
                assert work.orders == ["freeze", "thaw"]
                assert gate.statistics().share_granted_s == pytest.approx(SLOT_S / 4)
            async with gate.realtime():
                assert work.running
                await asyncio.sleep(SLOT_S / 4)
                assert work.running
                await asyncio.sleep(SLOT_S * 3 / 4)
                assert not work.running
            assert work.orders == ["freeze", "thaw", "freeze", "thaw"]

    play(story)


def test_a_slot_ends_with_its_lease() -> None:
    async def story() -> None:
        gate = new_gate(0.5)
        first, second = Work(), Work()
        async with gate.realtime():
            async with gate.batch(freeze=first.freeze, thaw=first.thaw):
                await asyncio.sleep(SLOT_S / 0.5 + SLOT_S / 4)
                assert first.running
            async with gate.batch(freeze=second.freeze, thaw=second.thaw) as lease:
                assert lease.paused, "its own slot comes when its own credit is there"
                assert not second.running

    play(story)


@pytest.mark.parametrize(("batch_share", "timers"), [(0.0, False), (0.3, True)])
def test_without_a_share_no_timer_is_ever_set(
    batch_share: float, *, timers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        scene = Scene(batch_share)
        delays: list[float] = []
        loop = asyncio.get_running_loop()
        set_timer = loop.call_at

        def noted(when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
            delays.append(when - loop.time())
            return set_timer(when, *args, **kwargs)

        monkeypatch.setattr(loop, "call_at", noted)
        for realtime in (True, False, False, True):
            scene.start(realtime=realtime)
            await scene.settle()
        scene.release_all()
        await scene.settle()
        assert bool(delays) == timers

    play(story)


def test_no_timer_outlives_the_lease_it_was_set_for() -> None:
    async def story() -> None:
        gate = new_gate(0.3)
        async with gate.realtime():
            for frozen_s in (0.0, 0.01, 0.07, 0.2):
                async with gate.batch(freeze=do_nothing, thaw=do_nothing):
                    await asyncio.sleep(frozen_s)
                assert gate._timer is None
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LeapingLoop)
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]

    play(story)


@pytest.mark.parametrize("batch_share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(batch_share: float) -> None:
    with pytest.raises(ValueError, match=f"at least 0 and below 1, found {batch_share}"):
        PriorityGate(batch_share=batch_share)


def test_statistics_tell_who_holds_who_waits_and_how_long_was_what() -> None:
    async def story() -> None:
        scene = Scene(0.2)
        scene.start(realtime=False)
        scene.start(realtime=False)
        await asyncio.sleep(1.0)
        scene.start(realtime=True)
        scene.start(realtime=True)
        await asyncio.sleep(SLOT_S / 0.2 + SLOT_S + 0.01)
        seen = scene.gate.statistics()
        assert seen == GateStatistics(
            realtime_holding=2,
            batch_holding=True,
            batch_waiting=1,
            batch_frozen=True,
            realtime_granted=2,
            batch_granted=1,
            pauses=2,
            paused_s=seen.paused_s,
            share_granted_s=seen.share_granted_s,
            realtime_waited_s=0.0,
            batch_waited_s=0.0,
        )
        assert seen.paused_s == pytest.approx(SLOT_S / 0.2 + 0.01)
        assert seen.share_granted_s == pytest.approx(SLOT_S)
        scene.release_all()
        await scene.settle()
        seen = scene.gate.statistics()
        assert (seen.batch_granted, seen.pauses, seen.batch_frozen) == (2, 3, False)
        assert seen.batch_waited_s == pytest.approx(1.0 + SLOT_S / 0.2 + SLOT_S + 0.01)
        assert seen.paused_s == pytest.approx(SLOT_S / 0.2 + 0.01), "pauses of batches that ended still count"

    play(story)


def test_a_lease_tells_its_pauses_while_they_last_and_after() -> None:
    async def story() -> None:
        gate = new_gate()
        async with gate.batch(freeze=do_nothing, thaw=do_nothing) as lease:
            for ended in range(2):
                async with gate.realtime():
                    await asyncio.sleep(0.5)
                    assert (lease.paused, lease.pause_count) == (True, ended + 1)
                    assert lease.paused_s == pytest.approx(0.5 * (ended + 1))
                await asyncio.sleep(3.0)
                assert not lease.paused
        assert lease.pause_count == 2
        assert lease.paused_s == pytest.approx(1.0)

    play(story)


def test_a_slot_comes_and_ends_on_the_services_own_loop_and_clock() -> None:
    async def story() -> None:
        gate = PriorityGate(batch_share=0.3)
        work = Work()
        async with asyncio.timeout(30), gate.realtime(), gate.batch(freeze=work.freeze, thaw=work.thaw):
            while len(work.orders) < 5:
                await asyncio.sleep(0.005)
        assert work.orders[:5] == ["freeze", "thaw", "freeze", "thaw", "freeze"]
        assert gate.statistics().share_granted_s >= 1.5 * SLOT_S, "two slots, a little early or late"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
