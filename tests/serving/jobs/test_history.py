"""The published history: complete, fresh, whole at every moment, and no burden for the store."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb
import pyarrow.parquet as pq
import pytest

from serving.jobs.history.published import EVENTS, JOBS
from serving.jobs.history.publisher import HistoryPublisher
from serving.jobs.model import JobRequest, Phase, Progress
from serving.jobs.storage.store import JobStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from serving.jobs.model import JobRecord

T = TypeVar("T")


def with_history(folder: Path, story: Callable[[JobStore, HistoryPublisher], Awaitable[T]]) -> T:
    """Run a story against an open store and a publisher into `folder / "history"`."""

    async def run() -> T:
        store = JobStore(folder / "jobs")
        await store.open()
        try:
            return await story(store, HistoryPublisher(store, folder / "history"))
        finally:
            await store.close()

    return asyncio.run(run())


async def submit(store: JobStore, name: str = "a") -> JobRecord:
    request = JobRequest(f"/data/{name}.txt", f"/data/{name}.out.txt")
    return await store.submit(request, bytes_total=600, idempotency_key=None, digest=name)


async def advance(store: JobStore, job: JobRecord, rows: int) -> None:
    await store.progress(
        job.batch_request_id,
        Progress(
            checkpoint="{}",
            num_records_processed=rows,
            failed_rows=0,
            bytes_done=rows * 300,
            paused_s=0.5,
            pause_count=2,
            running_s=2.0,
        ),
    )


async def begun(store: JobStore, name: str) -> JobRecord:
    job = await submit(store, name)
    return await store.begin(job.batch_request_id, model_version="v1")


def ask(folder: Path, query: str) -> list[Any]:
    with duckdb.connect(str(folder / "history" / "history.duckdb"), read_only=True) as connection:
        return connection.execute(query).fetchall()


def contents(folder: Path) -> tuple[list[Any], ...]:
    """Both tables, from the database file and from Parquet, in an order of our own."""
    history = folder / "history"
    jobs, events = "ORDER BY batch_request_id", "ORDER BY event_id"
    return (
        ask(folder, f"FROM batch_jobs {jobs}"),
        ask(folder, f"FROM batch_events {events}"),
        duckdb.execute(f"FROM read_parquet(?) {jobs}", [str(history / "jobs.parquet")]).fetchall(),
        duckdb.execute(f"FROM read_parquet(?) {events}", [str(history / "events.parquet")]).fetchall(),
    )


async def in_the_store(store: JobStore) -> tuple[list[Any], list[Any]]:
    """What a snapshot of everything has to hold."""
    return await store.call(
        lambda tables: (
            tables.connection.execute(f"{JOBS.query} ORDER BY batch_request_id").fetchall(),
            tables.connection.execute(f"{EVENTS.query} ORDER BY event_id").fetchall(),
        )
    )


def test_another_process_reads_while_the_store_is_open(tmp_path: Path) -> None:
    folder = tmp_path / "it's here"

    async def story(store: JobStore, history: HistoryPublisher) -> str:
        await advance(store, await begun(store, "it's"), 2)
        await history.publish()
        code = (
            "import duckdb, sys\n"
            "print(duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2]).fetchall())\n"
        )
        query = (
            "SELECT j.status, j.phase, j.num_records_processed, e.kind FROM batch_jobs j "
            "JOIN batch_events e USING (batch_request_id) ORDER BY event_id DESC"
        )
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code, str(folder / "history" / "history.duckdb"), query],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert "('IN PROGRESS', 'RUNNING', 2, 'started')" in with_history(folder, story)
    jobs = pq.read_table(folder / "history" / "jobs.parquet").to_pylist()
    assert [job["input_filepath"] for job in jobs] == ["/data/it's.txt"]
    assert "checkpoint" not in jobs[0]
    events = pq.read_table(folder / "history" / "events.parquet").to_pylist()
    assert [event["kind"] for event in events] == ["submitted", "started"]


def test_a_history_of_nothing_has_its_tables_and_says_what_columns_mean(tmp_path: Path) -> None:
    async def story(_: JobStore, history: HistoryPublisher) -> None:
        await history.publish()

    with_history(tmp_path, story)
    assert contents(tmp_path) == ([], [], [], [])
    found = ask(tmp_path, "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal")
    promised = [
        (table.name, column.name, column.meaning) for table in (JOBS, EVENTS) for column in table.columns
    ]
    assert sorted(found) == sorted(promised)


def test_clients_of_duckdb_1_read_the_file(tmp_path: Path) -> None:
    async def story(_: JobStore, history: HistoryPublisher) -> None:
        await history.publish()

    with_history(tmp_path, story)
    header = (tmp_path / "history" / "history.duckdb").read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") == 64  # the storage version of DuckDB 1.0


def test_whatever_changes_each_snapshot_is_what_the_store_holds(tmp_path: Path) -> None:
    """Only changes are taken over, so each kind of change is made once, with others' jobs in between."""

    async def story(store: JobStore, history: HistoryPublisher) -> None:
        async def same() -> None:
            await history.publish()
            jobs, events = await in_the_store(store)
            assert contents(tmp_path) == (jobs, events, jobs, events)

        await same()
        first, second, third = [await submit(store, name) for name in ("a", "b", "c")]
        await same()
        await store.begin(first.batch_request_id, model_version="v1")
        await advance(store, first, 2)
        await same()
        await advance(store, first, 4)
        await same()
        await store.request_cancel(second.batch_request_id)
        await store.finalizing(first.batch_request_id)
        await same()
        await store.finish(first.batch_request_id, Phase.COMPLETED)
        await same()
        await store.begin(third.batch_request_id, model_version="v1")
        await advance(store, third, 1)
        await store.stopped(third.batch_request_id)
        await same()
        await store.begin(third.batch_request_id, model_version="v1")
        await store.request_cancel(third.batch_request_id)
        await same()
        await store.finish(third.batch_request_id, Phase.FAILED, error="no", line=3, remedy="do")
        await same()
        await same()

    with_history(tmp_path, story)


