"""Requests, kills and stops in any order: after each, what the service says and what lies on disk agree.

Dice choose the order, from a seed. Not hypothesis: what can be asked next depends on how far the service is,
and hypothesis wants the same choices to lead to the same place. The model is a few facts a client knows: what
it was acknowledged.
"""

from __future__ import annotations

import random
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.crash.conftest import BatchStatistics, Case, Scale
    from tests.serving.conftest import Service

SEED = 0
STEPS_A_STORY = 8
STORIES_A_FOLDER = 12
KILLS, STOPS = "kill -9 and restart", "SIGTERM and restart"
FINAL = {"COMPLETED", "FAILED", "CANCELLED"}
AT_WORK = {"RUNNING", "PAUSED", "FINALIZING"}


Kind = Literal[0, 1, 2, "fails"]
KINDS: tuple[Kind, ...] = (2, 1, 0, "fails")


@dataclass
class Known:
    """What a client knows of a batch that was acknowledged."""

    batch_request_id: str
    wanted: dict[str, Any]
    case: Case
    target: Path
    fails: bool
    key: str | None
    cancelled: bool = False
    rows: int = 0
    final: str | None = None

    def check(self, entry: dict[str, Any]) -> None:
        """Hold one entry of the list, and the files, against what was known."""
        phase, rows = entry["phase"], entry["num_records_processed"]
        assert self.final in {None, phase}, f"{self.final} became {phase}"
        assert self.rows <= rows <= self.case.rows, "never goes down"
        self.rows = rows
        if phase == "COMPLETED":
            assert (entry["status"], rows) == ("COMPLETED", self.case.rows)
            assert not self.fails
            assert not self.cancelled, "an accepted cancellation is kept"
            if self.final is None:
                self.case.check(self.target)
        elif phase in FINAL:
            assert entry["status"] == "FAILED"
            assert self.cancelled if phase == "CANCELLED" else self.fails, entry
            assert not self.target.exists()
            if phase == "FAILED":
                assert entry["error"]["line"] == self.case.rows // (self.case.failed_rows + 1) + 1
        else:
            assert entry["status"] == "IN PROGRESS"
            if self.target.exists():  # renamed a moment ago; the database is about to say so
                assert not self.fails
                assert self.target.stat().st_size == self.case.size_bytes
        self.final = phase if phase in FINAL else None


@dataclass
class World:
    """A service and what its clients know; a story goes on where the last one ended."""

    serve: Callable[..., Service]
    hold: Callable[[Service], Any]
    kill: Callable[[Service, BatchStatistics], None]
    statistics: BatchStatistics
    folder: Path
    good: list[Case]
    bad: Case
    service: Service | None = None
    jobs: list[Known] = field(default_factory=list)
    stories: int = 0

    def begin(self) -> Service:
        """Start anew now and then, so that the list stays short."""
        if self.service is None or self.stories % STORIES_A_FOLDER == 0:
            if self.service is not None:
                self.service.end(signal.SIGKILL)
            self.service = self.serve(data=self.folder / f"before story {self.stories}")
            self.jobs = []
        self.stories += 1
        return self.service


