"""The process that makes OpenTelemetry spans of what the service writes down, and sends them.

    python -m serving.observability.span_exporter PARENT LOG_FORMAT LOG_LEVEL

It reads records of `serving.observability.spans` from stdin, a line each, until that ends. The standard
variables configure it: OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_*, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*.
"""

from __future__ import annotations

import os
import signal
import sys
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Final

import msgspec
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from embup_core.files.processes import end_with_parent, yield_to_others
from serving.observability.logs import configure_logging
from serving.observability.spans import BatchRecord, Record, RequestRecord, traces_exporter
from serving.realtime.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

SPANS_OF_MOMENTS: Final = (*STAGES, "wait")
SERVICE_NAME: Final = "embup"


class SpanMaker:
    """Makes spans of records.

    Parameters
    ----------
    provider
        Of OpenTelemetry's tracers.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("embup.serving")
        self._propagator = TraceContextTextMapPropagator()

    def make(self, record: Record) -> None:
        """Make a record's spans; they end at once, and the tracer's sampler says which are kept."""
        # From the clock that processes share to the time of day; again each time, since that is corrected.
        offset_ns = time_ns() - perf_counter_ns()
        if isinstance(record, RequestRecord):
            self._request(record, offset_ns)
        else:
            self._batch(record, offset_ns)

    def _request(self, record: RequestRecord, offset_ns: int) -> None:
        caller: Context | None = None
        if record.traceparent:
            caller = self._propagator.extract(
                {"traceparent": record.traceparent, "tracestate": record.tracestate}
            )
        attributes: dict[str, AttributeValue] = {
            "http.request.method": record.method,
            "http.route": record.route,
            "http.response.status_code": record.status,
        }
        if record.request_id:
            attributes["embup.request_id"] = record.request_id
        if record.moments:
            attributes |= {"embup.model_version": record.model_version, "embup.rows": record.rows}
        span = self._tracer.start_span(
            f"{record.method} {record.route}",
            context=caller,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=_ns(record.began, offset_ns),
        )
        pairs = zip(record.moments[::2], record.moments[1::2], strict=True)
        for place, (name, (began, ended)) in enumerate(zip(SPANS_OF_MOMENTS, pairs, strict=False)):
            if place < len(STAGES) or ended - began > 1e-4:  # else no request of many rows
                self._child(span, name, _ns(began, offset_ns), _ns(ended, offset_ns))
        if record.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_ns(record.ended, offset_ns))

    def _batch(self, record: BatchRecord, offset_ns: int) -> None:
        attributes: dict[str, AttributeValue] = {
            "embup.batch_request_id": record.batch_request_id,
            "embup.model_version": record.model_version,
            "embup.phase": record.phase,
            "embup.rows": record.rows,
            "embup.failed_rows": record.failed_rows,
            "embup.paused_s": record.paused_s,
            "embup.pauses": record.pauses,
        }
        if record.error_code:
            attributes["error.type"] = record.error_code
        began = _ns(record.began, offset_ns)
        span = self._tracer.start_span("batch", attributes=attributes, start_time=began)
        for name, seconds in record.seconds.items():
            # Sums over blocks and processes, drawn from the start on; they overlap in truth.
            self._child(span, name, began, began + round(seconds * 1e9), {"embup.total_s": seconds})
        if record.published:
            since, until = record.published
            self._child(span, "publish", _ns(since, offset_ns), _ns(until, offset_ns))
        if record.phase == "FAILED":
            span.set_status(Status(StatusCode.ERROR, record.error_code))
        span.end(_ns(record.ended, offset_ns))

    def _child(
        self,
        parent: Span,
        name: str,
        began_ns: int,
        ended_ns: int,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        self._tracer.start_span(
            name, context=set_span_in_context(parent), attributes=attributes, start_time=began_ns
        ).end(ended_ns)


def _ns(moment_s: float, offset_ns: int) -> int:
    return round(moment_s * 1e9) + offset_ns


def main() -> None:
    """Make spans of what comes in on stdin, as a child of the process that is the first argument."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a stop of everything is the service's to carry out
    end_with_parent(int(sys.argv[1]))
    yield_to_others()
    configure_logging(*sys.argv[2:])
    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE_NAME)
    provider = TracerProvider()
    exporter = traces_exporter()
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter.load()()))
    maker = SpanMaker(provider)
    decoder = msgspec.json.Decoder(Record)
    for line in sys.stdin.buffer:
        maker.make(decoder.decode(line))
    provider.shutdown()


if __name__ == "__main__":
    main()
