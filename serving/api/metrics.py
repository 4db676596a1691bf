"""GET /metrics: the service's own numbers in Prometheus' format, read when they are asked for.

Counting costs nothing before, or a few microseconds a request (`serving.observability.requests`).
docs/how-to/monitoring.md has a row for each metric, and a test that looks for it.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

import duckdb
from litestar import Controller, Response, get
from litestar.di import NamedDependency
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from embup_core.errors import JobError
from serving.jobs.model import Phase
from serving.observability.histogram import histogram_family
from serving.realtime.stages import STAGES
from serving.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from serving.observability.drift import DriftMeter
    from serving.observability.requests import RequestObservations

REALTIME_S = (
    "Seconds of realtime requests that were answered, from the first byte of the body to the last of the "
    "answer."
)
STAGE_S = "Seconds of realtime requests that were answered, by stage."
BATCH_STAGE_S = "Processor time of batches by stage; for sync and publish, seconds waited."


class MetricsController(Controller):
    """Prometheus metrics."""

    path = "/metrics"
    tags = ("operations",)
    include_in_schema = False
    opt = {"access": "read"}  # noqa: RUF012 - Litestar's way to say it

    @get()
    async def metrics(self, services: NamedDependency[Services]) -> Response[bytes]:
        """Answer every metric."""
        collected = ServiceCollector(services, await _queue_length(services), await _disks(services))
        registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        registry.register(collected)
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class Disk(NamedTuple):
    """Room in bytes on the file system of one of the service's folders."""

    volume: str
    size: int
    free: int


async def _queue_length(services: Services) -> int | None:
    """Count batches that wait; None when the job database does not answer."""
    try:
        return (await services.store.counts()).get(Phase.QUEUED, 0)
    except (duckdb.Error, JobError):
        return None


async def _disks(services: Services) -> list[Disk]:
    settings = services.settings
    folders = {"data": settings.data, "registry": settings.registry_folder}
    folders |= {f"batch_root_{number}": root for number, root in enumerate(settings.batch_roots, start=1)}

    def look() -> Iterable[Disk]:
        for volume, path in folders.items():
            found = _usage(path)
            if found is not None:
                yield Disk(volume, *found)

    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(services.file_executor, lambda: list(look()))


def _usage(path: Path) -> tuple[int, int] | None:
    try:
        found = shutil.disk_usage(path)
    except OSError:  # not made yet, or gone
        return None
    return found.total, found.free