def test_progress_alone_leaves_the_file_of_events_as_it_is(tmp_path: Path) -> None:
    async def story(store: JobStore, history: HistoryPublisher) -> None:
        job = await begun(store, "a")
        await history.publish()
        events, jobs = (tmp_path / "history" / f"{name}.parquet" for name in ("events", "jobs"))
        before = events.stat().st_ino, jobs.stat().st_ino
        await advance(store, job, 2)
        await history.publish()
        assert events.stat().st_ino == before[0]
        assert jobs.stat().st_ino != before[1]

    with_history(tmp_path, story)


READER = """
import sys, duckdb
path, parquet, stop, copy = sys.argv[1:]
query = ("SELECT (SELECT sum(num_records_processed) FROM batch_jobs),"
         " (SELECT max(event_id) FROM batch_events), (SELECT count(*) FROM batch_jobs),"
         " (SELECT count(DISTINCT batch_request_id) FROM batch_events)")
import pathlib
last, reads = (0, 0, 0), 0
print("reading", flush=True)
while not pathlib.Path(stop).exists():
    with duckdb.connect(path, read_only=True) as connection:
        *now, with_events = connection.execute(query).fetchone()
    assert all(new >= old for new, old in zip(now, last)), f"{now} after {last}"
    assert now[2] == with_events, "a job without its event, or an event without its job"
    last = now
    # A copy, which is opened once: DuckDB opens what it reads several times.
    pathlib.Path(copy).write_bytes(pathlib.Path(parquet).read_bytes())
    assert duckdb.execute("SELECT count(*) FROM read_parquet(?)", [copy]).fetchone()[0] > 0
    reads += 1
print(reads, *last)
"""


