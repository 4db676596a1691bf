"""The batch engine when something around it fails: which failures end a job, and which only delay it."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from serving.jobs import engine as engine_module
from serving.jobs.model import JobRecord, JobRequest
from serving.services import Services
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from embup_core.registry import Registry

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


def run(registry: Path, folder: Path, story: Callable[[Services], Awaitable[None]]) -> None:
    async def started() -> None:
        services = Services(ServingSettings(registry=registry, data=folder, checkpoint_interval_s=0.05))
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


def test_an_unexpected_error_ends_its_job_and_not_the_next(
    registry: Registry, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(services: Services) -> None:
        upsampler = services.model.current()
        answer, calls = upsampler.upsample, 0

        def broken(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 20:
                raise ZeroDivisionError("of all things")
            return answer(*args)

        monkeypatch.setattr(upsampler, "upsample", broken)
        poisoned = await submit(services, source, tmp_path / "poisoned.txt")
        following = await submit(services, source, tmp_path / "following.txt")
        job = await final(services, poisoned)
        assert (job.phase, job.attempts) == ("FAILED", 1)
        assert "ZeroDivisionError: of all things" in (job.error or "")
        assert job.error_remedy
        assert (await final(services, following)).phase == "COMPLETED"

    run(registry.root, tmp_path / "data", story)
    assert not list(tmp_path.glob("poisoned.txt*"))


def test_a_decoder_that_is_gone_fails_the_job_that_started_with_it(
    registry: Registry, tmp_path: Path, source: Path, publish_another: Any
) -> None:
    decoders = tmp_path / "registry"
    shutil.copytree(registry.root, decoders)

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

    run(decoders, tmp_path / "data", stop_in_the_middle)
    gone = registry.latest_version()
    publish_another(type(registry)(decoders), 3)
    shutil.rmtree(decoders / gone)
    run(decoders, tmp_path / "data", go_on)
    assert not (tmp_path / "out.txt").exists()


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
