"""`embup anchors`: known originals in, a version out whose rows compare with originals."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.artifacts.registry import Registry

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import AnchoredSource

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def copied(anchored_registry: Registry, tmp_path: Path) -> Registry:
    shutil.copytree(anchored_registry.root, tmp_path / "registry")
    return Registry(tmp_path / "registry")


@pytest.fixture
def files(anchored_source: AnchoredSource, tmp_path: Path) -> tuple[Path, Path]:
    """Rows that were never trained on, as text, and their originals."""
    np.savetxt(tmp_path / "rows.csv", anchored_source.unseen_projected, fmt="%.8f", delimiter=",")
    np.save(tmp_path / "originals.npy", anchored_source.unseen_originals)
    return tmp_path / "rows.csv", tmp_path / "originals.npy"


def test_anchors_make_a_new_version_that_rows_in_the_originals_basis_come_from(
    embup: Run, copied: Registry, files: tuple[Path, Path], anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    before = copied.current_version()
    rows, originals = files
    made = embup("anchors", "--rows", rows, "--originals", originals, "--registry", copied.root, "--json")
    assert made.returncode == 0, made.stderr
    answer = json.loads(made.stdout)
    assert (answer["made_of"], answer["in_service"]) == (before, True)
    assert answer["model_version"] == copied.current_version() != before
    assert answer["anchors"]["anchors"] == 400
    assert answer["anchors"]["r2"] > 0.7
    shown = embup("models", "show", answer["model_version"], "--registry", copied.root)
    assert f"400, held-out R2 {answer['anchors']['r2']:.3f}" in shown.stdout
    shown = embup("models", "show", answer["model_version"], "--registry", copied.root, "--json")
    assert json.loads(shown.stdout)["anchors"] == answer["anchors"]
    target = tmp_path / "long.npy"
    done = embup("upsample", rows, target, "--basis", "original", "--registry", copied.root, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["basis"] == "original"
    expected, _ = copied.load().upsample(anchored_source.unseen_projected, basis="original")
    np.testing.assert_allclose(np.load(target), expected, atol=1e-4)


def test_a_version_may_be_left_out_of_service(embup: Run, copied: Registry, files: tuple[Path, Path]) -> None:
    before = copied.current_version()
    rows, originals = files
    made = embup(
        "anchors", "--rows", rows, "--originals", originals, "--registry", copied.root, "--no-promote"
    )
    assert made.returncode == 0, made.stderr
    assert copied.current_version() == before
    assert len(copied.version_names()) == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda z, x: (z, np.roll(x, 5, axis=0)), "nothing to do with them"),
        (lambda z, x: (z[:-1], x), "Expected originals of shape (399, 100) for 399 rows"),
        (lambda z, x: (z, 2 * x), "originals.npy, row 0: length 2"),
        (lambda z, x: (z[:, 1:], x), "rows.npy"),
        (lambda z, x: (np.where(np.arange(400)[:, None] == 399, 0, z), x), "rows.npy, row 400"),
    ],
    ids=["another order", "one row fewer", "not unit", "narrow rows", "a row of zeros"],
)
def test_what_cannot_be_anchors_is_refused_and_nothing_is_published(
    embup: Run,
    copied: Registry,
    anchored_source: AnchoredSource,
    tmp_path: Path,
    spoil: Callable[..., tuple[np.ndarray, np.ndarray]],
    message: str,
) -> None:
    z, x = spoil(anchored_source.unseen_projected, anchored_source.unseen_originals)
    np.save(tmp_path / "rows.npy", z)
    np.save(tmp_path / "originals.npy", x)
    refused = embup(
        "anchors",
        "--rows",
        tmp_path / "rows.npy",
        "--originals",
        tmp_path / "originals.npy",
        "--registry",
        copied.root,
    )
    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(copied.version_names()) == 1


def test_a_version_without_anchors_says_how_to_get_some(
    embup: Run, registry: Registry, tmp_path: Path
) -> None:
    np.save(tmp_path / "in.npy", np.ones((2, 32), np.float32))
    refused = embup(
        "upsample",
        tmp_path / "in.npy",
        tmp_path / "out.npy",
        "--basis",
        "original",
        "--registry",
        registry.root,
    )
    assert refused.returncode == 2
    assert "embup anchors" in refused.stderr
    assert not (tmp_path / "out.npy").exists()
