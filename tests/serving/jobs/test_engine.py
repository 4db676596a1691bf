"""The batch engine when something around it fails: which failures end a job, and which only delay it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
import pytest

from embup_core.batch import BatchRun, BatchSpec
from embup_core.errors import OutputError
from serving.jobs import engine as engine_module
from serving.jobs.model import JobRecord, JobRequest, Phase, Progress
from serving.jobs.worker import process as worker_process
from serving.services import Services
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from embup_core.artifacts.registry import Registry

ROWS = 2_000


async def submit(services: Services, source: Path, target: Path) -> str:
    job = await services.store.submit(
        JobRequest(str(source), str(target)),
        bytes_total=1,
        idempotency_key=None,
        digest=str(target),
    )
    services.engine.notice()
    return job.batch_request_id


async def final(services: Services, job_id: str) -> JobRecord:
    async with asyncio.timeout(60):
        while not (job := await services.store.get(job_id)).phase.is_final:
            await services.engine.changed(services.engine.changes, 0.05)
    return job


@pytest.fixture
def source(tmp_path: Path, rows: Callable[..., Any]) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("".join(",".join(f"{value:.8f}" for value in row) + "\n" for row in rows(ROWS)))
    return path


def run(registry: Path, folder: Path, story: Callable[[Services], Awaitable[None]], **settings: Any) -> None:
    async def started() -> None:
        services = Services(
            ServingSettings(
                registry=registry,
                data=folder,
                batch_roots=(folder.parent,),
                checkpoint_interval_s=0.05,
                **settings,
            )
        )
        async with services.running():
            await story(services)

    asyncio.run(started())


def test_a_database_that_fails_delays_a_job_and_loses_nothing(
    registry: Registry, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "RETRY_S", 0.05)

    async def story(services: Services) -> None:
        write, calls = services.store.progress, 0

        async def failing(*args: Any, **kwargs: Any) -> JobRecord:
            nonlocal calls
            calls += 1
            if calls in {2, 3}:
                assert services.engine.failure is None or "no space" in services.engine.failure
                raise duckdb.IOException("no space left on device")
            return await write(*args, **kwargs)

        monkeypatch.setattr(services.store, "progress", failing)
        job = await final(services, await submit(services, source, tmp_path / "out.txt"))
        assert (job.phase, job.num_records_processed, job.attempts) == ("COMPLETED", ROWS, 3)
        assert services.engine.failure is None

    run(registry.root, tmp_path / "data", story)
    assert len((tmp_path / "out.txt").read_bytes().splitlines()) == ROWS


@pytest.fixture
def changed_worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let workers run some code first: ``changed_worker(code)``."""

    def change(code: str) -> None:
        start = f"{code}\nfrom serving.jobs.worker.main import main\nmain()\n"
        monkeypatch.setattr(worker_process, "COMMAND", (sys.executable, "-c", start))

    return change


def test_an_unexpected_error_ends_its_job_and_not_the_next(
    registry: Registry, tmp_path: Path, source: Path, changed_worker: Callable[[str], None]
) -> None:
    changed_worker(
        """
from embup_core.upsampler import Upsampler
answer, calls = Upsampler.upsample, 0
def broken(*args):
    global calls
    calls += 1
    if calls == 3:
        raise ZeroDivisionError("of all things, /usr/lib/x")
    return answer(*args)
Upsampler.upsample = broken
"""
    )

    async def story(services: Services) -> None:
        poisoned = await submit(services, source, tmp_path / "poisoned.txt")
        following = await submit(services, source, tmp_path / "following.txt")
        job = await final(services, poisoned)
        assert (job.phase, job.attempts, job.error_code) == ("FAILED", 1, "internal")
        assert "ZeroDivisionError" in (job.error or "")
        assert "/usr/lib" not in f"{job.error} {job.error_remedy}", "clients read it"
        assert job.error_remedy
        assert (await final(services, following)).phase == "COMPLETED"

    # The helper is forked for each job, so that only the worker itself counts beyond a job.
    run(registry.root, tmp_path / "data", story, batch_processes=1)
    assert not list(tmp_path.glob("poisoned.txt*"))


