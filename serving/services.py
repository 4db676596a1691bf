"""The parts of a running service, made from settings, started and stopped together."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from debugger.kept_open import KeptOpen
from embup_core.artifacts.remote import open_registry
from embup_core.errors import ArtifactError
from embup_core.stores.vectors import basis_difference
from serving.decoders.hot_model import HotModel
from serving.jobs.confinement import Buckets, Confinement
from serving.jobs.engine import BatchEngine
from serving.jobs.example import write_example
from serving.jobs.history.publisher import HistoryPublisher
from serving.jobs.storage.store import JobStore
from serving.observability.loop_lag import LoopLag
from serving.observability.recent import RecentRealtime
from serving.observability.requests import RequestObservations
from serving.observability.spans import SpanSender, traces_exporter
from serving.problems.hidden_folders import HiddenFolders
from serving.realtime.gate import PriorityGate
from serving.realtime.threads import limit_math_threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from embup_core.stores.faiss_folder import FaissIndex
    from serving.settings import ServingSettings

log = structlog.get_logger("embup.serving")


class Services:
    """One service process's parts.

    Attributes
    ----------
    settings, gate, model, store, history, engine, confinement
        The parts.
    realtime_executor
        For realtime requests of many rows.
    file_executor, check_executor
        For looking at files; for checking those of a batch before it is accepted, which may wait for a store.
    debug_executor, debug_datasets
        For reading data sets of the debugger: threads, and the data set that each of them has open.
    debug_described
        What a list says of data sets, by their state.
    realtime_rows
        Rows answered by realtime requests since the start.
    public
        Redacts a text for clients.
    observations, loop_lag, recent
        What is measured of requests and of the event loop, and the last minutes of it; None where metrics are
        off.
    search_index
        What `POST /v1/search` searches in; None where that is off.
    spans
        Where traces go; None where they are off.

    Raises
    ------
    EmbupError
        Traces are asked for, and what sends them is not installed; or the index to search cannot be read.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.settings = settings
        self.realtime_rows = 0
        self.public = HiddenFolders(settings)
        # Apart, so that none waits in another's queue: a batch's files, large realtime requests, all else.
        self._batch_executor = _threads("batch", 1)
        self.realtime_executor = _threads("realtime", 1)
        self.file_executor = _threads("files", 2)
        self.check_executor = _threads("checks", 2)
        self.debug_executor = _threads("debug", 2)
        self.debug_datasets = KeptOpen()
        self.debug_described: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.gate = PriorityGate(batch_share=settings.batch_share)
        self._model_executor = _threads("models", 1)
        # A store that does not answer keeps nothing from starting: what was copied before is served.
        registry = open_registry(settings.registry, settings.cache_folder, look=False)
        self.model = HotModel(registry, self._model_executor)
        self.store = JobStore(settings.data / "jobs", keep_months=settings.keep_job_months)
        self.history = HistoryPublisher(self.store, settings.data / "history")
        self.confinement = Confinement(
            settings.reserved_folders,
            buckets=Buckets(
                settings.batch_prefixes,
                str(settings.uploads_folder.absolute()),
                settings.reserved_addresses,
            ),
        )
        self.engine = BatchEngine(
            store=self.store,
            history=self.history,
            models=self.model,
            gate=self.gate,
            confinement=self.confinement,
            settings=settings,
            executor=self._batch_executor,
            public=self.public,
        )
        self.observations = RequestObservations(settings.low_confidence) if settings.metrics else None
        self.recent = None if self.observations is None else RecentRealtime(self.observations.realtime)
        self.search_index: FaissIndex | None = None
        if settings.search_index is not None:
            from embup_core.stores.faiss_folder import FaissIndex

            self.search_index = FaissIndex.load(settings.search_index)
        self.loop_lag = LoopLag() if settings.metrics else None
        self.spans: SpanSender | None = None
        if settings.traces:
            traces_exporter()  # refuses now what would only be seen in a log later
            self.spans = self.engine.spans = SpanSender(settings.log_format, settings.log_level)

    def count_realtime_row(self) -> None:
        """Count a row that a realtime request was answered with."""
        self.realtime_rows += 1

    async def open(self) -> None:
        """Open the job database and the folders of batch files. Idempotent.

        Raises
        ------
        JobError
            Another process holds the job database, or it cannot be opened.
        EmbupError
            A folder of batch files cannot be opened.
        """
        await self.store.open()  # makes the data folder, which may be one of them
        try:
            self.confinement.open(self.settings.batch_roots)
        except BaseException:
            await self.store.close()
            raise

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open what is needed, load the current decoder, work on batches; close everything at the end."""
        await self.open()
        try:
            await self._load_first_decoder()
            async with asyncio.TaskGroup() as tasks:
                history = tasks.create_task(self.history.run(), name="history")
                engine = tasks.create_task(self.engine.run(), name="batch engine")
                measuring = [
                    tasks.create_task(part.run(), name=type(part).__name__)
                    for part in (self.loop_lag, self.recent, self.spans)
                    if part is not None
                ]
                self.model.on_swap = self._decoder_changed
                self._decoder_changed()
                watching = tasks.create_task(self._watch_models(), name="newer decoders")
                self.history.note_change()
                # What is there now stays: no full collection looks at it again, for 0.2 s at a bad moment.
                gc.collect()
                gc.freeze()
                try:
                    yield
                finally:
                    gc.unfreeze()
                    watching.cancel()
                    self.engine.stop()
                    await asyncio.wait([engine])
                    self.history.close()
                    await asyncio.wait([history])
                    for task in measuring:
                        task.cancel()
        finally:
            await self.store.close()
            for executor in (
                self._batch_executor,
                self.realtime_executor,
                self.file_executor,
                self.check_executor,
                self.debug_executor,
                self._model_executor,
            ):
                executor.shutdown()
            self.confinement.close()

    def _decoder_changed(self) -> None:
        self.engine.notice()  # a batch may wait for a decoder
        self._compare_index()
        if self.settings.batch_roots[0].resolve() != self.settings.data.resolve():
            return  # relative paths, such as those of the example, start elsewhere
        try:
            write_example(self.settings.data, self.model.current().input_dims)
        except (ArtifactError, OSError) as error:
            log.debug("no example file was written", error=str(error))

    def _compare_index(self) -> None:
        """Log where the index cannot be searched by the decoder in service; each request says so, too."""
        if self.search_index is None:
            return
        with suppress(ArtifactError):
            upsampler = self.model.current()
            difference = basis_difference(self.search_index.state.space, upsampler)
            if difference:
                log.warning("the index to search has another basis than the decoder", found=difference)

    async def _watch_models(self) -> None:
        if self.settings.model_poll_s > 0:
            await self.model.watch(self.settings.model_poll_s)

    async def _load_first_decoder(self) -> None:
        try:
            await self.model.reload()
        except ArtifactError as error:
            # The service starts all the same: readiness says so, and a reload mends it.
            log.warning("no decoder is in service", error=str(error))


def _threads(name: str, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=limit_math_threads)
