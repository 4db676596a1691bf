"""Two files in, a published decoder, a running service, the three requests: only processes, files, HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from embup.cli.service_process import service_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.sources import SourceFiles

ROWS = 500

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole-path")


@pytest.fixture(scope="module")
def trained(sample_source: SourceFiles, work: Path) -> dict[str, Any]:
    """What `embup train` says about a folder of two files."""
    folder = work / "two-files"
    folder.mkdir()
    (folder / "projected_train_embs.npy").symlink_to(sample_source.projected)
    (folder / "og_train_cos_theta.npy").symlink_to(sample_source.cosines)
    embup = Path(sys.executable).parent / "embup"
    result = subprocess.run(
        [embup, "train", "--source", folder, "--registry", work / "registry", "--data", work, "--json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture(scope="module")
def service(
    trained: dict[str, Any], work: Path
) -> Iterator[httpx.Client]:  # trained: published before the start
    with (
        service_process(registry=work / "registry", data=work, log=work / "service.log") as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def embeddings() -> list[list[float]]:
    """Unit rows nobody has seen, as numbers that a text file holds exactly."""
    rows = np.random.default_rng(5).standard_normal((ROWS, 32))
    unit: list[list[float]] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).round(6).tolist()
    return unit


@pytest.fixture(scope="module")
def decoded(service: httpx.Client, embeddings: list[list[float]], work: Path) -> np.ndarray[Any, Any]:
    """Output of a batch over `embeddings`; shape (ROWS, 1536)."""
    source, target = work / "input.txt", work / "output.txt"
    source.write_text("".join(", ".join(map(repr, row)) + "\n" for row in embeddings))
    accepted = service.post(
        "/v1/batches", json={"input_filepath": str(source), "output_filepath": str(target)}
    )
    assert accepted.status_code == 202
    seen = [0]
    while True:
        status = service.get(f"/v1/batches/{accepted.json()['batch_request_id']}").json()
        assert status["status"] in {"COMPLETED", "IN PROGRESS", "FAILED"}
        assert status["num_records_processed"] >= seen[-1]
        seen.append(status["num_records_processed"])
        if status["status"] != "IN PROGRESS":
            break
        if target.exists():  # renamed already, not yet told: then it is whole
            assert target.stat().st_size == ROWS * 1536 * 12
        time.sleep(0.02)
    assert (status["status"], seen[-1], status["error"]) == ("COMPLETED", ROWS, None)
    return np.loadtxt(target, delimiter=",")


@pytest.mark.timeout(300)
def test_training_compares_the_decoders_and_publishes_one(trained: dict[str, Any], work: Path) -> None:
    compared = set(trained["evaluation"])
    assert {"linear_residual", "nearest_neighbours", "kriging", "mixture_kriging"} <= compared
    assert trained["champion"] in compared
    assert (work / "registry" / trained["version"] / "manifest.json").is_file()


def test_the_published_version_answers(service: httpx.Client, trained: dict[str, Any]) -> None:
    answer = service.post("/v1/upsample", json={"embedding": [1.0] + [0.0] * 31}).json()
    assert answer["model_version"] == trained["version"]
    assert len(answer["embedding"]) == 1536
    assert 0 <= answer["confidence"] <= 1


def test_every_line_of_a_batch_is_the_realtime_answer_to_that_line(
    service: httpx.Client, embeddings: list[list[float]], decoded: np.ndarray[Any, Any]
) -> None:
    assert decoded.shape == (ROWS, 1536)
    for i in range(0, ROWS, 10):
        answer = service.post("/v1/upsample", json={"embedding": embeddings[i]}).json()["embedding"]
        # A product of one row rounds otherwise than one of 128, in float32 and over some thousand sums.
        np.testing.assert_allclose(decoded[i], answer, rtol=0, atol=3e-6)


def test_rows_are_unit_after_the_way_through_text(decoded: np.ndarray[Any, Any]) -> None:
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, rtol=0, atol=1e-6)


def test_unknown_batches_are_not_found(service: httpx.Client) -> None:
    answer = service.get("/v1/batches/no-such-batch")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/problem+json")
