"""The upsampler takes any direction and refuses what has none."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.errors import InputError, InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from embup_core.upsampler import Upsampler
    from tests.conftest import AnchoredSource


def test_rows_are_unit_and_confidence_is_a_share(upsampler: Upsampler, sample_projected: np.ndarray) -> None:
    rows, confidence = upsampler.upsample(sample_projected)
    assert rows.shape == (600, 1536)
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)
    assert ((confidence > 0) & (confidence <= 1)).all()


@pytest.mark.parametrize("factor", [1e-30, 0.5, 7, 1e30])
def test_only_the_direction_counts(upsampler: Upsampler, sample_projected: np.ndarray, factor: float) -> None:
    scaled = (sample_projected[:5].astype(np.float64) * factor).astype(np.float32)
    np.testing.assert_allclose(
        upsampler.upsample(scaled)[0], upsampler.upsample(sample_projected[:5])[0], atol=1e-4
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [(0.0, "only zeros"), (np.nan, "a value that is not"), (np.inf, "not finite")],
)
def test_a_row_without_a_direction_is_named(upsampler: Upsampler, value: float, found: str) -> None:
    rows = np.full((3, 32), 0.1, np.float32)
    rows[1] = value
    with pytest.raises(InputError, match=f"row 1, found .*{found}"):
        upsampler.upsample(rows)


def test_a_row_too_short_to_have_a_direction_is_named(upsampler: Upsampler) -> None:
    rows = np.full((3, 32), 0.1)
    rows[1] = 1e-160  # its squares have few digits left
    with pytest.raises(InputError, match="row 1, found only zeros"):
        upsampler.upsample(rows)


@pytest.mark.parametrize("shape", [(32,), (1, 31), (1, 33), (2, 2, 32)])
def test_another_shape_is_said(upsampler: Upsampler, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="rows of 32 numbers"):
        upsampler.upsample(np.ones(shape, np.float32))


def test_no_rows_in_no_rows_out(upsampler: Upsampler) -> None:
    rows, confidence = upsampler.upsample(np.empty((0, 32), np.float32))
    assert (rows.shape, confidence.shape) == ((0, 1536), (0,))


def test_threads_do_not_disturb_each_other(upsampler: Upsampler, sample_projected: np.ndarray) -> None:
    expected, _ = upsampler.upsample(sample_projected[:64])
    with ThreadPoolExecutor(4) as pool:
        for rows, _ in pool.map(upsampler.upsample, [sample_projected[:64]] * 40):
            np.testing.assert_array_equal(rows, expected)


def test_loading_and_answering_needs_no_training_library(registry: Registry) -> None:
    program = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from embup_core.artifacts.registry import Registry\n"
        f"Registry(Path({str(registry.root)!r})).load().upsample(np.ones((2, 32), np.float32))\n"
        "found = {'torch', 'sklearn', 'scipy', 'matplotlib', 'dagster', 'litestar'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_rows_in_the_originals_basis_compare_with_originals_and_with_each_other(
    anchored_registry: Registry, anchored_source: AnchoredSource
) -> None:
    model, z = anchored_registry.load(), anchored_source.unseen_projected
    decoded, confidence = model.upsample(z)
    turned, same_confidence = model.upsample(z, basis="original")
    np.testing.assert_array_equal(confidence, same_confidence)
    np.testing.assert_allclose(np.linalg.norm(turned.astype(np.float64), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(turned @ turned.T, decoded @ decoded.T, atol=1e-5)
    own = np.vecdot(turned, anchored_source.unseen_originals)
    assert np.median(own) > 0.7
    assert np.median(np.vecdot(decoded, anchored_source.unseen_originals)) < 0.5
    assert model.upsample(np.empty((0, 16)), basis="original")[0].shape == (0, 100)


def test_a_file_has_the_basis_that_was_asked_for(
    anchored_registry: Registry, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    model, z = anchored_registry.load(), anchored_source.unseen_projected
    np.save(tmp_path / "in.npy", z)
    for basis in ("decoded", "original"):
        assert model.upsample_file(tmp_path / "in.npy", tmp_path / f"{basis}.npy", basis=basis).rows == 400
        expected, _ = model.upsample(z, basis=basis)
        np.testing.assert_allclose(np.load(tmp_path / f"{basis}.npy"), expected, atol=1e-6)


def test_without_anchors_the_remedy_says_how_to_get_some(upsampler: Upsampler, tmp_path: Path) -> None:
    z = np.ones((1, 32), np.float32)
    np.save(tmp_path / "in.npy", z)
    for ask in (
        lambda: upsampler.upsample(z, basis="original"),
        lambda: upsampler.upsample_file(tmp_path / "in.npy", tmp_path / "out.npy", basis="original"),
    ):
        with pytest.raises(InputError, match="embup anchors") as caught:
            ask()
        assert caught.value.code == "no_anchors"
    assert not (tmp_path / "out.npy").exists()
    assert upsampler.anchor_scores is None
    with pytest.raises(InvalidArgumentError, match="found 'openai'"):
        upsampler.upsample(z, basis="openai")  # type: ignore[arg-type]
