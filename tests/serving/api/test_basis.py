"""The field `basis` against the real service: vectors for original embeddings, or a clear refusal."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
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

PATH = "/v1/upsample"


@pytest.fixture(scope="module")
def anchored(
    service_class: type[Service], anchored_registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service whose decoder has anchors."""
    service = service_class(anchored_registry.root, tmp_path_factory.mktemp("anchored-service"))
    yield service
    assert service.end() == 0, service.log.read_text()


@pytest.mark.parametrize("count", [1, 3, 200])
def test_vectors_have_the_basis_that_was_asked_for(
    anchored: Service, anchored_registry: Registry, anchored_source: AnchoredSource, count: int
) -> None:
    model, z = anchored_registry.load(), anchored_source.unseen_projected[:count]
    for basis in ("decoded", "original"):
        expected, _ = model.upsample(z, basis=basis)
        answer = anchored.http.post(PATH, json={"embeddings": z.tolist(), "basis": basis})
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["embeddings"], expected, atol=2e-6)
        raw = anchored.http.post(
            PATH,
            json={"embeddings": z.tolist(), "basis": basis},
            headers={"Accept": "application/octet-stream"},
        )
        found = np.frombuffer(raw.content, "<f4").reshape(count, 100)
        np.testing.assert_allclose(found, expected, atol=2e-6)
    usual = anchored.http.post(PATH, json={"embeddings": z.tolist()}).json()["embeddings"]
    np.testing.assert_allclose(usual, model.upsample(z)[0], atol=2e-6)


def test_fresh_originals_find_vectors_in_their_basis(
    anchored: Service, anchored_source: AnchoredSource
) -> None:
    z, x = anchored_source.unseen_projected[:200], anchored_source.unseen_originals
    answer = anchored.http.post(PATH, json={"embeddings": z.tolist(), "basis": "original"})
    true, found = x[200:] @ x[:200].T, x[200:] @ np.array(answer.json()["embeddings"], np.float32).T
    assert 1 - np.square(found - true).mean() / true.var() > 0.8


@pytest.mark.parametrize("ending", ["npy", "txt"])
def test_a_batch_has_the_basis_that_was_asked_for(
    anchored: Service, anchored_registry: Registry, anchored_source: AnchoredSource, ending: str
) -> None:
    source = anchored.data / "in.npy"
    np.save(source, anchored_source.unseen_projected)
    for basis in ("decoded", "original"):
        target = anchored.data / f"{basis}.{ending}"
        done = anchored.final(anchored.submit(source, target, basis=basis))
        assert (done["phase"], done["basis"]) == ("COMPLETED", basis)
        expected, _ = anchored_registry.load().upsample(
            anchored_source.unseen_projected,
            basis=basis,
        )
        written = np.load(target) if ending == "npy" else np.loadtxt(target, delimiter=",")
        np.testing.assert_allclose(written, expected, atol=2e-6)


def test_another_basis_is_another_request_for_one_key(anchored: Service, check: Check) -> None:
    np.save(anchored.data / "few.npy", np.eye(16, dtype=np.float32))
    body = {
        "input_filepath": str(anchored.data / "few.npy"),
        "output_filepath": str(anchored.data / "few-long.npy"),
        "overwrite": True,
    }
    headers = {"Idempotency-Key": "one of them"}

    def post(**more: str) -> httpx.Response:
        return anchored.http.post("/v1/batches", json=body | more, headers=headers)

    first = post()
    assert first.status_code == 202
    assert post(basis="decoded").json() == first.json()
    check(post(basis="original"), 409)


def test_models_say_which_have_anchors_and_in_which_basis_they_are(
    anchored: Service, anchored_registry: Registry
) -> None:
    (entry,) = anchored.http.get("/v1/models").json()["models"]
    scores = anchored_registry.load().anchor_scores
    assert scores is not None
    assert entry["anchors"] == {
        "anchors": 300,
        "documents": scores.documents,
        "r2": pytest.approx(scores.r2),
        "recall_at_10": pytest.approx(scores.recall_at_10),
    }
    assert entry["basis_id"] == anchored_registry.load_artifact().manifest["basis"]["id"]


def test_a_decoder_without_anchors_refuses_with_the_remedy(shared_service: Service, check: Check) -> None:
    row = [0.1] * 32
    found = check(shared_service.http.post(PATH, json={"embedding": row, "basis": "original"}), 422)
    assert found["type"] == "/problems/no-anchors"
    assert "embup anchors" in found["remedy"]
    source = shared_service.write_input("basis.txt", 3)
    target = shared_service.data / "basis-long.txt"
    body = {"input_filepath": str(source), "output_filepath": str(target), "basis": "original"}
    found = check(shared_service.http.post("/v1/batches", json=body), 422)
    assert found["type"] == "/problems/no-anchors"
    assert not target.exists()
    listed = shared_service.http.get("/v1/models").json()["models"][0]
    assert (listed["anchors"], listed["basis_id"]) == (None, None)  # published without a basis


def test_another_word_for_a_basis_names_the_two(shared_service: Service, check: Check) -> None:
    for path, body in (
        (PATH, {"embedding": [0.1] * 32}),
        ("/v1/batches", {"input_filepath": "a.txt", "output_filepath": "b.txt"}),
    ):
        found = check(shared_service.http.post(path, json=body | {"basis": "openai"}), 400)
        assert "expected one of decoded, original, found 'openai'" in json.dumps(found)


def test_a_batch_whose_decoder_lost_its_anchors_fails_with_the_remedy(
    serve: Callable[..., Service],
    anchored_registry: Registry,
    anchored_source: AnchoredSource,
    tmp_path: Path,
    sample_projected: np.ndarray,
    sample_coordinates: np.ndarray,
) -> None:
    """It waits behind another one, and meanwhile a version without anchors comes into service."""
    shutil.copytree(anchored_registry.root, tmp_path / "registry")
    service = serve(decoders=tmp_path / "registry")
    np.save(service.data / "many.npy", np.tile(anchored_source.unseen_projected, (1000, 1)))
    np.save(service.data / "in.npy", anchored_source.unseen_projected)
    before = service.submit(service.data / "many.npy", service.data / "many-long.npy")
    waiting = service.submit(service.data / "in.npy", service.data / "long.npy", basis="original")
    publish_kriging(Registry(tmp_path / "registry"), sample_projected, sample_coordinates)
    assert service.http.post("/v1/models/reload").status_code == 200
    service.http.post(f"/v1/batches/{before}/cancel")
    ended = service.final(waiting)
    assert (ended["phase"], ended["error"]["code"]) == ("FAILED", "no_anchors")
    assert "embup anchors" in ended["error"]["remedy"]
    assert not (service.data / "long.npy").exists()
