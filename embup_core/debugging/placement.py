"""A place on a plane for each row, such that near rows are alike.

t-SNE (van der Maaten & Hinton, 2008) by openTSNE (Linderman et al., 2019; Policar, Strazar & Zupan, 2024),
where that is installed, else the first two principal components. Near places mean something, far ones do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.debugging.features.neighbours import centred_units, principal_components, usable_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

ITERATIONS: Final = 250
MOST_PLACED: Final = 100_000
"""Rows that t-SNE places; each further row is put among those of its nearest ones."""

_DIMS = 50
_NEAREST = 10
_PERPLEXITY = 30


@dataclass(frozen=True, eq=False)
class Places:
    """Where rows are on the map.

    Attributes
    ----------
    positions
        float32, shape (n, 2); NaN where a row has no vector.
    note
        How they were made, in a sentence.
    """

    positions: Vectors
    note: str


def place_rows(vectors: Vectors, *, seed: int = 0) -> Places | None:
    """Place rows on a plane; the same rows get the same places.

    Parameters
    ----------
    vectors
        float32, shape (n, d), rows of NaN or zeros where a row has none.
    seed
        Of t-SNE.

    Returns
    -------
    None where fewer than three rows have a vector.
    """
    points = principal_components(centred_units(vectors), _DIMS, seed=seed)
    rows = np.flatnonzero(usable_rows(points))
    if len(rows) < 3:
        return None
    if points.shape[1] < 2:
        points = np.concatenate([points, np.zeros_like(points)], axis=1)
    positions = np.full((len(vectors), 2), np.nan, np.float32)
    try:
        import openTSNE  # noqa: F401
    except ModuleNotFoundError:
        positions[rows] = points[rows, :2]
        return Places(
            positions,
            "The first two principal components: openTSNE, which keeps neighbourhoods, is not installed.",
        )
    placed = rows
    if len(rows) > MOST_PLACED:
        placed = np.sort(np.random.default_rng(seed).choice(rows, MOST_PLACED, replace=False))
    positions[placed] = _t_sne(points[placed], seed)
    others = np.setdiff1d(rows, placed)
    if len(others):
        positions[others] = _among_nearest(points, positions, placed, others)
    note = f"t-SNE of {len(placed):,} rows, {ITERATIONS} iterations"
    return Places(
        positions, f"{note}; the others lie among those of their nearest." if len(others) else f"{note}."
    )


def _t_sne(points: Vectors, seed: int) -> Vectors:
    from openTSNE import TSNE

    model = TSNE(
        n_iter=ITERATIONS,
        perplexity=min(_PERPLEXITY, (len(points) - 1) / 3),
        initialization="pca",
        n_jobs=-1,
        random_state=seed % 2**32,
    )
    return np.asarray(model.fit(np.asarray(points, dtype=np.float64)), dtype=np.float32)


def _among_nearest(
    points: Vectors, positions: Vectors, placed: NDArray[np.int64], others: NDArray[np.int64]
) -> Vectors:
    """Median place of the 10 nearest rows that have one: float32, shape (m, 2)."""
    import faiss

    index = faiss.IndexFlatL2(points.shape[1])
    index.add(np.ascontiguousarray(points[placed]))
    _, nearest = index.search(np.ascontiguousarray(points[others]), _NEAREST)
    return np.asarray(np.median(positions[placed[nearest]], axis=1), dtype=np.float32)
