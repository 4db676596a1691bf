"""A registry in a bucket, as several processes see it: each with a cache of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.remote.mirrored import MirroredRegistry
from embup_core.artifacts.remote.opening import open_registry
from embup_core.decoders.baselines.linear import Linear

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from tests.s3 import S3Server

Open: TypeAlias = "Callable[..., MirroredRegistry]"
Publish: TypeAlias = "Callable[..., str]"


@pytest.fixture
def address(s3: S3Server) -> str:
    """Of a registry in which nothing is published."""
    return f"{s3.new_bucket()}/team/registry"


@pytest.fixture
def opened(address: str, tmp_path: Path) -> Open:
    """Open the registry as one process does: ``opened("laptop")``."""

    def open_it(process: str = "one", *, look: bool = True) -> MirroredRegistry:
        found = open_registry(address, tmp_path / process, look=look)
        assert isinstance(found, MirroredRegistry)
        return found

    return open_it


@pytest.fixture(scope="session")
def publish() -> Publish:
    """Publish a decoder whose answers differ by its number; a greater one makes a later version."""

    def publish_it(registry: Registry, number: int, *, promote: bool = True) -> str:
        rng = np.random.default_rng(number)
        z = rng.standard_normal((60, 4)).astype(np.float32)
        x = rng.standard_normal((60, 12)).astype(np.float32)
        z, x = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (z, x))
        return registry.publish(
            Linear().fit(z, x),
            golden=golden_inputs(z),
            provenance=Provenance("sample", "0" * 64, len(z), {}, {}, {"number": number}),
            plots={"a.png": b"a plot"},
            created_utc=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
            promote=promote,
        ).version

    return publish_it
