"""GET /metrics: Litestar's request metrics, and what only this service knows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from litestar.plugins.prometheus import PrometheusConfig, PrometheusController
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from serving.services import Services


class MetricsController(PrometheusController):
    """Prometheus metrics."""

    path = "/metrics"
    tags = ("operations",)
    include_in_schema = False


class ServiceCollector(Collector):
    """Reads the service's own numbers when they are asked for, so that counting costs nothing before.

    Parameters
    ----------
    services
        The running parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Give every metric family."""
        services = self._services
        gate = services.gate.statistics()
        live = services.engine.live
        yield CounterMetricFamily(
            "embup_realtime_rows", "Rows answered by realtime requests.", services.realtime_rows
        )
        yield CounterMetricFamily("embup_batch_rows", "Rows written by batches.", services.engine.rows_total)
        yield GaugeMetricFamily(
            "embup_batch_running", "1 while a batch is being worked on.", float(live is not None)
        )
        yield GaugeMetricFamily(
            "embup_batch_paused",
            "1 while a batch is frozen for realtime requests.",
            float(live is not None and live.paused),
        )
        yield GaugeMetricFamily(
            "embup_gate_realtime_holding", "Realtime requests that hold the gate.", gate.realtime_holding
        )
        yield CounterMetricFamily(
            "embup_gate_realtime_granted", "Realtime requests that were let through.", gate.realtime_granted
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
        yield CounterMetricFamily("embup_model_reloads", "Decoders put into service.", services.model.reloads)
        yield CounterMetricFamily(
            "embup_model_reload_failures", "Reloads that left the old decoder.", services.model.failures
        )
        model = InfoMetricFamily("embup_model", "The decoder in service.")
        model.add_metric([], {"version": services.model.version or "none"})
        yield model


def request_metrics() -> PrometheusConfig:
    """Configure the request metrics; grouped by route, or each job's id would be a label."""
    return PrometheusConfig(app_name="embup", prefix="embup_http", group_path=True)


@contextmanager
def collecting(services: Services) -> Iterator[None]:
    """Register the service's own metrics for as long as it runs."""
    collector = ServiceCollector(services)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