@pytest.mark.parametrize("dying", ["worker", "helper"])
def test_a_job_that_kills_its_worker_three_times_fails_and_the_next_completes(
    registry: Registry, tmp_path: Path, source: Path, changed_worker: Callable[[str], None], dying: str
) -> None:
    changed_worker(
        f"""
import multiprocessing, os, signal
from pathlib import Path
from embup_core.batch.workers import decoding as answering
answer, first, dying = answering.BlockDecoder.answer, os.getpid(), {dying!r}
def deadly(self, block, out):
    helper = os.getpid() != first
    poison = b"0.12345678," in block.text
    if poison and helper == (dying == "helper"):
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(self, block, out)
answering.BlockDecoder.answer = deadly
"""
    )
    poison = tmp_path / "poison.txt"
    lines = source.read_text().splitlines(keepends=True)
    poison.write_text("".join(lines[:1000]) + ",".join(["0.12345678"] * 32) + "\n" + "".join(lines) * 3)

    async def story(services: Services) -> None:
        poisoned = await submit(services, poison, tmp_path / "poisoned.txt")
        following = await submit(services, source, tmp_path / "following.txt")
        job = await final(services, poisoned)
        assert (job.phase, job.error_code, job.worker_deaths, job.attempts) == (
            "FAILED",
            "worker_killed",
            3,
            3,
        )
        assert job.error_remedy
        assert (await final(services, following)).phase == "COMPLETED"
        assert services.engine.failure is None

    # One process answers all blocks, or two share them: whoever is to die meets the poison some time.
    if dying == "worker":
        run(registry.root, tmp_path / "data", story, batch_processes=1)
    else:
        poison.write_text(poison.read_text() + (",".join(["0.12345678"] * 32) + "\n") * 1000)
        run(registry.root, tmp_path / "data", story, batch_processes=2)
    assert not list(tmp_path.glob("poisoned.txt*"))
    assert len((tmp_path / "following.txt").read_bytes().splitlines()) == ROWS


def test_a_decoder_that_is_gone_fails_the_job_that_started_with_it(
    registry: Registry, tmp_path: Path, source: Path, publish_another: Any
) -> None:
    decoders = tmp_path / "registry"
    shutil.copytree(registry.root, decoders)
    source.write_text(source.read_text() * 5)  # long enough to be stopped in the middle on a busy machine

    async def stop_in_the_middle(services: Services) -> None:
        job_id = await submit(services, source, tmp_path / "out.txt")
        async with asyncio.timeout(60):
            while not (await services.store.get(job_id)).num_records_processed:
                await asyncio.sleep(0.01)

    async def go_on(services: Services) -> None:
        (job,) = await services.store.newest(limit=1)
        job = await final(services, job.batch_request_id)
        assert job.phase == "FAILED"
        assert f"The decoder {gone}, with which this job started, cannot be loaded" in (job.error or "")
        assert f"{decoders}" not in f"{job.error} {job.error_remedy}", "clients read it"
        assert "<registry>" in (job.error or "")

    run(decoders, tmp_path / "data", stop_in_the_middle)
    gone = registry.current_version()
    publish_another(type(registry)(decoders), 3)
    shutil.rmtree(decoders / gone)
    assert (tmp_path / "out.txt.part").exists()
    run(decoders, tmp_path / "data", go_on)
    assert not list(tmp_path.glob("out.txt*"))


def test_a_queued_job_waits_for_a_decoder_and_starts_when_one_comes(
    registry: Registry, tmp_path: Path, source: Path
) -> None:
    decoders = tmp_path / "registry"

    async def story(services: Services) -> None:
        job_id = await submit(services, source, tmp_path / "out.txt")
        await asyncio.sleep(0.2)
        assert (await services.store.get(job_id)).phase == "QUEUED"
        shutil.copytree(registry.root, decoders)
        await services.model.reload()
        services.engine.notice()
        assert (await final(services, job_id)).phase == "COMPLETED"

    run(decoders, tmp_path / "data", story)


def test_a_history_that_cannot_be_written_stops_no_batch(
    registry: Registry, tmp_path: Path, source: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "history").write_text("a file where a folder should be")

    async def story(services: Services) -> None:
        job = await final(services, await submit(services, source, tmp_path / "out.txt"))
        assert job.phase == "COMPLETED"

    run(registry.root, tmp_path / "data", story)


