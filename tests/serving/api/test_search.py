"""POST /v1/search against the real service, over a real export: what is found, what is refused, the gate."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embup_core.artifacts.registry import Registry
from tests.conftest import publish_kriging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from tests.conftest import AnchoredSource
    from tests.serving.conftest import Service

    Check = Callable[[httpx.Response, int], dict[str, Any]]

PATH = "/v1/search"
DOCUMENTS = 200


@pytest.fixture(scope="module")
def indexes(
    anchored_registry: Registry, anchored_source: AnchoredSource, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folders `exact`, `hnsw` and `original`: 200 rows each, with keys and languages."""
    folder = tmp_path_factory.mktemp("indexes")
    z = anchored_source.unseen_projected[:DOCUMENTS]
    table = pa.table(
        {
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(z.reshape(-1)), 16),
            "key": [f"document {row}" for row in range(DOCUMENTS)],
            "language": ["en" if row % 2 else "de" for row in range(DOCUMENTS)],
            "year": [2000 + row % 5 for row in range(DOCUMENTS)],
        }
    )
    pq.write_table(table, folder / "archive.parquet")
    model = anchored_registry.load()
    more: dict[str, Any] = {"to": "faiss", "id_column": "key", "columns": ("language", "year")}
    model.export(folder / "archive.parquet", folder / "exact", **more)
    model.export(folder / "archive.parquet", folder / "hnsw", index="hnsw", **more)
    model.export(folder / "archive.parquet", folder / "original", basis="original", dims="mean", **more)
    return folder


