"""The parts of a running service, made from settings, started and stopped together."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from embup_core.errors import ArtifactError
from embup_core.registry import Registry
from serving.gate import PriorityGate
from serving.hot_model import HotModel
from serving.jobs.engine import BatchEngine
from serving.jobs.history import HistoryPublisher
from serving.jobs.store import JobStore
from serving.threads import limit_math_threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from serving.settings import ServingSettings

log = structlog.get_logger("embup.serving")


class Services:
    """One service process's parts.

    Attributes
    ----------
    settings, gate, model, store, history, engine
        The parts.
    realtime_executor
        For realtime requests of many rows.
    file_executor
        For checking files before a batch is accepted.
    realtime_rows
        Rows answered by realtime requests since the start.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.settings = settings
        self.realtime_rows = 0
        # Apart, so that none waits in another's queue: a batch's files, large realtime requests, all else.
        self._batch_executor = _threads("batch", 1)
        self.realtime_executor = _threads("realtime", 1)
        self.file_executor = _threads("files", 2)
        self.gate = PriorityGate(batch_share=settings.batch_share)
        self.model = HotModel(Registry(settings.registry), self.file_executor)
        self.store = JobStore(settings.data / "jobs")
        self.history = HistoryPublisher(self.store, settings.data / "history")
        self.engine = BatchEngine(
            store=self.store,
            history=self.history,
            models=self.model,
            gate=self.gate,
            settings=settings,
            executor=self._batch_executor,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the job database, load the latest decoder, work on batches; let go of all at the end."""
        await self.store.open()
        try:
            await self._load_first_decoder()
            async with asyncio.TaskGroup() as tasks:
                history = tasks.create_task(self.history.run(), name="history")
                engine = tasks.create_task(self.engine.run(), name="batch engine")
                self.history.note_change()
                # What is there now stays: no full collection looks at it again, for 0.2 s at a bad moment.
                gc.collect()
                gc.freeze()
                try:
                    yield
                finally:
                    gc.unfreeze()
                    self.engine.stop()
                    await asyncio.wait([engine])
                    self.history.close()
                    await asyncio.wait([history])
        finally:
            await self.store.close()
            for executor in (self._batch_executor, self.realtime_executor, self.file_executor):
                executor.shutdown()

    async def _load_first_decoder(self) -> None:
        try:
            await self.model.reload()
        except ArtifactError as error:
            # The service starts all the same: readiness says so, and a reload mends it.
            log.warning("no decoder is in service", error=str(error))


def _threads(name: str, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=limit_math_threads)
