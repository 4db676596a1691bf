"""The upsampler takes any direction and refuses what has none."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from embup_core.errors import InputError
from embup_core.registry import Registry
from embup_core.upsampler import Upsampler


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
    ("value", "found"), [(0.0, "only zeros"), (np.nan, "a value that is not"), (np.inf, "not finite")]
)
def test_a_row_without_a_direction_is_named(upsampler: Upsampler, value: float, found: str) -> None:
    rows = np.full((3, 32), 0.1, np.float32)
    rows[1] = value
    with pytest.raises(InputError, match=f"row 1, found .*{found}"):
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
        "import sys, numpy as np; from pathlib import Path; from embup_core.registry import Registry\n"
        f"Registry(Path({str(registry.root)!r})).load().upsample(np.ones((2, 32), np.float32))\n"
        "found = {'torch', 'sklearn', 'scipy', 'matplotlib', 'dagster', 'litestar'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