@pytest.fixture(scope="module", params=["exact", "hnsw", "original"])
def searching(
    request: pytest.FixtureRequest,
    service_class: type[Service],
    indexes: Path,
    anchored_registry: Registry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service with each index."""
    service = service_class(
        anchored_registry.root, tmp_path_factory.mktemp("searching"), search_index=indexes / request.param
    )
    yield service
    assert service.end() == 0, service.log.read_text()
    assert "Traceback" not in service.log.read_text()
    assert "another basis" not in service.log.read_text()


def found(service: Service, **body: Any) -> dict[str, Any]:
    """What a search that must succeed answers."""
    answer = service.http.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    whole: dict[str, Any] = answer.json()
    return whole


def test_fresh_originals_and_short_vectors_find_their_neighbours(
    searching: Service, anchored_registry: Registry, anchored_source: AnchoredSource
) -> None:
    model = anchored_registry.load()
    z, x = anchored_source.unseen_projected, anchored_source.unseen_originals
    vectors = model.upsample(z)[0]
    means = vectors[:DOCUMENTS, : model.mean_dims]
    for row in range(DOCUMENTS, DOCUMENTS + 20):
        fresh = found(searching, vector=(7 * x[row]).tolist(), exact=True)  # only its direction counts
        expected = np.sort(means @ (model.anchor_rotation() @ x[row]))[::-1][:10]
        np.testing.assert_allclose(fresh["cosines"], expected, atol=0.02)
        assert fresh["cosines"] == sorted(fresh["cosines"], reverse=True)
    own = found(searching, short=z[3].tolist(), k=5)
    assert own["ids"][0] == "document 3"
    assert len(own["ids"]) == len(own["cosines"]) == len(own["payload"]) == 5
    assert own["payload"][0] == {
        "language": "en",
        "year": 2003,
        "confidence": pytest.approx(model.upsample(z[3:4])[1][0], abs=1e-6),
    }
    assert (own["model_version"], own["basis_id"]) == (model.version, model.basis_id)


def test_filters_leave_only_rows_with_these_values(
    searching: Service, anchored_source: AnchoredSource
) -> None:
    z = anchored_source.unseen_projected[0].tolist()
    for exact in (False, True):
        some = found(searching, short=z, k=50, filter={"language": "de", "year": 2002}, exact=exact)
        assert len(some["ids"]) == 20
        assert all((row["language"], row["year"]) == ("de", 2002) for row in some["payload"])
    assert found(searching, short=z, filter={"language": "fr"})["ids"] == []
    assert len(found(searching, short=z, k=1000)["ids"]) == DOCUMENTS


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({}, 400, "malformed-request"),
        ({"vector": [0.1] * 100, "short": [0.1] * 16}, 400, "malformed-request"),
        ({"vector": [0.1] * 16}, 400, "malformed-request"),
        ({"short": [0.1] * 100}, 400, "malformed-request"),
        ({"short": [0.1] * 16, "k": 0}, 400, "malformed-request"),
        ({"short": [0.1] * 16, "k": 100_000}, 400, "malformed-request"),
        ({"short": [0.1] * 16, "near": 1}, 400, "malformed-request"),
        ({"embedding": [0.1] * 16}, 400, "malformed-request"),  # what the other realtime request takes
        ({"short": [0.0] * 16}, 422, "bad-input"),
        ({"short": [0.1] * 16, "filter": {"colour": "red"}}, 422, "bad-input"),
        ({"short": [0.1] * 16, "filter": {"year": "soon"}}, 422, "bad-input"),
        ({"short": [0.1] * 16, "filter": {"year": 2002.5}}, 422, "bad-input"),
        ({"short": [0.1] * 16, "filter": {"year": 2**64}}, 422, "bad-input"),
    ],
)
def test_what_cannot_be_searched_for_is_a_problem(
    searching: Service, check: Check, body: dict[str, Any], status: int, kind: str
) -> None:
    assert check(searching.http.post(PATH, json=body), status)["type"] == f"/problems/{kind}"


def test_large_and_small_numbers_have_directions(searching: Service, anchored_source: AnchoredSource) -> None:
    z = anchored_source.unseen_projected[0].astype(np.float64)
    usual = found(searching, short=z.tolist())
    for factor in (1e300, 1e-300):
        assert found(searching, short=(factor * z).tolist())["ids"] == usual["ids"]


def test_a_search_holds_the_gate_and_pauses_a_batch(
    searching: Service, anchored_source: AnchoredSource
) -> None:
    np.save(searching.data / "in.npy", np.tile(anchored_source.unseen_projected, (2000, 1)))
    batch = searching.submit(searching.data / "in.npy", searching.data / "out.npy", overwrite=True)
    searching.until(lambda: searching.status(batch)["num_records_processed"] > 0)
    before = searching.status(batch)["pause_count"]
    for _ in range(5):
        found(searching, short=[0.1] * 16)
    assert searching.status(batch)["pause_count"] > before
    searching.http.post(f"/v1/batches/{batch}/cancel")
    searching.final(batch)


def test_batches_keep_out_of_the_index(searching: Service, check: Check) -> None:
    index = searching.settings["search_index"]
    answer = searching.http.post(
        "/v1/batches",
        json={"input_filepath": "a.npy", "output_filepath": str(index / "index.faiss"), "overwrite": True},
    )
    check(answer, 422)


def test_the_description_has_the_search(searching: Service) -> None:
    described = searching.http.get("/docs/openapi.json").json()
    operation = described["paths"][PATH]["post"]
    assert operation["operationId"] == "search"
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        assert searching.http.post(PATH, json={**example["value"], "filter": {}}).status_code == 200


def test_without_an_index_there_is_no_search(shared_service: Service, check: Check) -> None:
    check(shared_service.http.post(PATH, json={"short": [0.1] * 32}), 404)


def test_a_decoder_of_another_basis_is_refused_and_the_service_goes_on(
    serve: Callable[..., Service],
    check: Check,
    indexes: Path,
    anchored_registry: Registry,
    sample_projected: np.ndarray,
    sample_coordinates: np.ndarray,
    tmp_path: Path,
) -> None:
    shutil.copytree(anchored_registry.root, tmp_path / "registry")
    service = serve(decoders=tmp_path / "registry", search_index=indexes / "exact")
    assert service.http.post(PATH, json={"short": [0.1] * 16}).status_code == 200
    publish_kriging(Registry(tmp_path / "registry"), sample_projected, sample_coordinates)
    assert service.http.post("/v1/models/reload").status_code == 200
    problem = check(service.http.post(PATH, json={"short": [0.1] * 32}), 409)
    assert problem["type"] == "/problems/index-of-another-basis"
    assert "another basis" in service.log.read_text()
    assert service.http.post("/v1/upsample", json={"embedding": [0.1] * 32}).status_code == 200


def test_a_folder_without_a_finished_export_is_refused_at_the_start(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(AssertionError, match="embup export"):
        serve(search_index=tmp_path / "nothing")