class ServiceCollector:
    """Reads what the parts of a service know.

    Parameters
    ----------
    services
        The running parts.
    queue_length
        Batches that wait; None if unknown.
    disks
        Room on the disks.
    """

    def __init__(self, services: Services, queue_length: int | None, disks: list[Disk]) -> None:
        self._services = services
        self._queue_length = queue_length
        self._disks = disks

    def collect(self) -> Iterator[Metric]:
        """Give every metric family."""
        services = self._services
        if services.observations is not None:
            yield from _requests(services.observations, services.realtime_rows)
        yield from self._gate()
        yield from self._batch()
        yield from self._model()
        yield from self._inputs()
        yield _labelled(
            "embup_disk_size_bytes",
            "Size of the file system.",
            "volume",
            {d.volume: d.size for d in self._disks},
        )
        yield _labelled(
            "embup_disk_free_bytes",
            "Room that the service may still use.",
            "volume",
            {d.volume: d.free for d in self._disks},
        )
        if services.loop_lag is not None:
            yield histogram_family(
                "embup_event_loop_lag_seconds",
                "How late the event loop was, ten times a second.",
                [],
                [((), services.loop_lag.histogram)],
            )
        if services.spans is not None:
            yield CounterMetricFamily(
                "embup_traces_dropped", "Requests and batches whose spans were lost.", services.spans.dropped
            )

    def _gate(self) -> Iterator[Metric]:
        gate = self._services.gate.statistics()
        yield GaugeMetricFamily(
            "embup_gate_realtime_holders", "Realtime requests that hold the gate.", gate.realtime_holding
        )
        yield GaugeMetricFamily(
            "embup_gate_batch_holders", "1 while a batch holds the gate, frozen or not.", gate.batch_holding
        )
        yield GaugeMetricFamily(
            "embup_gate_batch_waiters", "Batches that wait for the gate.", gate.batch_waiting
        )
        yield CounterMetricFamily(
            "embup_gate_realtime_acquisitions",
            "Realtime requests that got the gate.",
            gate.realtime_granted,
        )
        yield _labelled_counter(
            "embup_gate_wait_seconds",
            "Seconds waited for the gate by those who were let in.",
            "side",
            {"realtime": gate.realtime_waited_s, "batch": gate.batch_waited_s},
        )
        yield CounterMetricFamily(
            "embup_batch_pauses", "How often batches were paused for realtime requests.", gate.pauses
        )
        yield CounterMetricFamily(
            "embup_batch_paused_seconds", "Seconds that batches were paused.", gate.paused_s
        )
        yield CounterMetricFamily(
            "embup_batch_share_seconds",
            "Seconds that batches ran beside realtime requests, as their share lets them.",
            gate.share_granted_s,
        )

    def _batch(self) -> Iterator[Metric]:
        engine = self._services.engine
        totals, live = engine.totals, engine.live
        yield CounterMetricFamily("embup_batch_rows", "Rows written by batches, durably.", totals.rows)
        yield CounterMetricFamily(
            "embup_batch_failed_rows", "Rows of batches that were answered by nan.", totals.failed_rows
        )
        yield _labelled_counter(
            "embup_batch_bytes",
            "Bytes of batches: input read, output written.",
            "direction",
            {"in": totals.bytes_in, "out": totals.bytes_out},
        )
        yield GaugeMetricFamily(
            "embup_batch_rows_per_second",
            "Rows a second of the running batch, pauses included, over its last checkpoints; 0 without one.",
            (live and live.rows_per_second) or 0.0,
        )
        yield GaugeMetricFamily(
            "embup_batch_running", "1 while a batch is being worked on.", float(live is not None)
        )
        yield GaugeMetricFamily(
            "embup_batch_paused",
            "1 while a batch is frozen for realtime requests.",
            float(live is not None and live.paused),
        )
        if self._queue_length is not None:
            yield GaugeMetricFamily(
                "embup_batch_queue_length", "Batches that wait for their turn.", self._queue_length
            )
        yield GaugeMetricFamily(
            "embup_batch_engine_failing",
            "1 while the disk or the job database keeps batches from going on.",
            float(engine.failure is not None),
        )
        yield _labelled_counter(
            "embup_batches_finished",
            "Batches that ended, by phase.",
            "phase",
            {phase.value: count for phase, count in totals.ended.items()},
        )
        yield _labelled_counter(
            "embup_batch_failures", "Batches that failed, by error code.", "error_code", totals.failures
        )
        yield CounterMetricFamily(
            "embup_batch_worker_crashes", "Worker processes that died under a batch.", totals.worker_deaths
        )
        yield _labelled_counter(
            "embup_batch_stage_seconds",
            BATCH_STAGE_S,
            "stage",
            {
                "parse": totals.work.parse_s,
                "decode": totals.work.decode_s,
                "format": totals.work.format_s,
                "write": totals.work.write_s,
                "sync": totals.work.sync_s,
                "publish": totals.publish_s,
            },
        )

    def _model(self) -> Iterator[Metric]:
        model = self._services.model
        info = InfoMetricFamily("embup_model", "The decoder in service.")
        info.add_metric([], {"version": model.version or "none"})
        yield info
        yield GaugeMetricFamily(
            "embup_model_loaded", "1 while a decoder is in service.", float(model.version is not None)
        )
        if model.loaded_at is not None:
            yield GaugeMetricFamily(
                "embup_model_loaded_timestamp_seconds",
                "Since when the decoder is in service, in seconds since 1970.",
                model.loaded_at.timestamp(),
            )
        yield CounterMetricFamily("embup_model_reloads", "Decoders put into service.", model.reloads)
        yield CounterMetricFamily(
            "embup_model_reload_failures", "Reloads that left the old decoder.", model.failures
        )
        yield GaugeMetricFamily(
            "embup_model_last_reload_failed",
            "1 after a reload that left the old decoder, until one succeeds.",
            float(model.failure is not None),
        )
        state = model.registry.store_state
        if state is not None:
            yield GaugeMetricFamily(
                "embup_registry_last_answer_age_seconds",
                "Seconds since the object store of the registry last answered.",
                time.monotonic() - state.answered_s,
            )
            yield CounterMetricFamily(
                "embup_registry_failed_looks",
                "Looks at the registry that its object store did not answer.",
                state.failed_looks,
            )

    def _inputs(self) -> Iterator[Metric]:
        services = self._services
        meters = {"batch": services.engine.totals.drift}
        if services.observations is not None:
            meters["realtime"] = services.observations.drift
        for meter in meters.values():
            meter.fold()
        yield _labelled_counter(
            "embup_input_rows",
            "Incoming vectors whose confidence is known.",
            "source",
            {source: meter.rows for source, meter in meters.items()},
        )
        yield _labelled_counter(
            "embup_input_low_confidence_rows",
            "Those of low confidence.",
            "source",
            {source: meter.low_rows for source, meter in meters.items()},
        )
        yield _labelled(
            "embup_input_confidence_mean",
            "Running mean of the confidence, over about a thousand vectors.",
            "source",
            {source: meter.mean_confidence for source, meter in meters.items()},
        )
        yield from self._inputs_against_training(meters)

    def _inputs_against_training(self, meters: Mapping[str, DriftMeter]) -> Iterator[Metric]:
        training = self._services.model.reference_statistics
        low = self._services.settings.low_confidence
        if low is None and training is not None:
            low = training.confidence_low
        if low is not None:
            yield GaugeMetricFamily(
                "embup_input_low_confidence_threshold",
                "What counts as low confidence, for the decoder in service.",
                low,
            )
        if training is None:
            return
        yield _labelled(
            "embup_input_mean_distance",
            "Distance of the running mean of incoming unit vectors from that of the training rows.",
            "source",
            {source: meter.distance(training.z_mean) for source, meter in meters.items()},
        )
        if training.confidence_mean is not None:
            yield GaugeMetricFamily(
                "embup_training_confidence_mean",
                "Mean confidence of rows that training held back.",
                training.confidence_mean,
            )