@pytest.fixture
def stuck(changed_worker: Callable[[str], None]) -> Callable[[Path], None]:
    """Let a file's folder take no change: neither its removal nor a move into place."""

    def stick(stuck: Path) -> None:
        changed_worker(
            f"""
import errno, os
def refuse(name):
    change = getattr(os, name)
    def refusing(path, *args, **options):
        folder = options.get("dir_fd", options.get("src_dir_fd"))
        if folder is not None and f"{{os.readlink(f'/proc/self/fd/{{folder}}')}}/{{path}}" == {str(stuck)!r}:
            raise OSError(errno.EROFS, "Read-only file system")
        return change(path, *args, **options)
    setattr(os, name, refusing)
refuse("unlink")
refuse("rename")
"""
        )

    return stick


async def submit_to_overwrite(services: Services, source: Path, target: Path) -> str:
    job = await services.store.submit(
        JobRequest(str(source), str(target), overwrite=True),
        bytes_total=1,
        idempotency_key=None,
        digest=str(target),
    )
    services.engine.notice()
    return job.batch_request_id


def test_a_part_file_that_cannot_be_removed_keeps_no_other_job_waiting(
    registry: Registry, tmp_path: Path, source: Path, stuck: Callable[[Path], None]
) -> None:
    """The folder becomes read-only while the first job is being published."""
    stuck(tmp_path / "stuck.txt.part")

    async def story(services: Services) -> None:
        first = await submit_to_overwrite(services, source, tmp_path / "stuck.txt")
        second = await submit(services, source, tmp_path / "following.txt")
        job = await final(services, first)
        assert (job.phase, job.attempts) == ("FAILED", 1)
        assert "stuck.txt cannot be written: Read-only file system" in (job.error or "")
        assert (await final(services, second)).phase == "COMPLETED"
        assert services.engine.failure is None

    run(registry.root, tmp_path / "data", story)


def test_a_cancelled_job_whose_part_file_cannot_be_removed_is_cancelled(
    registry: Registry, tmp_path: Path, source: Path, stuck: Callable[[Path], None]
) -> None:
    source.write_text(source.read_text() * 5)
    stuck(tmp_path / "stuck.txt.part")

    async def story(services: Services) -> None:
        job_id = await submit(services, source, tmp_path / "stuck.txt")
        await until_at_work(services, job_id)
        await services.store.request_cancel(job_id)
        services.engine.cancel(job_id)
        job = await final(services, job_id)
        assert (job.phase, job.attempts) == ("CANCELLED", 1)
        assert services.engine.failure is None

    run(registry.root, tmp_path / "data", story)


async def until_at_work(services: Services, job_id: str) -> None:
    async with asyncio.timeout(60):
        while not (await services.store.get(job_id)).num_records_processed:
            await asyncio.sleep(0.01)


def test_a_job_cancelled_before_a_restart_ends_cancelled_without_its_input(
    registry: Registry, tmp_path: Path, source: Path
) -> None:
    """The cancellation is stored, the service dies before it is carried out, and the input is gone."""
    source.write_text(source.read_text() * 5)

    async def cut_off(services: Services) -> None:
        job_id = await submit(services, source, tmp_path / "out.txt")
        await until_at_work(services, job_id)
        services.engine.stop()
        await services.store.request_cancel(job_id)

    async def go_on(services: Services) -> None:
        (job,) = await services.store.newest(limit=1)
        assert (await final(services, job.batch_request_id)).phase == "CANCELLED"

    run(registry.root, tmp_path / "data", cut_off)
    assert (tmp_path / "out.txt.part").exists()
    source.unlink()
    run(registry.root, tmp_path / "data", go_on)
    assert not list(tmp_path.glob("out.txt*"))


def test_a_job_cancelled_while_queued_leaves_nothing_in_the_engine(
    registry: Registry, tmp_path: Path, source: Path
) -> None:
    source.write_text(source.read_text() * 5)

    async def story(services: Services) -> None:
        working = await submit(services, source, tmp_path / "out.txt")
        await until_at_work(services, working)
        state = {name: repr(value) for name, value in vars(services.engine).items()}
        queued = await submit(services, source, tmp_path / "out 2.txt")
        assert (await services.store.request_cancel(queued)).phase == "CANCELLED"
        services.engine.cancel(queued)
        assert not [name for name, value in vars(services.engine).items() if queued in repr(value)], state
        assert (await services.store.get(working)).phase == "RUNNING"

    run(registry.root, tmp_path / "data", story)