def test_a_reader_in_a_loop_sees_no_torn_file_and_no_older_state(tmp_path: Path) -> None:
    history_folder = tmp_path / "history"

    async def story(store: JobStore, history: HistoryPublisher) -> tuple[int, str]:
        job = await begun(store, "a")
        await advance(store, job, 1)
        await history.publish()
        names = ("history.duckdb", "jobs.parquet", "stop", "copy")
        arguments = [str(history_folder / name) for name in names]
        with subprocess.Popen(  # noqa: ASYNC220 - a millisecond
            [sys.executable, "-c", READER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as reader:
            assert reader.stdout is not None
            await asyncio.to_thread(reader.stdout.readline)
            for i in range(2, 50):
                await advance(store, job, i)
                if not i % 3:
                    await submit(store, f"more {i}")
                await history.publish()
            (history_folder / "stop").touch()
            said = await asyncio.to_thread(reader.stdout.read)
        return reader.returncode, said

    code, said = with_history(tmp_path, story)
    assert code == 0, said
    reads, rows, _, jobs = map(int, said.split())
    assert rows <= 49
    assert jobs <= 17
    assert reads > 5, said


def test_after_a_crash_the_history_is_made_anew_from_what_is_stored(tmp_path: Path) -> None:
    """A kill leaves the private files behind, and snapshots older than the store."""

    async def before(store: JobStore, history: HistoryPublisher) -> None:
        job = await begun(store, "a")
        await history.publish()
        await advance(store, job, 4)
        await submit(store, "b")

    async def after(store: JobStore, history: HistoryPublisher) -> None:
        await history.publish()
        jobs, events = await in_the_store(store)
        assert contents(tmp_path) == (jobs, events, jobs, events)

    with_history(tmp_path, before)
    leftover = tmp_path / "history" / ".work"
    assert leftover.is_dir(), "nobody has closed it"
    (leftover / "1.duckdb").write_bytes(b"torn")
    with_history(tmp_path, after)


@pytest.mark.parametrize("harm", ["folder removed", "private file removed"])
def test_a_history_that_somebody_removed_is_made_anew(tmp_path: Path, harm: str) -> None:
    async def story(store: JobStore, history: HistoryPublisher) -> None:
        running = asyncio.create_task(history.run())
        await submit(store, "a")
        history.note_change()
        await until((tmp_path / "history" / "events.parquet").exists)
        shutil.rmtree(tmp_path / "history" / (".work" if harm == "private file removed" else ""))
        job = await submit(store, "b")
        # What comes with a failure is tried again; another change does not wait for that.
        while job.batch_request_id not in ids():
            history.note_change()
            await asyncio.sleep(0.02)
        history.close()
        await running

    def ids() -> list[str]:
        if not (tmp_path / "history" / "history.duckdb").exists():
            return []
        return [found[0] for found in ask(tmp_path, "SELECT batch_request_id FROM batch_jobs")]

    with_history(tmp_path, story)
    assert len(ids()) == 2


def test_a_folder_that_cannot_be_written_is_told_once_and_used_when_it_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "history"
    blocked.write_text("a file where a folder should be")

    async def story(store: JobStore, history: HistoryPublisher) -> None:
        running = asyncio.create_task(history.run())
        for i in range(5):
            await submit(store, str(i))
            history.note_change()
            await asyncio.sleep(0.02)
        assert (await store.counts())["QUEUED"] == 5
        blocked.unlink()
        history.note_change()
        await until((blocked / "events.parquet").exists)
        history.close()
        await running

    with_history(tmp_path, story)
    assert len(ask(tmp_path, "FROM batch_jobs")) == 5
    printed = capsys.readouterr().out
    assert printed.count("could not be published") == 1
    assert "Traceback" not in printed
    assert "published again" in printed


def test_closing_publishes_what_is_left_and_leaves_only_what_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.jobs.history.publisher.PROGRESS_INTERVAL_S", 60.0)

    async def story(store: JobStore, history: HistoryPublisher) -> None:
        running = asyncio.create_task(history.run())
        history.note_change()
        await until((tmp_path / "history" / "events.parquet").exists)
        job = await begun(store, "a")
        await advance(store, job, 7)
        history.note_progress()  # not due for a minute
        history.close()
        async with asyncio.timeout(20):
            await running

    with_history(tmp_path, story)
    assert ask(tmp_path, "SELECT num_records_processed FROM batch_jobs") == [(7,)]
    assert sorted(path.name for path in (tmp_path / "history").iterdir()) == [
        "events.parquet",
        "history.duckdb",
        "jobs.parquet",
    ]


def test_progress_is_published_once_an_interval_and_changes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.jobs.history.publisher.PROGRESS_INTERVAL_S", 60.0)

    async def story(_: JobStore, history: HistoryPublisher) -> int:
        published = 0
        publish = history.publish

        async def counted() -> None:
            nonlocal published
            await publish()
            published += 1

        history.publish = counted  # type: ignore[method-assign]
        running = asyncio.create_task(history.run())
        history.note_progress()
        await until(lambda: published == 1)
        for _i in range(50):
            history.note_progress()
            await asyncio.sleep(0.01)
        on_progress = published
        history.note_change()
        await until(lambda: published == 2)
        history.close()
        await running
        return on_progress

    assert with_history(tmp_path, story) == 1


WORK_OFTEN = """
import os, sys
from pathlib import Path
from tests.memory import anonymous_mb
from tests.serving.jobs.test_history import submit, with_history

async def story(store, history):
    held = []
    for number in range(150):
        await submit(store, str(number))
        await history.publish()
        held.append(anonymous_mb(os.getpid()))
    for _ in range(200):
        await store.newest(limit=50)
    before = anonymous_mb(os.getpid())
    for _ in range(1500):
        await store.newest(limit=50)
    print(held[-1] - held[0], anonymous_mb(os.getpid()) - before)

with_history(Path(sys.argv[1]), story)
"""


def test_publishing_and_listing_often_leaves_little_memory_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK_OFTEN, str(tmp_path)], capture_output=True, text=True, check=True
    )
    published_mb, listed_mb = map(float, done.stdout.split())
    assert ask(tmp_path, "SELECT count(DISTINCT batch_request_id) FROM batch_jobs") == [(150,)], (
        "after an opening"
    )
    assert published_mb < 15, "with threads for reading files, and without giving back, it is 28"
    assert listed_mb < 2, "with ORDER BY ... LIMIT it is 5"


async def until(ready: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(20):
        while not ready():
            await asyncio.sleep(0.01)
