"""A decoder fitted on a part of the sample, and a small pair of predicted and true cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.decoders.kriging.kriging import Kriging
from embup_core.training.split import RowSplit, split_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.fixture(scope="session")
def split() -> RowSplit:
    return split_rows(600)


@pytest.fixture(scope="session")
def decoder(
    split: RowSplit, sample_projected: NDArray[np.float32], sample_coordinates: NDArray[np.float32]
) -> Kriging:
    return Kriging().fit(sample_projected[split.fit_rows], sample_coordinates[split.fit_rows])


def noisy_cosines(rows: int, dims: int = 8) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predicted and true cosines between random rows, and the rows moved a little."""
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, dims))
    y = x + 0.5 * rng.standard_normal((rows, dims))
    x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    return (y @ y.T).astype(np.float32), (x @ x.T).astype(np.float32)