@pytest.mark.parametrize("swapped", ["input", "input folder", "output folder"])
def test_a_link_swapped_in_after_submission_leads_nowhere(
    registry: Registry, tmp_path: Path, source: Path, swapped: str
) -> None:
    """The paths are resolved again when the job starts; nothing outside the roots is read or written."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "in", inside / "out", outside):
        folder.mkdir(parents=True)
    source.rename(inside / "in" / "in.txt")
    shutil.copy(inside / "in" / "in.txt", outside / "in.txt")

    def swap() -> None:
        if swapped == "input":
            (inside / "in" / "in.txt").unlink()
            (inside / "in" / "in.txt").symlink_to(outside / "in.txt")
        else:
            folder = inside / ("in" if swapped == "input folder" else "out")
            folder.rename(inside / "moved")
            folder.symlink_to(outside)

    async def story() -> None:
        settings = ServingSettings(registry=registry.root, data=inside, batch_roots=(inside,))
        services = Services(settings)
        await services.store.open()
        job_id = await submit(services, inside / "in" / "in.txt", inside / "out" / "out.txt")
        swap()
        async with services.running():
            job = await final(services, job_id)
        assert job.phase is Phase.FAILED
        said = "it is a link" if swapped == "input" else "outside the folders of batch files"
        assert said in (job.error or "")

    asyncio.run(story())
    assert [path.name for path in outside.iterdir()] == ["in.txt"]


def test_a_link_to_another_file_under_the_roots_is_not_followed_either(
    registry: Registry, tmp_path: Path, source: Path
) -> None:
    (tmp_path / "other.txt").write_text(source.read_text())

    def swap() -> None:
        source.unlink()
        source.symlink_to(tmp_path / "other.txt")

    async def story() -> None:
        settings = ServingSettings(registry=registry.root, data=tmp_path, batch_roots=(tmp_path,))
        services = Services(settings)
        await services.store.open()
        job_id = await submit(services, source, tmp_path / "out.txt")
        swap()
        async with services.running():
            job = await final(services, job_id)
        assert job.phase is Phase.FAILED
        assert "it is a link, which is not followed here" in (job.error or "")

    asyncio.run(story())
    assert not list(tmp_path.glob("out.txt*"))


def test_a_publication_that_cannot_be_finished_keeps_no_other_job_waiting(
    registry: Registry, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: Any, **__: Any) -> bool:
        raise OutputError("out.txt cannot be written: Input/output error.")

    async def story() -> None:
        settings = ServingSettings(registry=registry.root, data=tmp_path, batch_roots=(tmp_path,))
        services = Services(settings)
        await services.store.open()
        job_id = await submit(services, source, tmp_path / "out.txt")
        run = BatchRun(BatchSpec(source, tmp_path / "out.txt"), upsampler)
        while run.step():
            pass
        checkpoint = msgspec.json.encode(run.sync()).decode()
        run.publish()
        await services.store.begin(job_id, model_version=upsampler.version)
        await services.store.progress(job_id, Progress(checkpoint, ROWS, 0, 1, 0.0, 0, 1.0))
        await services.store.finalizing(job_id)
        monkeypatch.setattr(engine_module, "finish_publication", refusing)
        async with services.running():
            job = await final(services, job_id)
            following = await submit(services, source, tmp_path / "following.txt")
            assert (await final(services, following)).phase is Phase.COMPLETED
        assert job.phase is Phase.FAILED
        assert "Input/output error" in (job.error or "")

    upsampler = registry.load()
    asyncio.run(story())


def test_a_worker_that_cannot_be_started_delays_a_job_and_tells_nobody_where_it_lies(
    registry: Registry, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "RETRY_S", 0.05)

    async def story(services: Services) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(worker_process, "COMMAND", ("/nowhere/python",))
            job_id = await submit(services, source, tmp_path / "out.txt")
            async with asyncio.timeout(60):
                while services.engine.failure is None:
                    await asyncio.sleep(0.01)
            assert "No such file" in services.engine.failure
            assert "/nowhere" not in services.engine.failure, "shown to everybody by /health/ready"
        assert (await final(services, job_id)).phase == "COMPLETED"

    run(registry.root, tmp_path / "data", story)


def test_what_is_said_of_a_bad_decoder_is_whole_however_short_the_registrys_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "CURRENT").write_text("garbage")

    async def story(services: Services) -> None:
        (refused,) = services.model.refused
        assert refused.message == "a/CURRENT: expected a version, found 'garbage'."

    run(Path("a"), tmp_path / "data", story)
