"""New models during a batch: it stays with the one it began with, and says with which."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.artifacts.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.crash.conftest import BatchStatistics, Case, Scale
    from tests.serving.conftest import Service


def test_a_batch_is_answered_by_one_model_however_many_are_published_meanwhile(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    await_progress: Callable[[Service, str], None],
    hold_the_gate: Callable[[Service], Any],
    registry: Registry,
    publish_another: Callable[[Registry, int], str],
    statistics: BatchStatistics,
    scale: Scale,
    tmp_path: Path,
) -> None:
    statistics.require("models published and put into service during the batch", scale.publishes)
    decoders = Registry(tmp_path / "registry")
    shutil.copytree(registry.root, decoders.root)
    first = decoders.current_version()
    some, small = case(3000 * scale.publishes), case(200)
    service = serve(decoders=decoders.root, realtime_deadline_s=100)
    target = service.data / "out" / "o.txt"
    job = service.submit(some.source, target)
    following = service.data / "out" / "following.txt"
    next_job = service.submit(small.source, following)
    versions = [first]
    z = np.ones(32)
    for i in range(scale.publishes):
        await_progress(service, job)
        with hold_the_gate(service):  # so that it is not through before all models are there
            versions.append(publish_another(decoders, 100 + i))
            answer = service.http.post("/v1/models/reload").json()
            assert answer == {
                "model_version": versions[-1],
                "previous_version": versions[-2],
                "changed": True,
            }
            answer = service.http.post("/v1/upsample", json={"embedding": z.tolist()}).json()
            assert answer["model_version"] == versions[-1]
            decoded, _ = decoders.load(versions[-1]).upsample(z[None].astype(np.float32))
            assert np.abs(np.array(answer["embedding"]) - decoded[0]).max() < 1e-6
            status = service.status(job)
            assert status["status"] == "IN PROGRESS", "too short a batch for so many publishes"
            assert status["model_version"] == first
        statistics.add("models published and put into service during the batch")
    assert len(set(versions)) == scale.publishes + 1
    service.restart(signal.SIGKILL)
    final = service.final(job)
    assert (final["phase"], final["model_version"]) == ("COMPLETED", first)
    some.check(target)
    final = service.final(next_job)
    assert (final["phase"], final["model_version"]) == ("COMPLETED", versions[-1])
    case(200, model=decoders.load(versions[-1])).check(following)