class Story:
    """Some steps of clients, and of whoever kills the service.

    Each story leaves some kinds of steps out, so that others come more often and in a row.
    """

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.service = world.begin()
        self.jobs = world.jobs
        self.held = ExitStack()
        self.holding = False

    def tell(self) -> None:
        """Do the steps, and look after each."""
        always = (self.add_batch, self.submit_a_key_again, self.submit_to_an_output_in_use, self.cancel)
        while_at_work = (self.kill, self.stop, self.reload, self.hold, self.wait, self.wait_for_all)
        left_out = {step for step in (*always, *while_at_work, self.status) if self.dice.random() < 0.3}
        for _ in range(self.dice.randint(1, 3)):
            self.add_batch(keyed=True)
        for _ in range(STEPS_A_STORY):
            self.what_is_said_is_so()
            possible = [*always, self.status]
            if any(job.final is None for job in self.jobs):
                possible += while_at_work
            self.dice.choice([step for step in possible if step not in left_out] or [self.add_batch])()
        self.finish()
        self.what_is_said_is_so()
        assert "Traceback" not in self.service.log.read_text()

    def step(self, what: str) -> None:
        self.world.statistics.add("steps")
        self.world.statistics.add(what)

    def post(self, body: dict[str, Any], key: str | None = None) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.service.http.post("/v1/batches", json=body, headers=headers)

    def pick(self) -> Known:
        return self.dice.choice(self.jobs)

    def add_batch(self, *, keyed: bool | None = None) -> None:
        self.step("submissions")
        kind = self.dice.choice(KINDS)
        if keyed is None:
            keyed = self.dice.random() < 0.5
        fails = kind == "fails"
        case = self.world.bad if isinstance(kind, str) else self.world.good[kind]
        target = self.service.data / "out" / f"{len(self.jobs)}.txt"
        wanted = case.wanted(target) | ({"on_bad_row": "fail"} if fails else {})
        key = f"key {len(self.jobs)}" if keyed else None
        answer = self.post(wanted, key)
        assert answer.status_code == 202, answer.text
        self.jobs.append(Known(answer.json()["batch_request_id"], wanted, case, target, fails, key))

    def submit_a_key_again(self) -> None:
        self.step("keys sent again")
        job = self.dice.choice([job for job in self.jobs if job.key])
        same = self.dice.random() < 0.5
        answer = self.post(job.wanted if same else job.wanted | {"overwrite": True}, job.key)
        if same:
            assert answer.status_code == 202
            assert answer.json()["batch_request_id"] == job.batch_request_id
        else:
            assert answer.status_code == 409, answer.text

    def submit_to_an_output_in_use(self) -> None:
        self.step("submissions to an output in use")
        path = self.pick().wanted["output_filepath"]
        job = [job for job in self.jobs if job.wanted["output_filepath"] == path][-1]
        answer = self.post(job.wanted)
        now = self.service.status(job.batch_request_id)["phase"]
        if answer.status_code == 202:  # nothing came of the first one
            assert now in {"FAILED", "CANCELLED"}
            again = Known(
                answer.json()["batch_request_id"], job.wanted, job.case, job.target, job.fails, None
            )
            # The path now is the new one's: only that one is held against it.
            job.target = job.target.with_name("of an ended one")
            self.jobs.append(again)
        else:
            assert answer.status_code in {409, 422}, answer.text
            assert answer.status_code == 409 or now in {"FINALIZING", "COMPLETED"}

    def cancel(self) -> None:
        self.step("cancellations")
        job = self.pick()
        answer = self.service.http.post(f"/v1/batches/{job.batch_request_id}/cancel")
        if answer.status_code == 202:
            assert job.final is None
            job.cancelled = True
        else:
            assert answer.status_code == 409
            assert self.service.status(job.batch_request_id)["phase"] in FINAL | {"FINALIZING"}

    def kill(self) -> None:
        self.step(KILLS)
        self.world.kill(self.service, self.world.statistics)
        self.let_go()
        self.service.start()

    def stop(self) -> None:
        self.step(STOPS)
        self.let_go()
        assert self.service.end(signal.SIGTERM) == 0
        self.service.start()

    def reload(self) -> None:
        self.step("reloads")
        assert self.service.http.post("/v1/models/reload").json()["changed"] is False

    def hold(self) -> None:
        self.step("realtime requests held or finished")
        if self.holding:
            self.let_go()
        else:
            self.held.enter_context(self.world.hold(self.service))
            self.holding = True

    def wait(self) -> None:
        self.step("waits")
        time.sleep(self.dice.uniform(0, 0.1))

    def status(self) -> None:
        self.step("looks at one batch")
        job = self.pick()
        found = self.service.status(job.batch_request_id)
        assert found["output_filepath"] == job.wanted["output_filepath"]

    def wait_for_all(self) -> None:
        self.step("waits for all batches")
        self.finish()

    def finish(self) -> None:
        self.let_go()
        for job in self.jobs:
            self.service.final(job.batch_request_id)

    def let_go(self) -> None:
        self.held.close()
        self.holding = False

    def what_is_said_is_so(self) -> None:
        entries = self.service.http.get("/v1/batches", params={"limit": 1000}).json()["batches"][::-1]
        assert [entry["batch_request_id"] for entry in entries] == [
            job.batch_request_id for job in self.jobs
        ], "every acknowledged batch, and no other"
        for job, entry in zip(self.jobs, entries, strict=True):
            job.check(entry)
        at_work = [i for i, entry in enumerate(entries) if entry["phase"] in AT_WORK]
        assert len(at_work) <= 1, "one batch at a time"
        assert all(entry["phase"] in FINAL for entry in entries[: at_work[0] if at_work else 0])
        if all(job.final for job in self.jobs):
            assert not list(self.service.data.rglob("*.part*"))


def test_whatever_is_asked_and_killed_in_any_order_every_promise_holds(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    hold_the_gate: Callable[[Service], Any],
    kill: Callable[[Service, BatchStatistics], None],
    statistics: BatchStatistics,
    scale: Scale,
    tmp_path: Path,
) -> None:
    enough = {"steps": scale.steps, KILLS: scale.steps // 30, STOPS: scale.steps // 60}
    for what, count in enough.items():
        statistics.require(what, count)
    good = [case(200), case(1500, bad=7), case(4000)]

    world = World(serve, hold_the_gate, kill, statistics, tmp_path, good, case(1500, bad=7))
    dice = random.Random(SEED)
    while any(statistics[what] < count for what, count in enough.items()):
        Story(world, dice).tell()
