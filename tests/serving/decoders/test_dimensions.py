"""A decoder of other dimensions comes into a running service: requests follow it, batches keep theirs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.reference_statistics import ReferenceStatistics
from embup_core.artifacts.registry import Registry
from embup_core.decoders.baselines.linear_residual import LinearResidual

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.serving.conftest import Service

INPUT_DIMS, OUTPUT_DIMS = 12, 200
WIDE = {"embedding": [1.0] * 32}
NARROW = {"embedding": [1.0] * INPUT_DIMS}


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def publish(
    registry: Registry, projected: NDArray[np.float32], coordinates: NDArray[np.float32], *, dims: int
) -> str:
    """Publish a decoder to `dims` dimensions, after all that are published."""
    return registry.publish(
        LinearResidual().fit(projected, coordinates, output_dims=dims),
        golden=golden_inputs(projected),
        provenance=Provenance(
            "sample", "0" * 64, len(projected), {}, {}, {},
            reference_statistics=ReferenceStatistics.of(projected, ()),
        ),
        created_utc=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=len(registry.version_names())),
    ).version  # fmt: skip


def publish_narrow(registry: Registry) -> str:
    """Publish a decoder from 12 to 200 dimensions."""
    draw = np.random.default_rng(0)
    projected, coordinates = (unit(draw.standard_normal((300, dims))) for dims in (INPUT_DIMS, 40))
    return publish(registry, projected, coordinates, dims=OUTPUT_DIMS)


@pytest.fixture
def decoders(tmp_path: Path, sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> Registry:
    """A registry with one decoder from 32 to 1536 dimensions."""
    made = Registry(tmp_path / "registry")
    publish(made, sample_projected, sample_coordinates, dims=1536)
    return made


def row_lengths(described: dict[str, Any]) -> tuple[int, int]:
    field = described["components"]["schemas"]["UpsampleRequest"]["properties"]["embedding"]
    (row,) = [kind for kind in field["oneOf"] if kind["type"] == "array"]
    return row["minItems"], row["maxItems"]


def test_realtime_and_the_description_follow_the_decoder_in_service(
    serve: Callable[..., Service], decoders: Registry
) -> None:
    service = serve(decoders=decoders.root)
    ask = service.http.post
    assert len(ask("/v1/upsample", json=WIDE).json()["embedding"]) == 1536
    assert row_lengths(service.http.get("/docs/openapi.json").json()) == (32, 32)

    narrow = publish_narrow(decoders)
    assert ask("/v1/models/reload").json()["model_version"] == narrow
    answer = ask("/v1/upsample", json=NARROW)
    assert (answer.status_code, len(answer.json()["embedding"])) == (200, OUTPUT_DIMS)
    refused = ask("/v1/upsample", json=WIDE)
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/malformed-request")
    assert refused.json()["detail"] == "embedding: expected 12 numbers, found 32."
    assert row_lengths(service.http.get("/docs/openapi.json").json()) == (12, 12)
    listed = {
        model["version"]: (model["input_dims"], model["output_dims"])
        for model in service.http.get("/v1/models").json()["models"]
    }
    assert sorted(listed.values()) == [(12, 200), (32, 1536)]
    metrics = service.http.get("/metrics")  # the running mean of 32 numbers is none of 12
    assert metrics.status_code == 200
    assert 'embup_input_mean_distance{source="realtime"}' in metrics.text

    assert ask("/v1/models/rollback").json()["changed"]
    assert len(ask("/v1/upsample", json=WIDE).json()["embedding"]) == 1536
    assert ask("/v1/upsample", json=NARROW).status_code == 400


def test_a_batch_keeps_its_decoder_and_one_that_waits_gets_the_new_one(
    serve: Callable[..., Service], decoders: Registry
) -> None:
    service = serve(decoders=decoders.root)
    wide = decoders.current_version()
    source = service.write_input("in.txt", 5_000)
    running = service.submit(source, service.data / "out.npy")
    waiting = service.submit(source, service.data / "other.npy")
    service.until(lambda: service.status(running)["model_version"])
    narrow = publish_narrow(decoders)
    assert service.http.post("/v1/models/reload").json()["model_version"] == narrow

    done = service.final(running)
    assert (done["phase"], done["model_version"]) == ("COMPLETED", wide)
    assert np.load(service.data / "out.npy", mmap_mode="r").shape == (5_000, 1536)
    failed = service.final(waiting)
    assert (failed["phase"], failed["model_version"]) == ("FAILED", narrow)
    assert (failed["error"]["code"], failed["error"]["line"]) == ("bad_row", 1)
    assert "expected 12 numbers, found 32" in failed["error"]["detail"]
    assert not (service.data / "other.npy").exists()
