"""The job store, on real DuckDB files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import duckdb
import msgspec
import pytest

from embup_core.errors import JobConflictError, JobError, UnknownJobError
from serving.jobs.model import JobRequest, Phase, Progress, utc_now
from serving.jobs.storage.store import JobStore
from serving.jobs.storage.tables import JobTables

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

T = TypeVar("T")


def with_store(folder: Path, story: Callable[[JobStore], Awaitable[T]]) -> T:
    """Run a story against an open store."""

    async def run() -> T:
        store = JobStore(folder)
        await store.open()
        try:
            return await story(store)
        finally:
            await store.close()

    return asyncio.run(run())


def request(name: str = "a") -> JobRequest:
    return JobRequest(f"/data/{name}.txt", f"/data/{name}.out.txt")


def progress(rows: int) -> Progress:
    return Progress(
        checkpoint="{}",
        num_records_processed=rows,
        failed_rows=0,
        bytes_done=rows * 300,
        paused_s=0.5,
        pause_count=2,
        running_s=1.5,
    )


def test_a_job_survives_closing_and_opening(tmp_path: Path) -> None:
    async def submit(store: JobStore) -> str:
        job = await store.submit(request(), bytes_total=600, idempotency_key=None, digest="d")
        await store.begin(job.batch_request_id, model_version="v1")
        await store.progress(job.batch_request_id, progress(2))
        return job.batch_request_id

    job_id = with_store(tmp_path, submit)
    job = with_store(tmp_path, lambda store: store.get(job_id))
    assert (job.phase, job.num_records_processed, job.model_version) == (Phase.RUNNING, 2, "v1")
    assert (job.input_filepath, job.output_filepath) == ("/data/a.txt", "/data/a.out.txt")
    assert (job.on_bad_row, job.overwrite) == ("fail", False)


@pytest.mark.parametrize(
    ("keep_months", "stay"), [(24, {"new", "live", "last"}), (0, {"old", "new", "live", "last"})]
)
def test_jobs_that_ended_long_ago_are_removed_when_the_store_opens(
    tmp_path: Path, keep_months: int, stay: set[str]
) -> None:
    async def submit(store: JobStore) -> dict[str, str]:
        jobs = {}
        for name in ("old", "new", "live", "last"):
            job = await store.submit(request(name), bytes_total=600, idempotency_key=None, digest=name)
            jobs[name] = job.batch_request_id
            if name != "live":
                await store.finish(job.batch_request_id, Phase.COMPLETED)
        return jobs

    jobs = with_store(tmp_path, submit)
    with duckdb.connect(str(tmp_path / "jobs.duckdb")) as connection:
        for name in ("old", "last"):  # the last one stays, so that its numbers are not given again
            connection.execute(
                "UPDATE batch_jobs SET finished_at = TIMESTAMP '2020-01-01' WHERE batch_request_id = ?",
                [jobs[name]],
            )

    async def opened() -> tuple[set[str], dict[str, int]]:
        store = JobStore(tmp_path, keep_months=keep_months)
        await store.open()
        try:
            found = await store.newest(limit=10)
            return {job.batch_request_id for job in found}, await store.counts()
        finally:
            await store.close()

    found, counts = asyncio.run(opened())
    assert found == {jobs[name] for name in stay}
    assert sum(counts.values()) == len(stay)
    with duckdb.connect(str(tmp_path / "jobs.duckdb"), read_only=True) as connection:
        of = connection.execute("SELECT DISTINCT batch_request_id FROM batch_events").fetchall()
    assert {job for (job,) in of} == found


def test_a_clock_that_is_years_ahead_removes_no_history(tmp_path: Path) -> None:
    async def story(store: JobStore) -> tuple[int, int]:
        for name in ("a", "b"):
            job = await store.submit(request(name), bytes_total=600, idempotency_key=None, digest=name)
            await store.finish(job.batch_request_id, Phase.COMPLETED)
        removed = await store.call(JobTables.remove_old, utc_now() + timedelta(days=400))
        return removed, len(await store.newest(limit=10))

    assert with_store(tmp_path, story) == (0, 2)


def test_ids_are_unknown_until_submitted(tmp_path: Path) -> None:
    with pytest.raises(UnknownJobError, match="no batch request 'nope'"):
        with_store(tmp_path, lambda store: store.get("nope"))


def test_jobs_are_listed_newest_first_and_worked_on_oldest_first(tmp_path: Path) -> None:
    async def story(store: JobStore) -> None:
        jobs = [
            await store.submit(request(name), bytes_total=1, idempotency_key=None, digest=name)
            for name in ("a", "b", "c")
        ]
        ids = [job.batch_request_id for job in jobs]
        assert [job.batch_request_id for job in await store.newest(limit=2)] == [ids[2], ids[1]]
        oldest = await store.oldest_live()
        assert oldest is not None
        assert oldest.batch_request_id == ids[0]
        await store.finish(ids[0], Phase.FAILED, error="no", line=3, remedy="do")
        oldest = await store.oldest_live()
        assert oldest is not None
        assert oldest.batch_request_id == ids[1]
        failed = await store.newest(limit=9, phases=[Phase.FAILED])
        assert [(job.batch_request_id, job.error, job.error_line) for job in failed] == [(ids[0], "no", 3)]
        assert (await store.counts())["QUEUED"] == 2

    with_store(tmp_path, story)


def test_one_key_is_one_job(tmp_path: Path) -> None:
    async def story(store: JobStore) -> None:
        first = await store.submit(request(), bytes_total=1, idempotency_key="key", digest="same")
        again = await store.submit(request(), bytes_total=1, idempotency_key="key", digest="same")
        assert again.batch_request_id == first.batch_request_id
        with pytest.raises(JobConflictError, match="was used for another request"):
            await store.submit(request("b"), bytes_total=1, idempotency_key="key", digest="other")
        assert len(await store.newest(limit=9)) == 1

    with_store(tmp_path, story)


def test_two_live_jobs_never_share_an_output(tmp_path: Path) -> None:
    async def story(store: JobStore) -> None:
        first = await store.submit(request(), bytes_total=1, idempotency_key=None, digest="1")
        with pytest.raises(JobConflictError, match=first.batch_request_id):
            await store.submit(request(), bytes_total=1, idempotency_key=None, digest="1")
        await store.finish(first.batch_request_id, Phase.COMPLETED)
        await store.submit(request(), bytes_total=1, idempotency_key=None, digest="1")

    with_store(tmp_path, story)


def test_a_queued_job_is_cancelled_at_once_and_not_begun_after(tmp_path: Path) -> None:
    async def story(store: JobStore) -> None:
        job = await store.submit(request(), bytes_total=1, idempotency_key=None, digest="1")
        job = await store.request_cancel(job.batch_request_id)
        assert job.phase is Phase.CANCELLED
        assert job.phase.request_status == "FAILED"
        job = await store.begin(job.batch_request_id, model_version="v1")
        assert job.phase is Phase.CANCELLED
        with pytest.raises(JobConflictError, match="already CANCELLED"):
            await store.request_cancel(job.batch_request_id)

    with_store(tmp_path, story)


def test_a_cancellation_accepted_before_publishing_stops_it(tmp_path: Path) -> None:
    async def story(store: JobStore) -> None:
        job = await store.submit(request(), bytes_total=1, idempotency_key=None, digest="1")
        await store.begin(job.batch_request_id, model_version="v1")
        job = await store.request_cancel(job.batch_request_id)
        assert (job.phase, job.cancel_requested) == (Phase.RUNNING, True)
        job = await store.finalizing(job.batch_request_id)
        assert job.phase is Phase.RUNNING

    with_store(tmp_path, story)


def test_publishing_can_no_longer_be_cancelled(tmp_path: Path) -> None:
    async def story(store: JobStore) -> None:
        job = await store.submit(request(), bytes_total=1, idempotency_key=None, digest="1")
        await store.begin(job.batch_request_id, model_version="v1")
        await store.finalizing(job.batch_request_id)
        with pytest.raises(JobConflictError, match="being published"):
            await store.request_cancel(job.batch_request_id)

    with_store(tmp_path, story)


def test_a_failed_transaction_raises_and_changes_nothing(tmp_path: Path) -> None:
    """DuckDB's own COMMIT after an error would answer without an error."""

    def broken(tables: JobTables) -> None:
        with tables.transaction() as connection:
            connection.execute("UPDATE batch_jobs SET phase = 'COMPLETED'")
            connection.execute("INSERT INTO nowhere VALUES (1)")

    async def story(store: JobStore) -> None:
        job = await store.submit(request(), bytes_total=1, idempotency_key=None, digest="1")
        with pytest.raises(duckdb.CatalogException):
            await store.call(broken)
        assert (await store.get(job.batch_request_id)).phase is Phase.QUEUED
        await store.begin(job.batch_request_id, model_version="v1")  # the connection is usable

    with_store(tmp_path, story)


