"""Another decoder comes into a running service: noticed or told, never in the middle of an answer.

`EMBUP_UPGRADES` says how many upgrades happen under load (5 unless set).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.registry import Registry
from embup_core.decoders.baselines.linear_residual import LinearResidual
from embup_core.decoders.kriging.kriging import Kriging
from tests.serving.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from tests.serving.conftest import Service

UPGRADES = int(os.environ.get("EMBUP_UPGRADES", "5"))
POLL_S = 0.05
ONES = {"embedding": [1.0] * 32}


@pytest.fixture(scope="module")
def some_versions(
    tmp_path_factory: pytest.TempPathFactory, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> Path:
    """A registry with four small decoders, whose answers differ."""
    root = tmp_path_factory.mktemp("versions") / "registry"
    for seed in range(4):
        publish(Registry(root), sample_projected, sample_coordinates, seed)
    return root


def publish(registry: Registry, projected: np.ndarray, coordinates: np.ndarray, seed: int) -> str:
    """Publish one; a greater seed makes a later version, whatever the clock says."""
    return registry.publish(
        LinearResidual(seed=seed).fit(projected, coordinates),
        golden=golden_inputs(projected),
        provenance=Provenance("sample", "0" * 64, len(projected), {}, {}, {}),
        created_utc=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seed),
    ).version


@pytest.fixture
def decoders(some_versions: Path, tmp_path: Path) -> Registry:
    """A copy of it for one test."""
    shutil.copytree(some_versions, tmp_path / "registry")
    return Registry(tmp_path / "registry")


def in_service(service: Service) -> str | None:
    found: str | None = service.http.get("/v1/models").json()["in_service"]
    return found


def spoil(registry: Registry, version: str) -> Callable[[], object]:
    """Damage a version; give what repairs it."""
    path = registry.root / version / "decoder.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return lambda: path.write_bytes(content)


def test_a_version_promoted_by_another_process_is_noticed(
    serve: Callable[..., Service], decoders: Registry
) -> None:
    service = serve(decoders=decoders.root, model_poll_s=POLL_S)
    before = in_service(service)
    other = decoders.version_names()[-1]
    decoders.promote(other)
    service.until(lambda: in_service(service) == other)
    assert service.http.post("/v1/upsample", json=ONES).json()["model_version"] == other
    decoders.roll_back()
    service.until(lambda: in_service(service) == before)
    assert service.http.get("/health/ready").json()["last_reload_failure"] is None


def test_the_first_version_is_noticed_and_a_batch_needs_no_reload(
    serve: Callable[..., Service], decoders: Registry, tmp_path: Path
) -> None:
    service = serve(decoders=tmp_path / "empty", model_poll_s=POLL_S)
    assert service.http.get("/health/ready").status_code == 503
    shutil.copytree(decoders.root, tmp_path / "empty")
    service.until(lambda: service.http.get("/health/ready").status_code == 200)
    job = service.submit(service.write_input("in.txt", 3), "out.txt")
    assert service.final(job)["phase"] == "COMPLETED"


def test_a_bad_version_is_refused_once_and_shown_until_it_is_repaired(
    serve: Callable[..., Service], decoders: Registry
) -> None:
    service = serve(decoders=decoders.root, model_poll_s=POLL_S)
    old, bad = decoders.version_names()[:2]
    decoders.promote(old)
    service.until(lambda: in_service(service) == old)
    repair = spoil(decoders, bad)
    pointer = decoders.root / "CURRENT"
    pointer.write_text(f"{bad}\n")
    failure = service.until(lambda: service.http.get("/health/ready").json()["last_reload_failure"])
    assert failure["version"] == bad
    assert failure["detail"].startswith(f"{bad}/decoder.safetensors: expected SHA-256")
    time.sleep(10 * POLL_S)
    assert "embup_model_reload_failures_total 1.0" in service.http.get("/metrics").text
    assert service.log.read_text().count("the latest decoder cannot be used") == 1
    listed = service.http.get("/v1/models").json()
    assert (listed["in_service"], listed["last_failure"]) == (old, failure)
    assert listed["refused"] == [failure]
    page = service.http.get("/").text
    assert f"The decoder {bad} was refused" in page
    assert f"{bad}/decoder.safetensors" in page
    assert str(decoders.root) not in json.dumps(listed) + page
    assert service.http.post("/v1/upsample", json=ONES).json()["model_version"] == old
    pointer.write_text(f"{old}\n")
    service.until(lambda: service.http.get("/health/ready").json()["last_reload_failure"] is None)
    assert service.http.get("/v1/models").json()["refused"] == [failure], "still to be seen"
    pointer.write_text(f"{bad}\n")
    service.until(lambda: service.http.get("/health/ready").json()["last_reload_failure"])
    repair()
    service.until(lambda: in_service(service) == bad)
    listed = service.http.get("/v1/models").json()
    assert (listed["last_failure"], listed["refused"]) == (None, [])


def test_a_pointer_that_comes_before_its_version_is_taken_up_when_the_version_is_there(
    serve: Callable[..., Service], decoders: Registry, tmp_path: Path
) -> None:
    """A registry that is copied from elsewhere, file by file, in any order."""
    service = serve(decoders=decoders.root, model_poll_s=POLL_S)
    late = decoders.version_names()[-1]
    shutil.move(decoders.root / late, tmp_path / "late")
    (decoders.root / "CURRENT").write_text(f"{late}\n")
    service.until(lambda: service.http.get("/health/ready").json()["last_reload_failure"])
    (decoders.root / late / "plots").mkdir(parents=True)
    for name in ("decoder.safetensors", "MODEL_CARD.md", "evaluation.json", "manifest.json"):
        shutil.copyfile(tmp_path / "late" / name, decoders.root / late / name)
        time.sleep(2 * POLL_S)
    service.until(lambda: in_service(service) == late)


def test_versions_are_promoted_and_rolled_back_over_http(
    serve: Callable[..., Service], decoders: Registry, check: Callable[..., Any]
) -> None:
    service = serve(decoders=decoders.root)
    latest, before, *_, oldest = decoders.version_names()
    assert (latest, before) == (decoders.current_version(), decoders.earlier_version())
    answer = service.http.post(f"/v1/models/{oldest}/promote").json()
    assert answer == {"model_version": oldest, "previous_version": latest, "changed": True}
    assert decoders.current_version() == oldest
    assert service.http.post("/v1/models/rollback").json() == {
        "model_version": latest,
        "previous_version": oldest,
        "changed": True,
    }
    assert decoders.current_version() == latest
    service.restart(signal.SIGKILL)
    assert in_service(service) == latest
    for unknown in ("20200101-000000-00000000", "nonsense", "%2e%2e", "..%2f..%2fetc"):
        answer = service.http.post(f"/v1/models/{unknown}/promote")
        assert str(decoders.root) not in check(answer, 404)["detail"]
    spoil(decoders, oldest)
    problem = check(service.http.post(f"/v1/models/{oldest}/promote"), 409)
    assert "SHA-256" in problem["detail"]
    assert (in_service(service), decoders.current_version()) == (latest, latest)
    while (earlier := service.http.post("/v1/models/rollback")).status_code == 200:
        assert earlier.json()["changed"]
    assert check(earlier, 409)["type"] == "/problems/decoder-refused"


def test_a_batch_whose_decoder_was_removed_while_it_waited_fails_and_says_why(
    serve: Callable[..., Service], decoders: Registry
) -> None:
    service = serve(decoders=decoders.root, checkpoint_interval_s=0.1)
    version = in_service(service)
    assert version is not None
    started = service.submit(service.write_input("long.txt", 20_000), "first.txt")
    service.until(lambda: service.status(started)["num_records_processed"])
    service.end(signal.SIGKILL)
    other = decoders.version_names()[-1]
    decoders.promote(other)
    shutil.rmtree(decoders.root / version)
    service.start()
    final = service.final(started)
    assert (final["status"], final["error"]["code"]) == ("FAILED", "no_decoder")
    assert version in final["error"]["detail"]
    job = service.submit(service.write_input("in.txt", 3), "second.txt")
    assert service.final(job)["model_version"] == other


def test_readiness_ends_with_the_signal_and_a_drain_goes_on_answering(
    serve: Callable[..., Service], check: Callable[..., Any]
) -> None:
    service = serve(drain_s=20)
    assert service.http.get("/health/ready").status_code == 200
    service.process.send_signal(signal.SIGTERM)
    service.until(lambda: service.http.get("/health/ready").status_code != 200)
    with httpx.Client(base_url=service.http.base_url) as new:  # a connection of after the signal
        not_ready = new.get("/health/ready")
        assert check(not_ready, 503)["type"] == "/problems/stopping"
        assert not_ready.headers["retry-after"] == "10"
        assert new.get("/health/live").status_code == 200
        assert new.post("/v1/upsample", json=ONES).status_code == 200
    started = time.monotonic()
    assert service.end(signal.SIGTERM) == 0, "a second signal ends the drain"
    assert time.monotonic() - started < 10
    assert "Traceback" not in service.log.read_text()


@pytest.mark.timeout(120 + 5 * UPGRADES)
def test_upgrades_under_load_fail_no_request_and_every_answer_is_its_versions(
    serve: Callable[..., Service],
    decoders: Registry,
    rows: Callable[..., np.ndarray],
    sample_projected: np.ndarray,
    sample_coordinates: np.ndarray,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = serve(decoders=decoders.root, model_poll_s=POLL_S)

    def published() -> str:
        version = publish(decoders, sample_projected, sample_coordinates, 100 + done)
        assert service.http.post("/v1/models/reload").json()["model_version"] == version
        return version

    def promoted_beside() -> str:
        version = next(name for name in decoders.version_names()[::-1] if name != in_service(service))
        decoders.promote(version)
        return version

    def promoted_over_http() -> str:
        version = next(name for name in decoders.version_names() if name != in_service(service))
        assert service.http.post(f"/v1/models/{version}/promote").json()["changed"]
        return version

    def rolled_back_over_http() -> str:
        answer = service.http.post("/v1/models/rollback").json()
        assert answer["changed"]
        return str(answer["model_version"])

    def refused() -> str:
        """One that is bad, promoted by hand: the old one goes on answering."""
        before = decoders.current_version()
        bad = next(name for name in decoders.version_names() if name != before)
        repair = spoil(decoders, bad)
        (decoders.root / "CURRENT").write_text(f"{bad}\n")
        service.until(lambda: service.http.get("/health/ready").json()["last_reload_failure"])
        assert in_service(service) == before
        (decoders.root / "CURRENT").write_text(f"{before}\n")
        repair()
        return before

    ways = (published, promoted_beside, promoted_over_http, rolled_back_over_http, refused)
    with Load(service, decoders, rows(16)) as load:
        for done in range(UPGRADES):
            expected = ways[done % len(ways)]()
            while in_service(service) != expected:
                time.sleep(POLL_S)
            answered = load.answers
            while load.answers == answered and not load.failed:
                time.sleep(POLL_S)
    assert not load.failed
    seconds = time.monotonic() - load.answered[0].sent_s
    versions = load.versions()
    latencies = sorted(one.latency_ms for one in load.answered)
    if UPGRADES >= 50:
        with capsys.disabled():
            p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
            sys.stdout.write(
                f"\n{UPGRADES} upgrades, {len(latencies)} requests in {seconds:.0f} s answered by "
                f"{len(versions)} versions, 0 failed, p50 {p50:.1f} ms, p99 {p99:.1f} ms\n"
            )
    assert sum(versions.values()) == len(load.answered) > 0
    assert len(versions) >= min(UPGRADES, 4) - 1
    assert "Traceback" not in service.log.read_text()


def test_the_list_shows_what_a_decoder_learned_from_and_reached(
    serve: Callable[..., Any], tmp_path: Path, sample_projected: Any, sample_coordinates: Any
) -> None:
    registry = Registry(tmp_path / "scored")
    metrics = {"test_test": {"r2": 0.7, "mae": 0.03, "spearman": None}, "recall_at_10": 0.5, "fit_s": 1.0}
    for source, scores in (("/home/somebody/embeddings", metrics), ("https://example.org/z.npy", {})):
        registry.publish(
            Kriging(seed=len(source)).fit(sample_projected, sample_coordinates),
            golden=golden_inputs(sample_projected),
            provenance=Provenance(
                source=source, fingerprint="0" * 64, rows=600, split={}, metrics=scores, evaluation={}
            ),
        )
    listed = serve(decoders=registry.root).http.get("/v1/models").json()["models"]
    by_source = {model["source"]: model for model in listed}
    assert by_source.keys() == {"embeddings", "https://example.org/z.npy"}
    assert by_source["embeddings"]["rows"] == 600
    assert by_source["embeddings"]["scores"] == {"r2": 0.7, "mae": 0.03, "recall_at_10": 0.5}
    assert set(by_source["https://example.org/z.npy"]["scores"].values()) == {None}
    assert [model["current"] for model in listed] == [model["in_service"] for model in listed]
