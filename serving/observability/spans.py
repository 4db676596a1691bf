"""OpenTelemetry traces, as the service sees them: a line for each request and batch, sent to who makes spans.

With the SDK in Python the six spans of a realtime request take 0.1 ms to make and nearly as long to encode, a
third of the request itself, and a thread of this process would take it from the requests beside it. So the
service writes down moments, and another process, `serving.observability.span_exporter`, makes spans of
them at idle priority. Never a vector is among them.

Off unless it is asked for. Nothing of OpenTelemetry is loaded into this process.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from embup_core.errors import EmbupError

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from litestar.types import HTTPScope

    from serving.realtime.stages import RealtimeStages

log = structlog.get_logger("embup.serving.telemetry")

FLUSH_S: Final = 0.5  # seldom: what follows is work that the median request should not meet
RESTART_S: Final = 10.0
LAST_WORDS_S: Final = 1.0  # for what is still to be sent when the service stops
LONGEST_BACKLOG_BYTES: Final = 1 << 22  # some ten thousand requests
COMMAND: Final = (sys.executable, "-P", "-m", "serving.observability.span_exporter")
PROTOCOL_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTERS_GROUP: Final = "opentelemetry_traces_exporter"


class RequestRecord(msgspec.Struct, frozen=True, array_like=True, tag="request"):
    """One request. Moments are seconds of `time.perf_counter`, which all processes of a machine share.

    Attributes
    ----------
    method, route, status, request_id
        What was asked for and what came of it.
    traceparent, tracestate
        Headers of the request, which say whose child its span is; may be empty.
    began, ended
        Its moments.
    model_version, rows, moments
        Of a realtime request that was answered: by whom, how many vectors, `RealtimeStages.moments`.
    """

    method: str
    route: str
    status: int
    request_id: str
    traceparent: str
    tracestate: str
    began: float
    ended: float
    model_version: str = ""
    rows: int = 0
    moments: tuple[float, ...] = ()


class BatchRecord(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """One attempt at a batch.

    Attributes
    ----------
    batch_request_id, model_version, phase, error_code, rows, failed_rows, paused_s, pauses
        What it was and what came of it; the phase is RUNNING where another attempt will follow.
    began, ended
        Its moments.
    seconds
        Processor time by stage, and seconds waited for the disk.
    published
        When its output was put in place, start and end; empty where it was not.
    """

    batch_request_id: str
    model_version: str
    phase: str
    error_code: str
    rows: int
    failed_rows: int
    paused_s: float
    pauses: int
    began: float
    ended: float
    seconds: dict[str, float]
    published: tuple[float, ...]


Record = RequestRecord | BatchRecord


def traces_exporter() -> Any:
    """Find what sends spans, as `OTEL_TRACES_EXPORTER` says: an entry point; None for `none`.

    Raises
    ------
    EmbupError
        OpenTelemetry, or the exporter, is not installed.
    """
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise EmbupError(
            "Traces were asked for (EMBUP_TRACES), and OpenTelemetry is not installed.",
            remedy="Install it: pip install 'embup[otel]'; or leave EMBUP_TRACES unset.",
        )
    if wanted == "none":
        return None
    name = wanted
    if wanted == "otlp":
        protocols = map(os.environ.get, PROTOCOL_VARIABLES)
        protocol = next(filter(None, protocols), "http/protobuf")
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    found = {entry.name: entry for entry in entry_points(group=EXPORTERS_GROUP)}
    if name not in found:
        raise EmbupError(
            f"OTEL_TRACES_EXPORTER: expected one of none, otlp, {', '.join(sorted(found))}, found {wanted!r}"
            f" ({name} is not installed).",
            remedy="Name one of them, or install the package that has it: 'embup[otel]' brings otlp.",
        )
    return found[name]


class SpanSender:
    """Writes records down, and sends them to the process that makes spans of them.

    Parameters
    ----------
    log_format, log_level
        As in the settings, for that process.

    Attributes
    ----------
    dropped
        Records that were lost, because that process was not there or not fast enough.
    """

    def __init__(self, log_format: str, log_level: str) -> None:
        self._logging = (log_format, log_level)
        self._encoder = msgspec.json.Encoder()
        self._backlog = bytearray()
        self._backlog_records = 0
        self.dropped = 0

    def request(
        self,
        scope: HTTPScope,
        route: str,
        status: int,
        began: float,
        ended: float,
        stages: RealtimeStages | None,
    ) -> None:
        """Write a request down: some microseconds."""
        traceparent = tracestate = b""
        for name, value in scope["headers"]:
            if name == b"traceparent":
                traceparent = value
            elif name == b"tracestate":
                tracestate = value
        request_id = scope["state"].get("request_id", "")
        caller = traceparent.decode("latin-1"), tracestate.decode("latin-1")
        if stages is None:
            self.write(RequestRecord(scope["method"], route, status, request_id, *caller, began, ended))
            return
        self.write(
            RequestRecord(
                scope["method"], route, status, request_id, *caller, began, ended,
                stages.model_version, 0 if stages.z is None else len(stages.z), stages.moments(),
            )
        )  # fmt: skip

    def write(self, record: Record) -> None:
        """Add a record to those that are sent next."""
        if len(self._backlog) > LONGEST_BACKLOG_BYTES:
            self.dropped += 1
            return
        self._backlog += self._encoder.encode(record)
        self._backlog += b"\n"
        self._backlog_records += 1

    async def run(self) -> None:
        """Send until cancelled; what is written down by then is sent still, if that takes moments."""
        while True:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, str(os.getpid()), *self._logging, stdin=asyncio.subprocess.PIPE
            )
            try:
                await self._send_to(process)
            finally:
                await self._end(process)
            log.warning(
                "the process that sends traces has ended and is started again",
                code=process.returncode,
                in_s=RESTART_S,
            )
            await asyncio.sleep(RESTART_S)

    async def _send_to(self, process: Process) -> None:
        while process.returncode is None:
            await asyncio.sleep(FLUSH_S)
            self._flush(process)

    def _flush(self, process: Process) -> None:
        if not self._backlog or process.stdin is None:
            return
        backlog, self._backlog = self._backlog, bytearray()
        records, self._backlog_records = self._backlog_records, 0
        if process.stdin.transport.get_write_buffer_size() > LONGEST_BACKLOG_BYTES:
            self.dropped += records
            return
        process.stdin.write(backlog)

    async def _end(self, process: Process) -> None:
        if process.stdin is not None:
            with suppress(OSError):
                self._flush(process)
                process.stdin.close()
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
