"""A service on a registry in a bucket: it takes versions up, moves the pointer, and goes on in an outage."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.artifacts.remote import open_registry
from embup_core.object_store import ObjectStore
from tests.s3 import KEY_ID, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from tests.s3 import S3Server
    from tests.serving.conftest import Service

POLL_S = 0.05
ONES = {"embedding": [1.0] * 32}


@pytest.fixture
def published(
    s3: S3Server, tmp_path: Path, publish_another: Callable[[Registry, int], str]
) -> tuple[Registry, str, str]:
    """A registry with two versions, as another machine sees it, and their names; the second is in service."""
    registry = open_registry(f"{s3.new_bucket()}/registry", tmp_path / "other machine")
    return registry, publish_another(registry, 1), publish_another(registry, 2)


def ready(service: Service) -> dict[str, Any]:
    answer = service.http.get("/health/ready")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def metric(service: Service, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", service.http.get("/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_versions_come_from_the_bucket_and_are_promoted_there(
    serve: Callable[..., Service], published: tuple[Registry, str, str], check: Callable[..., Any]
) -> None:
    registry, first, second = published
    service = serve(decoders=registry.address, model_poll_s=POLL_S)
    assert ready(service)["model_version"] == second
    assert ready(service)["status"] == "ready"
    listed = service.http.get("/v1/models").json()["models"]
    assert {model["version"]: model["current"] for model in listed} == {first: False, second: True}
    assert service.http.post(f"/v1/models/{first}/promote").json()["changed"]
    registry.look()  # type: ignore[attr-defined]
    assert registry.current_version() == first
    assert service.http.post("/v1/models/rollback").json()["model_version"] == second
    registry.look()  # type: ignore[attr-defined]
    registry.promote(first)
    service.until(lambda: ready(service)["model_version"] == first)
    assert service.http.post("/v1/upsample", json=ONES).json()["model_version"] == first
    page = service.http.get("/console/decoders", params={"compare": first, "with": second})
    assert page.status_code == 200
    assert first in page.text
    for version in (first, second):
        plot = service.http.get(f"/console/decoders/{version}/plots/a.png")
        assert plot.content == b"a plot"
    problem = check(service.http.post("/v1/models/20200101-000000-00000000/promote"), 404)
    assert registry.address not in json.dumps(problem)
    job = service.submit(service.write_input("in.txt", 3), "out.txt")
    assert service.final(job)["model_version"] == first


def test_a_damaged_version_is_refused_and_the_old_one_goes_on(
    serve: Callable[..., Service], published: tuple[Registry, str, str]
) -> None:
    registry, first, second = published
    store = ObjectStore(registry.address)
    service = serve(decoders=registry.address, model_poll_s=POLL_S)
    store.write(f"{first}/decoder.safetensors", b"damaged")
    store.write("CURRENT", f"{first}\n".encode())
    failure = service.until(lambda: ready(service)["last_reload_failure"])
    assert failure["version"] == first
    assert failure["detail"].startswith(f"{first}/decoder.safetensors: expected")
    assert ready(service)["model_version"] == second
    assert registry.address not in service.http.get("/health/ready").text
    store.write("CURRENT", f"{second}\n".encode())
    service.until(lambda: ready(service)["last_reload_failure"] is None)


def test_an_outage_degrades_and_says_so_once(
    serve: Callable[..., Service], published: tuple[Registry, str, str], s3: S3Server
) -> None:
    registry, first, second = published
    service = serve(decoders=registry.address, model_poll_s=POLL_S)
    assert metric(service, "embup_registry_failed_looks_total") == 0
    with s3.failing("expired"):
        service.until(lambda: ready(service)["status"] == "degraded")
        service.until(lambda: metric(service, "embup_registry_failed_looks_total") >= 3)
        told = service.http.get("/health/ready").text
        assert "the credentials have expired" in told
        assert "does not answer" in service.http.get("/").text
        assert metric(service, "embup_registry_last_answer_age_seconds") > 2 * POLL_S
        assert service.http.post("/v1/upsample", json=ONES).json()["model_version"] == second
        assert service.http.get("/v1/models").json()["models"][0]["version"] == second
        assert service.http.post(f"/v1/models/{first}/promote").status_code == 409
        service.restart(signal.SIGKILL)
        assert ready(service)["status"] == "degraded"
        assert service.http.post("/v1/upsample", json=ONES).json()["model_version"] == second
        log = service.log.read_text()
    service.until(lambda: ready(service)["status"] == "ready")
    registry.promote(first)
    service.until(lambda: ready(service)["model_version"] == first)
    assert log.count("the registry does not answer") == 2, "once for each start"
    assert service.log.read_text().count("the registry answers again") == 1
    for text in (told, service.log.read_text()):
        assert KEY_ID not in text
        assert SECRET not in text
        assert "Traceback" not in text


def test_requests_do_not_wait_for_a_slow_store(
    serve: Callable[..., Service], published: tuple[Registry, str, str], s3: S3Server
) -> None:
    registry, *_ = published
    service = serve(decoders=registry.address, model_poll_s=POLL_S)
    with s3.failing("slow"):
        asked = len(s3.requests)
        service.until(lambda: len(s3.requests) > asked)
        started = time.monotonic()
        for _ in range(100):
            assert service.http.post("/v1/upsample", json=ONES).status_code == 200
        assert time.monotonic() - started < 20, "a look takes 3 s, and the next one follows at once"


def test_a_service_without_a_copy_waits_for_the_store(
    serve: Callable[..., Service], published: tuple[Registry, str, str], s3: S3Server
) -> None:
    registry, _, second = published
    with s3.failing("unavailable"):
        service = serve(decoders=registry.address, model_poll_s=POLL_S)
        problem = service.http.get("/health/ready")
        assert problem.status_code == 503
        assert "not available" in problem.text
    service.until(lambda: service.http.get("/health/ready").status_code == 200)
    assert ready(service)["model_version"] == second


@pytest.mark.slow
def test_a_batch_waits_for_its_version_where_the_copy_is_lost(
    serve: Callable[..., Service], published: tuple[Registry, str, str], s3: S3Server
) -> None:
    registry, first, second = published
    service = serve(decoders=registry.address, model_poll_s=POLL_S, checkpoint_interval_s=0.1)
    job = service.submit(service.write_input("long.txt", 20_000), "out.txt")
    service.until(lambda: service.status(job)["num_records_processed"])
    service.end(signal.SIGKILL)
    registry.promote(first)
    (copy,) = (service.data / "registry-cache").iterdir()
    shutil.rmtree(copy)
    with s3.failing("unavailable", path=second):
        service.start()
        failure = service.until(lambda: ready(service)["batch_engine_failure"])
        assert "not available" in failure
        assert registry.address not in failure
        assert service.status(job)["status"] == "IN PROGRESS"
        assert ready(service)["model_version"] == first
    final = service.final(job)
    assert (final["phase"], final["model_version"]) == ("COMPLETED", second)
