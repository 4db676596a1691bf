"""`embup project`: decoded vectors and originals in, short vectors out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from tests.conftest import AnchoredSource


def test_decoded_vectors_and_originals_are_projected(
    embup: Callable[..., Any],
    anchored_registry: Registry,
    anchored_source: AnchoredSource,
    tmp_path: Path,
) -> None:
    model = anchored_registry.load()
    decoded, _ = model.upsample(anchored_source.unseen_projected)
    np.save(tmp_path / "decoded.npy", decoded)
    np.save(tmp_path / "originals.npy", anchored_source.unseen_originals)
    for name, basis, expected in (
        ("decoded", "decoded", model.project(decoded)),
        ("originals", "original", anchored_source.unseen_projected),
    ):
        out = tmp_path / f"{name}-short.npy"
        result = embup(
            "project",
            tmp_path / f"{name}.npy",
            out,
            "--basis",
            basis,
            "--registry",
            anchored_registry.root,
            "--json",
        )
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        assert (answer["rows"], answer["basis"]) == (400, basis)
        np.testing.assert_allclose(np.load(out), expected, atol=1e-3)


def test_without_a_map_the_error_says_what_to_do(
    embup: Callable[..., Any], registry: Registry, tmp_path: Path
) -> None:
    np.save(tmp_path / "in.npy", np.ones((3, 1536), np.float32))
    result = embup("project", tmp_path / "in.npy", tmp_path / "out.npy", "--registry", registry.root)
    assert result.returncode == 2
    assert registry.current_version() in result.stderr
    assert not (tmp_path / "out.npy").exists()
