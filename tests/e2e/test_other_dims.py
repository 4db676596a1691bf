"""64 dimensions back to 3072: trained, published, served, and decoded in every format, as 32 to 1536 are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embup.cli.service_process import service_process
from embup_client import BadRequestError, Client, UnprocessableError
from embup_core.artifacts.registry import Registry
from embup_core.sources import SampleParameters
from embup_core.sources.files import COSINES_FILE, PROJECTED_FILE
from embup_core.sources.synthetic import draw_originals, project, write_cosines
from embup_core.text import row_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

INPUT_DIMS, OUTPUT_DIMS = 64, 3072
ROWS = 300
ATOL = 3e-6  # a product of one row rounds otherwise than one of many

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Trained:
    """A folder with data and a registry, and what `embup train` printed."""

    work: Path
    source: Path
    result: dict[str, Any]

    @property
    def registry(self) -> Path:
        """Where the decoder is published."""
        return self.work / "registry"


def embup(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "embup.cli", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    work = tmp_path_factory.mktemp("other-dims")
    source = work / "source"
    source.mkdir()
    originals = draw_originals(SampleParameters(rows=ROWS, dims=OUTPUT_DIMS))
    np.save(source / PROJECTED_FILE, project(originals, seed=0, dims=INPUT_DIMS))
    write_cosines(source / COSINES_FILE, originals)
    result = embup(
        "train", "--source", source, "--registry", work / "registry", "--data", work,
        "--decoder", "kriging", "--output-dims", str(OUTPUT_DIMS), "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return Trained(work, source, json.loads(result.stdout))


@pytest.fixture(scope="module")
def service(trained: Trained) -> Iterator[Client]:
    with (
        service_process(
            registry=trained.registry, data=trained.work, log=trained.work / "service.log"
        ) as url,
        Client(url) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Unit rows that nobody has seen: float32, shape (40, 64)."""
    drawn = np.random.default_rng(7).standard_normal((40, INPUT_DIMS))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def expected(trained: Trained, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows decoded by the published artifact, in this process."""
    return Registry(trained.registry).load().upsample(rows)[0]


def test_the_artifact_states_its_dimensions(trained: Trained) -> None:
    manifest = Registry(trained.registry).current().manifest
    assert (manifest["input_dims"], manifest["output_dims"]) == (INPUT_DIMS, OUTPUT_DIMS)
    assert np.shape(manifest["golden"]["outputs"])[1] == OUTPUT_DIMS
    assert len(manifest["reference_statistics"]["z_mean"]) == INPUT_DIMS
    listed = json.loads(embup("models", "--registry", trained.registry, "--json").stdout)["models"]
    assert [(model["input_dims"], model["output_dims"]) for model in listed] == [(INPUT_DIMS, OUTPUT_DIMS)]
    assert trained.result["evaluation"]["kriging"]["test_test"]["r2"] > 0


def test_a_matrix_of_more_dimensions_is_refused_before_anything_is_fitted(trained: Trained) -> None:
    result = embup(
        "train", "--source", trained.source, "--registry", trained.work / "none", "--data", trained.work,
        "--decoder", "linear", "--output-dims", "128",
    )  # fmt: skip
    assert result.returncode != 0
    assert "--output-dims" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (trained.work / "none").exists()


def test_realtime_answers_have_the_decoder_s_dimensions(
    service: Client, rows: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    one = service.upsample(rows[0])
    assert len(one.embedding) == OUTPUT_DIMS
    np.testing.assert_allclose(one.embedding, expected[0], rtol=0, atol=ATOL)
    many = service.upsample_array(rows)
    assert many.embeddings.shape == (len(rows), OUTPUT_DIMS)
    np.testing.assert_allclose(many.embeddings, expected, rtol=0, atol=ATOL)
    np.testing.assert_allclose(np.linalg.norm(many.embeddings, axis=1), 1, rtol=0, atol=1e-6)


def test_rows_of_the_usual_length_are_refused_with_both_lengths(service: Client) -> None:
    with pytest.raises(BadRequestError) as caught:
        service.upsample([0.1] * 32)
    assert "64" in caught.value.detail
    assert "32" in caught.value.detail
    assert "64" in caught.value.remedy


def test_the_models_and_the_description_state_the_dimensions(service: Client) -> None:
    (model,) = service.models().models
    assert (model.input_dims, model.output_dims) == (INPUT_DIMS, OUTPUT_DIMS)
    described = httpx.get(f"{service.url}/docs/openapi.json", trust_env=False).json()
    fields = described["components"]["schemas"]["UpsampleRequest"]["properties"]
    (one,) = [kind for kind in fields["embedding"]["oneOf"] if kind["type"] == "array"]
    assert (one["minItems"], one["maxItems"]) == (INPUT_DIMS, INPUT_DIMS)
    body = described["paths"]["/v1/upsample"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        answer = httpx.post(f"{service.url}/v1/upsample", json=example["value"], trust_env=False)
        assert answer.status_code == 200, answer.text
    text = json.dumps(described)
    assert "3072 numbers" in text
    assert "1536" not in described["info"]["description"]
    assert "_dims}" not in text


def save(path: Path, rows: NDArray[np.float32]) -> Path:
    """Write rows in the format that the ending names."""
    match path.suffix:
        case ".npy":
            np.save(path, rows)
        case ".parquet":
            lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
            pq.write_table(pa.table({"embedding": lists}), path)
        case _:
            np.savetxt(path, rows, delimiter=",", fmt="%.9g")
    return path


def read(path: Path) -> NDArray[Any]:
    """Read rows from a file of any format."""
    match path.suffix:
        case ".npy":
            return np.asarray(np.load(path))
        case ".parquet":
            column = pq.read_table(path)["embedding"].combine_chunks()
            return np.asarray(column.flatten().to_numpy().reshape(len(column), -1))
        case _:
            return np.loadtxt(path, delimiter=",")


@pytest.mark.parametrize("ending", [".txt", ".npy", ".parquet"])
def test_batches_in_every_format_are_the_realtime_answers(
    trained: Trained, service: Client, rows: NDArray[np.float32], expected: NDArray[np.float32], ending: str
) -> None:
    source, target = save(trained.work / f"in{ending}", rows), trained.work / f"out{ending}"
    status = service.wait(service.submit_batch(source, target))
    assert (status.phase, status.num_records_processed, status.error) == ("COMPLETED", len(rows), None)
    decoded = read(target)
    assert decoded.shape == (len(rows), OUTPUT_DIMS)
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=ATOL)
    if ending == ".txt":
        assert target.stat().st_size == len(rows) * row_bytes(OUTPUT_DIMS)


def test_a_file_without_a_service(
    trained: Trained, rows: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    source, target = save(trained.work / "alone.txt", rows), trained.work / "alone.npy"
    result = embup("upsample", source, target, "--registry", trained.registry)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(target), expected, rtol=0, atol=ATOL)


def test_a_batch_of_rows_of_another_length_is_refused_at_once(trained: Trained, service: Client) -> None:
    source = save(trained.work / "short.txt", np.full((3, 32), 0.5, np.float32))
    with pytest.raises(UnprocessableError) as caught:
        service.submit_batch(source, trained.work / "short.out")
    assert caught.value.type == "/problems/bad-row"
    assert caught.value.line == 1
    assert "expected 64 numbers, found 32" in caught.value.detail


def test_a_decoder_is_evaluated_on_originals_of_its_dimensions(trained: Trained) -> None:
    originals = draw_originals(SampleParameters(rows=40, dims=OUTPUT_DIMS, seed=1))
    folder = trained.work
    np.save(folder / "unseen.npy", project(originals, seed=0, dims=INPUT_DIMS))
    np.save(folder / "originals.npy", originals)
    np.save(folder / "narrow.npy", originals[:, :1536])
    evaluated = ("evaluate", "--registry", trained.registry, "--projected", folder / "unseen.npy", "--json")
    result = embup(*evaluated, "--originals", folder / "originals.npy")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["rows"] == 40
    refused = embup(*evaluated, "--originals", folder / "narrow.npy")
    assert refused.returncode != 0
    assert "expected (n, 3072)" in refused.stderr