def test_counts_are_those_of_the_moment(tmp_path: Path) -> None:
    def recount(tables: JobTables) -> dict[str, int]:
        query = "SELECT phase, count(*) FROM batch_jobs GROUP BY phase"
        return dict(tables.connection.execute(query).fetchall())

    async def check(store: JobStore) -> None:
        for _ in range(2):  # the second is answered without a query
            counts = await store.counts()
            assert {phase: count for phase, count in counts.items() if count} == await store.call(recount)

    async def story(store: JobStore) -> None:
        await check(store)
        jobs = [
            await store.submit(request(name), bytes_total=1, idempotency_key=None, digest=name)
            for name in "abcd"
        ]
        a, b, c, d = (job.batch_request_id for job in jobs)
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: store.begin(a, model_version="v1"),
            lambda: store.progress(a, progress(5)),
            lambda: store.finalizing(a),
            lambda: store.finish(a, Phase.COMPLETED),
            lambda: store.request_cancel(b),
            lambda: store.begin(c, model_version="v1"),
            lambda: store.finish(c, Phase.FAILED, error="no"),
            lambda: store.call(JobTables.reopen),
            lambda: store.begin(d, model_version="v1"),
            lambda: store.stopped(d),
        ]
        for step in steps:
            await step()
            await check(store)

    with_store(tmp_path, story)