def _requests(seen: RequestObservations, realtime_rows: int) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        "embup_http_requests",
        "Requests, by method, route and status.",
        labels=["method", "route", "status_code"],
    )
    for (method, route, status), count in seen.answered.items():
        answered.add_metric([method, route, str(status)], count)
    yield answered
    yield histogram_family(
        "embup_http_request_duration_seconds",
        "Seconds of requests.",
        ["method", "route"],
        seen.duration.items(),
    )
    yield GaugeMetricFamily(
        "embup_http_requests_in_progress", "Requests that are being answered.", seen.in_progress
    )
    yield CounterMetricFamily(
        "embup_connections_dropped", "Connections that were ended without an answer.", seen.dropped
    )
    yield CounterMetricFamily("embup_realtime_rows", "Rows answered by realtime requests.", realtime_rows)
    yield histogram_family(
        "embup_realtime_duration_seconds",
        REALTIME_S,
        [],
        [((), seen.realtime)],
    )
    yield histogram_family(
        "embup_realtime_stage_duration_seconds",
        STAGE_S,
        ["stage"],
        [((name,), histogram) for name, histogram in zip(STAGES, seen.stages, strict=True)],
    )


def _labelled(
    name: str, documentation: str, label: str, values: Mapping[str, float | None]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for value_of_label, value in values.items():
        if value is not None:
            family.add_metric([value_of_label], value)
    return family


def _labelled_counter(
    name: str, documentation: str, label: str, values: Mapping[str, float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value_of_label, value in values.items():
        family.add_metric([value_of_label], value)
    return family
