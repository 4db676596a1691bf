"""Small sources of landmark columns, with the originals that they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.sources.synthetic import SampleParameters, draw_originals, project

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class LandmarkFolder:
    """Where a source is, and what it was made of."""

    folder: Path
    originals: NDArray[np.float32]
    projected: NDArray[np.float32]
    rows: NDArray[np.int64]

    @property
    def cosines(self) -> Path:
        return self.folder / "landmark_cosines.npy"

    @property
    def landmark_rows(self) -> Path:
        return self.folder / "landmark_rows.npy"


def landmark_folder(
    folder: Path,
    *,
    rows: int,
    landmarks: int,
    dims: int,
    input_dims: int = 8,
    dtype: str = "float32",
    seed: int = 0,
) -> LandmarkFolder:
    """Draw originals as the sample's are, and write z and their cosines with random rows of them."""
    originals = draw_originals(SampleParameters(rows=rows, dims=dims))
    projected = project(originals, seed=0, dims=input_dims)
    chosen = np.random.default_rng(seed).permutation(rows)[:landmarks]  # in no order
    folder.mkdir(parents=True)
    np.save(folder / "projected_train_embs.npy", projected)
    np.save(folder / "landmark_cosines.npy", (originals @ originals[chosen].T).astype(dtype))
    np.save(folder / "landmark_rows.npy", chosen)
    return LandmarkFolder(folder, originals, projected, chosen)