def test_a_commit_that_was_durable_is_not_made_again_after_the_database_became_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key, a second submission would meet its own job and be refused as a conflict."""

    async def story(store: JobStore) -> None:
        commit_then_break(monkeypatch)
        job = await store.submit(request(), bytes_total=1, idempotency_key=None, digest="d")
        monkeypatch.undo()
        assert await store.newest(limit=9) == [job]
        commit_then_break(monkeypatch)
        begun = await store.begin(job.batch_request_id, model_version="m")
        monkeypatch.undo()
        assert begun.attempts == 1
        assert await store.get(job.batch_request_id) == begun

    with_store(tmp_path, story)


def commit_then_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next transaction be committed and its commit fail, as when a full disk stops a checkpoint."""
    plain = JobTables.transaction
    broken = iter([True])

    @contextmanager
    def transaction(tables: JobTables) -> Iterator[duckdb.DuckDBPyConnection]:
        with plain(tables) as connection:
            yield connection
        if next(broken, False):
            raise duckdb.FatalException("the database has been invalidated")

    monkeypatch.setattr(JobTables, "transaction", transaction)


def test_every_statement_runs_in_one_thread(tmp_path: Path) -> None:
    async def story(store: JobStore) -> set[int]:
        return set(await asyncio.gather(*(store.call(lambda _: threading.get_ident()) for _ in range(20))))

    threads = with_store(tmp_path, story)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_second_process_is_refused_with_a_remedy(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, pathlib\n"
        "from serving.jobs.storage.store import JobStore\n"
        "asyncio.run(JobStore(pathlib.Path(sys.argv[1])).open())\n"
    )

    async def story(_: JobStore) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        return done.stderr

    said = with_store(tmp_path, story)
    assert "is held by another process" in said
    assert "Stop the other service" in said


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(JobError, match=r"jobs\.duckdb"):
        with_store(tmp_path, lambda store: store.counts())


def test_a_kill_at_any_moment_of_creation_leaves_a_folder_that_opens(tmp_path: Path) -> None:
    """The file takes its name when it is whole, so a second start always succeeds."""
    code = (
        "import asyncio, sys, pathlib\n"
        "from serving.jobs.storage.store import JobStore\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "asyncio.run(JobStore(pathlib.Path(sys.argv[1])).open())\n"
        "print('open', flush=True); sys.stdin.readline()\n"
    )
    for i, delay_ms in enumerate((2, 8, 15, 25, 40)):
        folder = tmp_path / str(i)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            process.stdout.readline()
            process.stdin.write("\n")
            process.stdin.flush()
            time.sleep(delay_ms / 1e3)
            os.kill(process.pid, signal.SIGKILL)
        assert with_store(folder, lambda store: store.counts())["QUEUED"] == 0


def test_a_database_of_before_the_basis_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its batches go on where they were, in the only basis there was."""
    path = tmp_path / "jobs.duckdb"

    async def submit(store: JobStore) -> str:
        job = await store.submit(request(), bytes_total=1, idempotency_key="k", digest=request().digest)
        await store.begin(job.batch_request_id, model_version="v")
        await store.progress(job.batch_request_id, progress(7))
        return job.batch_request_id

    job_id = with_store(tmp_path, submit)
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE batch_jobs DROP COLUMN basis; UPDATE schema_version SET version = 2")
    found = with_store(tmp_path, lambda store: store.get(job_id))
    assert (found.basis, found.num_records_processed, found.checkpoint) == ("decoded", 7, "{}")
    asked_again = with_store(tmp_path, lambda store: store.by_key("k", request().digest))
    assert asked_again is not None
    assert asked_again.request == request()


def test_the_digest_of_the_usual_basis_is_that_of_before_there_was_one() -> None:
    before = b'{"input_filepath":"/data/a.txt","output_filepath":"/data/a.out.txt","on_bad_row":"fail",'
    before += b'"overwrite":false,"max_bad_rows":null}'
    assert request().digest == hashlib.sha256(before).hexdigest()
    assert msgspec.structs.replace(request(), basis="original").digest != request().digest
