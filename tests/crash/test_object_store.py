"""A registry in a bucket: its publisher is killed, a decoder is promoted under load, the store goes away."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from embup_core.artifacts.manifest import VERSION
from embup_core.artifacts.remote import open_registry
from embup_core.object_store import ObjectStore
from tests.conftest import publish_kriging
from tests.serving.conftest import random_rows
from tests.serving.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from tests.crash.conftest import BatchStatistics, Scale
    from tests.s3 import S3Server
    from tests.serving.conftest import Service

SEED = 20_261_130
RATE = 100.0  # requests a second
PUBLISHED = "published "

# Publishes and prunes until it is killed; a plot of 9 MB goes up in two parts.
PUBLISHER = f"""
import os, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np
from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.remote import open_registry
from embup_core.decoders.baselines.linear import Linear

address, cache, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(number)
z, x = (rng.standard_normal((60, d)).astype(np.float32) for d in (4, 12))
z, x = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (z, x))
plots = {{"small.png": b"a plot", "large.png": os.urandom(9 << 20)}}
registry = open_registry(address, cache)
for _ in range(1000):
    number += 1
    found = registry.publish(
        Linear().fit(z, x),
        golden=golden_inputs(z),
        provenance=Provenance("sample", "0" * 64, len(z), {{}}, {{}}, {{}}),
        plots=plots,
        created_utc=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
    )
    print("{PUBLISHED}" + found.version, flush=True)
    registry.prune(2)
"""


@pytest.mark.timeout(900)
def test_the_pointer_names_a_whole_version_whenever_the_publisher_is_killed(
    s3: S3Server, tmp_path: Path, scale: Scale, statistics: BatchStatistics
) -> None:
    chance = random.Random(SEED)
    address = f"{s3.new_bucket()}/registry"
    store = ObjectStore(address)
    statistics.require("kill -9 of a publisher", scale.publisher_kills)
    statistics.require("versions published", scale.publisher_kills // 2)
    last = ""
    for kill in range(scale.publisher_kills):
        out = tmp_path / "out"
        with out.open("wb") as printed:
            publisher = subprocess.Popen(
                [sys.executable, "-c", PUBLISHER, address, str(tmp_path / "cache"), str(1000 * kill)],
                stdout=printed,
            )
        started = len(s3.requests)
        while len(s3.requests) == started and publisher.poll() is None:
            time.sleep(0.005)  # the first look: from here on anything may happen
        while kill % 2 and PUBLISHED not in out.read_text() and publisher.poll() is None:
            time.sleep(0.005)  # every second one is killed in a later publish, or as it prunes
        time.sleep(chance.uniform(0, 0.7))
        assert publisher.poll() is None, "it ended by itself"
        publisher.kill()
        publisher.wait()
        statistics.add("kill -9 of a publisher")
        published = [line.removeprefix(PUBLISHED) for line in out.read_text().splitlines()]
        statistics.add("versions published", len(published))
        last = max([last, *published])
        complete = set(open_registry(address, tmp_path / "list").version_names())
        partial = set(filter(VERSION.fullmatch, store.folders())) - complete
        statistics.add("versions left incomplete in the store", len(partial))
        if store.find("CURRENT") is None:
            assert not last, "what was published is in service"
            continue
        reader = open_registry(address, tmp_path / "reader")
        named = reader.load().version  # fetched, every hash and golden answer verified
        assert named in complete
        assert named >= last
        for done in partial:
            store.delete([one.key for one in store.objects(f"{done}/")])
        shutil.rmtree(tmp_path / "reader")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


@pytest.mark.timeout(400)
def test_no_request_fails_through_a_promotion_and_an_outage_of_the_store(
    serve: Callable[..., Service],
    s3: S3Server,
    sample_projected: NDArray[np.float32],
    sample_coordinates: NDArray[np.float32],
    scale: Scale,
    statistics: BatchStatistics,
    tmp_path: Path,
) -> None:
    address = f"{s3.new_bucket()}/registry"
    registry = open_registry(address, tmp_path / "publisher")

    def publish(seed: int) -> str:
        return publish_kriging(registry, sample_projected, sample_coordinates, seed=seed)

    def in_service() -> str:
        return str(service.http.get("/health/ready").json()["model_version"])

    first = publish(0)
    service = serve(decoders=address, model_poll_s=0.2)
    assert in_service() == first
    with Load(service, registry, random_rows(16), rate=RATE) as load:
        while load.answers < RATE:
            time.sleep(0.05)
        second = publish(1)
        service.until(lambda: in_service() == second)
        statistics.add("promotions under load")
        s3.stop()
        try:
            before = load.answers
            service.until(lambda: service.http.get("/health/ready").json()["status"] == "degraded")
            time.sleep(scale.outage_s)
            statistics.add("seconds without the store", int(scale.outage_s))
            ready = service.http.get("/health/ready")
            assert (ready.status_code, ready.json()["model_version"]) == (200, second)
            assert "cannot be reached" in ready.json()["registry_outage"]
            statistics.add("requests answered in the outage", load.answers - before)
            assert load.answers - before > 0.5 * RATE * scale.outage_s
        finally:
            s3.start()
        service.until(lambda: service.http.get("/health/ready").json()["status"] == "ready")
        third = publish(2)
        service.until(lambda: in_service() == third)
        statistics.add("promotions under load")
        answered = load.answers
        while load.answers < answered + RATE and not load.failed:
            time.sleep(0.05)
    assert not load.failed
    versions = load.versions()
    assert set(versions) == {first, second, third}
    statistics.add("requests", len(load.answered))
    latencies = sorted(one.latency_ms for one in load.answered)
    statistics.add("latency p99, ms", round(latencies[int(0.99 * len(latencies))]))
    log = service.log.read_text()
    assert log.count("the registry does not answer") == 1
    assert log.count("the registry answers again") == 1
    assert "Traceback" not in log
