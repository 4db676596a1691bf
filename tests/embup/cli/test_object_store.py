"""Commands on a bucket: the source, the registry and its copy, and what is said when the store refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.artifacts.remote import open_registry
from embup_core.object_store import ObjectStore
from embup_core.sources import COSINES_FILE, PROJECTED_FILE
from tests.conftest import publish_kriging
from tests.s3 import KEY_ID, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.sources import SourceFiles
    from tests.s3 import S3Server


@pytest.mark.slow
def test_a_decoder_is_trained_from_a_bucket_into_a_bucket_and_used(
    embup: Callable[..., Any], sample_source: SourceFiles, s3: S3Server, tmp_path: Path
) -> None:
    bucket = s3.new_bucket()
    source = ObjectStore(f"{bucket}/source")
    source.upload(sample_source.projected, PROJECTED_FILE)
    source.upload(sample_source.cosines, COSINES_FILE)
    variables = {
        "EMBUP_SOURCE": source.address,
        "EMBUP_REGISTRY": f"{bucket}/registry",
        "EMBUP_REGISTRY_CACHE": str(tmp_path / "cache"),
    }
    trained = embup(
        "train", "--decoder", "linear_residual", "--data", tmp_path / "data", "--json", **variables
    )
    assert trained.returncode == 0, trained.stderr
    version = json.loads(trained.stdout)["version"]
    listed = json.loads(embup("models", "--json", **variables).stdout)
    assert (listed["current"], [one["version"] for one in listed["models"]]) == (version, [version])
    assert listed["models"][0]["source"] == source.address
    z = np.load(sample_source.projected)[:3]
    np.save(tmp_path / "in.npy", z)
    done = embup("upsample", tmp_path / "in.npy", tmp_path / "out.npy", **variables)
    assert done.returncode == 0, done.stderr
    expected, _ = open_registry(f"{bucket}/registry", tmp_path / "mine").load().upsample(z)
    assert np.abs(np.load(tmp_path / "out.npy") - expected).max() < 1e-6


def test_versions_are_promoted_rolled_back_and_pruned_in_the_bucket(
    embup: Callable[..., Any],
    sample_projected: NDArray[np.float32],
    sample_coordinates: NDArray[np.float32],
    s3: S3Server,
    tmp_path: Path,
) -> None:
    registry = open_registry(f"{s3.new_bucket()}/registry", tmp_path / "mine")
    a, b, c = (
        publish_kriging(registry, sample_projected, sample_coordinates, seed=seed) for seed in range(3)
    )
    options = ("--registry", registry.address)
    variables = {"EMBUP_REGISTRY_CACHE": str(tmp_path / "cache")}

    def current() -> str:
        return str(open_registry(registry.address, tmp_path / "somebody").current_version())

    shown = embup("models", "show", b, *options, "--json", **variables)
    assert json.loads(shown.stdout)["version"] == b, shown.stderr
    moved = embup("models", "promote", a, *options, "--json", **variables)
    assert json.loads(moved.stdout) == {"current": a, "before": c}, moved.stderr
    assert current() == a
    assert embup("models", "rollback", *options, **variables).returncode == 0
    assert current() == c
    pruned = json.loads(embup("models", "prune", "--keep", "0", *options, "--json", **variables).stdout)
    assert c in pruned["kept"]
    assert set(pruned["removed"]) | set(pruned["kept"]) == {a, b, c}
    assert pruned["removed"]
    kept = {one.key.split("/")[0] for one in ObjectStore(registry.address).objects() if "/" in one.key}
    assert kept == set(pruned["kept"])


def test_a_store_that_refuses_is_told_without_secrets(
    embup: Callable[..., Any], s3: S3Server, tmp_path: Path
) -> None:
    address = f"{s3.new_bucket()}/registry"
    with s3.failing("expired"):
        result = embup("models", "--registry", address, EMBUP_REGISTRY_CACHE=str(tmp_path))
    assert result.returncode == 2
    assert f"{address}/CURRENT: reading failed: the credentials have expired" in result.stderr
    assert "Traceback" not in result.stderr
    assert KEY_ID not in result.stderr
    assert SECRET not in result.stderr
    empty = embup("models", "--registry", address, EMBUP_REGISTRY_CACHE=str(tmp_path))
    assert (empty.returncode, empty.stdout) == (0, "")
    assert f"no decoder is published in {address}" in empty.stderr
    wrong = embup("models", "--registry", "s3://user:word@bucket/x")
    assert wrong.returncode == 2
    assert "word" not in wrong.stderr
