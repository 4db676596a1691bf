"""Fixtures of all packages' tests: a small sample, and a registry with one decoder trained on it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.reference_statistics import ReferenceStatistics
from embup_core.artifacts.registry import Registry
from embup_core.decoders.kriging.kriging import Kriging
from embup_core.evaluation import ConfidenceDecile
from embup_core.geometry.coordinates import recover_coordinates
from embup_core.sources import (
    ANCHOR_ROWS_FILE,
    ANCHORS_FILE,
    COSINES_FILE,
    PROJECTED_FILE,
    SampleParameters,
    SourceFiles,
    generate_sample,
)
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.sources.folder import files_in_folder
from embup_core.training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.upsampler import Upsampler
    from tests.s3 import S3Server


@pytest.fixture(scope="session")
def sample_source(tmp_path_factory: pytest.TempPathFactory) -> SourceFiles:
    """The built-in sample with 600 rows."""
    folder = tmp_path_factory.mktemp("sample")
    return generate_sample(folder, parameters=SampleParameters(rows=600))


@pytest.fixture(scope="session")
def sample_matrix(sample_source: SourceFiles) -> CosineMatrix:
    """The sample's cosine matrix."""
    return CosineMatrix.open(sample_source.cosines)


@pytest.fixture(scope="session")
def sample_projected(sample_source: SourceFiles) -> NDArray[np.float32]:
    """The sample's projected embeddings: float32, shape (600, 32)."""
    projected: NDArray[np.float32] = np.load(sample_source.projected)
    return projected


@pytest.fixture(scope="session")
def sample_coordinates(sample_matrix: CosineMatrix) -> NDArray[np.float32]:
    """The sample's originals up to a rotation."""
    return recover_coordinates(sample_matrix)


@pytest.fixture(scope="session")
def registry(
    tmp_path_factory: pytest.TempPathFactory,
    sample_projected: NDArray[np.float32],
    sample_coordinates: NDArray[np.float32],
) -> Registry:
    """A registry with one published kriging decoder. Tests that publish make their own."""
    made = Registry(tmp_path_factory.mktemp("registry"))
    publish_kriging(made, sample_projected, sample_coordinates)
    return made


@pytest.fixture(scope="session")
def upsampler(registry: Registry) -> Upsampler:
    """The published decoder, loaded."""
    return registry.load()


@pytest.fixture(scope="session")
def s3_server() -> S3Server:
    """An S3 server that can be told to fail."""
    from tests.s3 import S3Server

    return S3Server()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, in the environment of this process and of those that it starts."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def affine_source(tmp_path: Path) -> SourceFiles:
    """600 originals of 100 dimensions, neighbours alike, and their affine projection to 8."""
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((60, 100)), 10, axis=0)
    x = (topics + rng.standard_normal((600, 100))) * np.arange(1, 101) ** -0.4 + 0.3
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z = x @ rng.standard_normal((100, 8)) + 0.1
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    folder = tmp_path / "affine"
    folder.mkdir()
    np.save(folder / PROJECTED_FILE, z.astype(np.float32))
    np.save(folder / COSINES_FILE, (x @ x.T).astype(np.float32))
    return SourceFiles(folder / PROJECTED_FILE, folder / COSINES_FILE, str(folder))


@dataclass(frozen=True)
class AnchoredSource:
    """Training data whose originals a test knows.

    Attributes
    ----------
    files
        800 rows of 16 dimensions, whose originals have 100; 300 of them are anchors.
    unseen_projected, unseen_originals
        Rows that are not in the files: float32, shapes (400, 16) and (400, 100).
    """

    files: SourceFiles
    unseen_projected: NDArray[np.float32]
    unseen_originals: NDArray[np.float32]


@pytest.fixture(scope="session")
def anchored_source(tmp_path_factory: pytest.TempPathFactory) -> AnchoredSource:
    """Originals, neighbours alike, their affine projection, and some of them as anchors."""
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((120, 100)), 10, axis=0)
    x = (topics + 0.7 * rng.standard_normal((1200, 100))) * np.arange(1, 101) ** -0.7 + 0.1
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z = x @ rng.standard_normal((100, 16)) + 0.1
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    order = rng.permutation(1200)
    originals: NDArray[np.float32] = x[order].astype(np.float32)
    projected: NDArray[np.float32] = z[order].astype(np.float32)
    folder = tmp_path_factory.mktemp("anchored")
    np.save(folder / PROJECTED_FILE, projected[:800])
    np.save(folder / COSINES_FILE, originals[:800] @ originals[:800].T)
    rows = rng.permutation(800)[:300]
    np.save(folder / ANCHORS_FILE, originals[rows])
    np.save(folder / ANCHOR_ROWS_FILE, rows)
    return AnchoredSource(files_in_folder(folder), projected[800:], originals[800:])


@pytest.fixture(scope="session")
def anchored_registry(tmp_path_factory: pytest.TempPathFactory, anchored_source: AnchoredSource) -> Registry:
    """A registry with a decoder of a source with anchors. Tests that publish make their own."""
    made = Registry(tmp_path_factory.mktemp("anchored-registry"))
    train(anchored_source.files.name, decoder="kriging", output_dims=100, registry=made)
    return made


def pytest_configure() -> None:
    """Hear SIGINT even where the tests were started in the background: children inherit deafness."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


DECILES = tuple(ConfidenceDecile(0.75 + place / 100, 0.02, None, 10) for place in range(10))
PublishAnother: TypeAlias = "Callable[[Registry, int], str]"


@pytest.fixture
def publish_another(
    sample_projected: NDArray[np.float32], sample_coordinates: NDArray[np.float32]
) -> PublishAnother:
    """Publish a decoder whose answers differ by its seed: ``publish_another(registry, seed) -> version``."""

    def publish(target: Registry, seed: int) -> str:
        return publish_kriging(target, sample_projected, sample_coordinates, seed=seed)

    return publish


def publish_kriging(
    target: Registry,
    projected: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    *,
    seed: int = 0,
    promote: bool = True,
    held_out: bool = False,
) -> str:
    """Fit on all rows and publish; returns the version."""
    return target.publish(
        Kriging(seed=seed).fit(projected, coordinates),
        golden=golden_inputs(projected),
        provenance=Provenance(
            source="sample",
            fingerprint="0" * 64,
            rows=len(projected),
            split={"seed": 0, "held_out": held_out},
            metrics={},
            evaluation={"protocol": "none: a test's artifact"},
            reference_statistics=ReferenceStatistics.of(projected, DECILES),
        ),
        plots={"a.png": b"a plot"},
        promote=promote,
    ).version
