"""GET /metrics of the real service says what requests, batches and decoders did."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from embup_core.artifacts.manifest import manifest_bytes
from embup_core.artifacts.registry import Registry
from serving.observability.drift import FOLD_ROWS, MEMORY_ROWS, DriftMeter
from serving.observability.histogram import LATENCY_BUCKETS_S, Histogram
from serving.observability.loop_lag import LoopLag
from serving.realtime.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.upsampler import Upsampler

SLOW_S = 0.4


def scrape(service: Any) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    answer = service.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_stages_of_realtime_requests_add_up_to_all_of_their_time(
    serve: Callable[..., Any], rows: Callable[..., Any]
) -> None:
    service = serve()
    for count in (1, 3, 200):
        answer = service.http.post("/v1/upsample", json={"embeddings": rows(count).tolist()})
        assert answer.status_code == 200
    assert service.http.post("/v1/upsample", json={"embedding": [1, 2]}).status_code == 400
    seen = scrape(service)
    for stage in STAGES:
        assert seen["embup_realtime_stage_duration_seconds_count", stage] == 3, (
            "the refused one is not among them"
        )
        assert seen["embup_realtime_stage_duration_seconds_sum", stage] > 0
    whole = seen["embup_realtime_duration_seconds_sum",]
    assert sum(seen["embup_realtime_stage_duration_seconds_sum", stage] for stage in STAGES) == pytest.approx(
        whole
    )
    assert seen["embup_realtime_duration_seconds_count",] == 3
    assert seen["embup_realtime_rows_total",] == 204
    assert seen["embup_http_requests_total", "POST", "/v1/upsample", "200"] == 3
    assert seen["embup_http_requests_total", "POST", "/v1/upsample", "400"] == 1
    assert seen["embup_http_request_duration_seconds_count", "POST", "/v1/upsample"] == 4
    assert seen["embup_gate_realtime_acquisitions_total",] == 4
    assert 0 < seen["embup_gate_wait_seconds_total", "realtime"] < whole
    assert seen["embup_http_requests_in_progress",] == 1, "the scrape itself"


def test_a_client_that_sends_slowly_shows_as_waiting(serve: Callable[..., Any]) -> None:
    service = serve()
    body = json.dumps({"embedding": [0.1] * 32}).encode()
    head = (
        "POST /v1/upsample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(head.encode() + body[:50])
        time.sleep(SLOW_S)
        client.sendall(body[50:])
        assert client.recv(12) == b"HTTP/1.1 200"
    service.until(lambda: scrape(service)["embup_realtime_duration_seconds_count",] == 1)
    seconds = {stage: scrape(service)["embup_realtime_stage_duration_seconds_sum", stage] for stage in STAGES}
    assert seconds["wait"] > SLOW_S / 2
    assert seconds["parse"] < seconds["wait"] / 2, "the rest of the body is not parsed before it is there"


def test_batches_show_with_rows_bytes_stages_and_why_they_failed(serve: Callable[..., Any]) -> None:
    service = serve()
    source = service.write_input("in.txt", 500)
    job = service.submit(source, "out.npy")
    assert service.final(job)["phase"] == "COMPLETED"
    with (service.data / "bad.txt").open("w") as file:
        file.write(source.read_text() + "0.1,0.2,oops\n")
    assert service.final(service.submit("bad.txt", "bad.out.txt"))["phase"] == "FAILED"
    assert service.final(service.submit("bad.txt", "nan.txt", on_bad_row="nan"))["failed_rows"] == 1
    seen = scrape(service)
    outputs = sum((service.data / name).stat().st_size for name in ("out.npy", "nan.txt"))
    assert seen["embup_batch_rows_total",] == 1001
    assert seen["embup_batch_failed_rows_total",] == 1
    assert seen["embup_batch_bytes_total", "in"] == 2 * source.stat().st_size + 13
    assert seen["embup_batch_bytes_total", "out"] == outputs
    assert seen["embup_batches_finished_total", "COMPLETED"] == 2
    assert seen["embup_batches_finished_total", "FAILED"] == 1
    assert seen["embup_batches_finished_total", "CANCELLED"] == 0
    assert seen["embup_batch_failures_total", "bad_row"] == 1
    assert seen["embup_batch_failures_total", "no_space"] == 0, "so that its first increase is one"
    for stage in ("parse", "decode", "format", "write", "sync", "publish"):
        assert seen["embup_batch_stage_seconds_total", stage] > 0, stage
    assert seen["embup_batch_queue_length",] == 0
    assert seen["embup_batch_rows_per_second",] == 0
    assert seen["embup_input_rows_total", "batch"] == 1000
    assert seen["embup_disk_free_bytes", "data"] <= seen["embup_disk_size_bytes", "data"]


def test_a_batch_that_goes_on_after_a_stop_counts_only_what_is_new(serve: Callable[..., Any]) -> None:
    service = serve(checkpoint_interval_s=0.05)
    job = service.submit(service.write_input("in.txt", 8000), "out.txt")
    service.until(lambda: service.status(job)["num_records_processed"] > 0)
    service.end()
    service.start()
    already = service.status(job)["num_records_processed"]
    assert service.final(job)["phase"] == "COMPLETED"
    assert 0 < scrape(service)["embup_batch_rows_total",] <= 8000
    assert already > 0


def test_waiting_batches_and_a_frozen_one_show(serve: Callable[..., Any]) -> None:
    service = serve(realtime_deadline_s=60)  # longer than a worker takes to start on a busy machine
    source = service.write_input("in.txt", 200)
    with socket.create_connection(("127.0.0.1", service.port)) as stalled:
        stalled.sendall(
            b"POST /v1/upsample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        jobs = [service.submit(source, f"out{number}.txt") for number in range(3)]
        service.until(lambda: service.status(jobs[0])["phase"] == "PAUSED")
        seen = scrape(service)
    assert seen["embup_gate_realtime_holders",] == 1
    assert seen["embup_gate_batch_holders",] == 1
    assert seen["embup_batch_running",] == 1
    assert seen["embup_batch_paused",] == 1
    assert seen["embup_batch_queue_length",] == 2
    assert seen["embup_batch_pauses_total",] == 1


def test_the_decoder_in_service_its_reloads_and_a_refused_one_show(
    serve: Callable[..., Any], registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(registry.root, tmp_path / "registry")
    before = time.time()
    service = serve(decoders=tmp_path / "registry")
    version = Registry(tmp_path / "registry").current_version()
    seen = scrape(service)
    assert seen["embup_model_info", version] == 1
    assert before <= seen["embup_model_loaded_timestamp_seconds",] <= time.time()
    assert (seen["embup_model_loaded",], seen["embup_model_reloads_total",]) == (1, 1)
    (tmp_path / "registry" / version / "decoder.safetensors").write_bytes(b"broken")
    assert service.http.post("/v1/models/reload").status_code == 503
    seen = scrape(service)
    assert seen["embup_model_last_reload_failed",] == 1
    assert seen["embup_model_reload_failures_total",] == 1
    assert seen["embup_model_loaded",] == 1, "the old one answers"


def test_vectors_unlike_the_training_rows_show_by_confidence_and_by_their_mean(
    serve: Callable[..., Any], upsampler: Upsampler, registry: Registry, sample_projected: Any
) -> None:
    """Rows of the sample lie near its mean; rows of one direction do not."""
    service, known, strange = serve(), serve(), np.full((256, 32), -1.0)
    known.http.post("/v1/upsample", json={"embeddings": sample_projected[:256].tolist()})
    service.http.post("/v1/upsample", json={"embeddings": strange.tolist()})
    like, unlike = scrape(known), scrape(service)
    _, confidence = upsampler.upsample(strange.astype(np.float32))
    assert like["embup_input_rows_total", "realtime"] == unlike["embup_input_rows_total", "realtime"] == 256
    assert like["embup_input_low_confidence_threshold",] == upsampler.low_confidence
    assert unlike["embup_input_low_confidence_rows_total", "realtime"] == 256
    assert like["embup_input_low_confidence_rows_total", "realtime"] == 0
    assert unlike["embup_input_confidence_mean", "realtime"] == pytest.approx(confidence.mean(), abs=1e-4)
    assert like["embup_input_mean_distance", "realtime"] < 0.15
    assert unlike["embup_input_mean_distance", "realtime"] > 0.5
    assert ("embup_input_mean_distance", "batch") not in like, "none was asked for"
    manifest = registry.current().manifest
    assert manifest["reference_statistics"]["z_mean"] == pytest.approx(
        sample_projected.mean(axis=0), abs=1e-6
    )


def test_a_decoder_without_statistics_of_its_training_rows_serves_without_a_distance(
    serve: Callable[..., Any], registry: Registry, tmp_path: Path, rows: Callable[..., Any]
) -> None:
    """An artifact that was published before they were kept."""
    shutil.copytree(registry.root, tmp_path / "registry")
    folder = Registry(tmp_path / "registry").current().folder
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["reference_statistics"]
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest))
    service = serve(decoders=tmp_path / "registry")
    assert service.http.post("/v1/upsample", json={"embeddings": rows(3).tolist()}).status_code == 200
    seen = scrape(service)
    assert ("embup_input_low_confidence_threshold",) not in seen
    assert seen["embup_input_low_confidence_rows_total", "realtime"] == 0
    assert seen["embup_input_rows_total", "realtime"] == 3
    assert ("embup_input_mean_distance", "realtime") not in seen


def test_metrics_that_are_off_are_not_offered(serve: Callable[..., Any], check: Callable[..., Any]) -> None:
    service = serve(metrics=False)
    check(service.http.get("/metrics"), 404)
    assert "/metrics" not in service.http.get("/").text
    assert service.http.post("/v1/upsample", json={"embedding": [0.1] * 32}).status_code == 200


def test_unknown_addresses_and_methods_share_one_series(shared_service: Any) -> None:
    """Else a scanner would fill the memory with labels."""
    for number in range(20):
        shared_service.http.get(f"/nowhere/{number}")
        shared_service.http.request("PROPFIND", f"/nowhere/{number}")
    routes = {sample[2] for sample in scrape(shared_service) if sample[0] == "embup_http_requests_total"}
    assert "none" in routes
    assert not any("nowhere" in route for route in routes)


def test_an_event_loop_that_is_held_up_shows_how_long() -> None:
    async def story() -> dict[str, float]:
        lag = LoopLag()
        measuring = asyncio.create_task(lag.run())
        await asyncio.sleep(0.05)
        time.sleep(0.6)  # noqa: ASYNC251 - what is looked for
        await asyncio.sleep(0.05)
        measuring.cancel()
        return dict(lag.histogram.cumulative())

    counts = asyncio.run(story())
    assert counts["+Inf"] > counts["0.25"], "a look came more than a quarter of a second late"


def test_a_histogram_counts_each_value_into_the_bucket_that_holds_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.5):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
    assert (histogram.count, histogram.sum) == (4, 5.5)
    assert LATENCY_BUCKETS_S[0] == 1e-4
    assert LATENCY_BUCKETS_S[-1] == 10


def test_running_means_are_plain_at_first_and_forget_later() -> None:
    meter = DriftMeter()
    confidence = np.linspace(0, 1, 100, dtype=np.float32)
    z = np.random.default_rng(0).normal(size=(100, 32)).astype(np.float32)
    for start in range(100):
        meter.note(z[start : start + 1], confidence[start : start + 1], 0.5)
    meter.fold()
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    assert (meter.rows, meter.low_rows) == (100, 50)
    assert meter.mean_confidence == pytest.approx(0.5)
    assert meter.distance(unit.mean(axis=0)) == pytest.approx(0, abs=1e-6)
    other = np.ones((FOLD_ROWS, 32), np.float32)
    for _ in range(10 * MEMORY_ROWS // FOLD_ROWS):
        meter.note(other, np.full(FOLD_ROWS, np.nan, np.float32), 0.5)
    assert meter.mean_confidence == pytest.approx(0.5), "nobody knows the confidence of those"
    assert meter.distance(np.full(32, 32**-0.5)) == pytest.approx(0, abs=1e-3)
