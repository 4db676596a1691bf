"""Fixtures of all packages' tests: a small sample, and a registry with one decoder trained on it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from embup_core.artifact import Provenance
from embup_core.coordinates import recover_coordinates
from embup_core.cosine_matrix import CosineMatrix
from embup_core.decoders.kriging import KrigingDecoder
from embup_core.evaluation import ConfidenceDecile
from embup_core.golden import golden_inputs
from embup_core.registry import Registry
from embup_core.sources import SampleParameters, SourceFiles, generate_sample
from embup_core.training_inputs import TrainingInputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embup_core.upsampler import Upsampler


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
    target: Registry, projected: NDArray[np.float32], coordinates: NDArray[np.float32], *, seed: int = 0
) -> str:
    """Fit on all rows and publish; returns the version."""
    return target.publish(
        KrigingDecoder(seed=seed).fit(projected, coordinates),
        golden=golden_inputs(projected),
        provenance=Provenance(
            source="sample",
            fingerprint="0" * 64,
            rows=len(projected),
            split={"seed": 0},
            metrics={},
            evaluation={"protocol": "none: a test's artifact"},
            training_inputs=TrainingInputs.of(projected, DECILES),
        ),
        plots={"a.png": b"a plot"},
    ).version
