"""Spans of real requests and batches arrive at a receiver, one for each stage, and never a vector."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serving.realtime.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from embup_core.upsampler import Upsampler

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE_ID}-b7ad6b7169203331-01"
NOT_SAMPLED = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Receiver:
    """Takes spans as a collector does, over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.services: set[str] = set()
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> list[Any]:
        """Every span, in the order of arrival."""
        found = []
        for body in self.bodies:
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.services |= {
                    one.value.string_value
                    for one in of_resource.resource.attributes
                    if one.key == "service.name"
                }
                found += [span for of_scope in of_resource.scope_spans for span in of_scope.spans]
        return found

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans() if span.name == name]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver, and an environment that sends there."""
    made = Receiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    yield made
    made.close()


def attributes_of(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_requests_and_batches_arrive_with_a_span_for_each_stage(
    serve: Callable[..., Any], rows: Callable[..., Any], receiver: Receiver, upsampler: Upsampler
) -> None:
    service = serve(traces=True)
    z = rows(30)
    for headers in ({"traceparent": CALLER}, {"traceparent": NOT_SAMPLED}, {}):
        answer = service.http.post("/v1/upsample", json={"embeddings": z.tolist()}, headers=headers)
        assert answer.status_code == 200
    assert service.http.post("/v1/upsample", json={"embedding": [1]}).status_code == 400
    source = service.write_input("in.txt", 300)
    done = service.submit(source, "out.txt")
    assert service.final(done)["phase"] == "COMPLETED"
    (service.data / "bad.txt").write_text(source.read_text() + "0.5,oops\n")
    failed = service.submit("bad.txt", "bad.out.txt")
    assert service.final(failed)["phase"] == "FAILED"
    assert service.end() == 0, "what was written down is sent first"

    called, uncalled, refused = receiver.named("POST /v1/upsample")
    assert called.trace_id.hex() == TRACE_ID
    assert called.parent_span_id.hex() == "b7ad6b7169203331"
    assert uncalled.trace_id != called.trace_id
    assert not uncalled.parent_span_id
    assert {
        key: attributes_of(called)[key] for key in ("http.route", "embup.model_version", "embup.rows")
    } == {
        "http.route": "/v1/upsample",
        "embup.model_version": upsampler.version,
        "embup.rows": 30,
    }
    assert attributes_of(refused)["http.response.status_code"] == 400
    spans = receiver.spans()
    assert receiver.services == {"embup"}
    for request in (called, uncalled):
        children = [span for span in spans if span.parent_span_id == request.span_id]
        assert [span.name for span in children][:5] == list(STAGES)
        ends = [request.start_time_unix_nano]
        for child in sorted(children, key=lambda span: span.start_time_unix_nano):
            assert child.start_time_unix_nano >= ends[-1] - 1000, "one after the other, to a microsecond"
            ends.append(child.end_time_unix_nano)
        assert ends[-1] <= request.end_time_unix_nano + 1000
    assert not [span for span in spans if span.parent_span_id == refused.span_id]

    batches = {attributes_of(span)["embup.batch_request_id"]: span for span in receiver.named("batch")}
    stages = {
        job: {span.name for span in spans if span.parent_span_id == batch.span_id}
        for job, batch in batches.items()
    }
    assert stages[done] == {"parse", "decode", "format", "write", "sync", "publish"}
    assert "publish" not in stages[failed]
    assert attributes_of(batches[failed])["error.type"] == "bad_row"
    assert attributes_of(batches[done])["embup.rows"] == 300

    log = service.log.read_text()
    assert "Traceback" not in log
    for value in z.ravel():
        digits = f"{abs(value):.8f}".encode()[2:]
        assert not any(digits in body for body in receiver.bodies)


def test_nobody_listening_delays_neither_requests_nor_the_stop(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    service = serve(traces=True)
    (exporter,) = psutil.Process(service.process.pid).children()
    for _ in range(20):
        assert service.http.post("/v1/upsample", json={"embedding": [0.1] * 32}).status_code == 200
    assert service.end() == 0
    assert not exporter.is_running()


def test_the_process_that_sends_traces_is_missed_by_nobody(
    serve: Callable[..., Any], receiver: Receiver
) -> None:
    service = serve(traces=True)
    (exporter,) = psutil.Process(service.process.pid).children()
    exporter.send_signal(signal.SIGKILL)
    service.until(lambda: "is started again" in service.log.read_text())
    assert service.http.post("/v1/upsample", json={"embedding": [0.1] * 32}).status_code == 200
    assert "embup_traces_dropped_total 0.0" in service.http.get("/metrics").text
    assert service.end() == 0


def test_traces_are_off_unless_asked_for(shared_service: Any) -> None:
    assert not any(
        "span_exporter" in " ".join(child.cmdline())
        for child in psutil.Process(shared_service.process.pid).children()
    )
    assert "embup_traces_dropped_total" not in shared_service.http.get("/metrics").text


@pytest.mark.parametrize(
    ("lacking", "exporter", "said"),
    [
        ("opentelemetry.sdk", "otlp", "pip install 'embup[otel]'"),
        ("nothing", "jaeger", "expected one of none, otlp, console"),
    ],
)
def test_traces_that_cannot_be_sent_are_refused_at_the_start(
    registry: Registry, tmp_path: Path, lacking: str, exporter: str, said: str
) -> None:
    code = f"import sys; sys.modules[{lacking!r}] = None\nfrom embup.cli.main import app\napp()\n"
    arguments = ["serve", "--registry", str(registry.root), "--data", str(tmp_path), "--port", "0"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"EMBUP_TRACES": "true", "OTEL_TRACES_EXPORTER": exporter},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode != 0
    assert said in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.stderr
