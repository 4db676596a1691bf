"""Rows that are near each other by cosine, found by faiss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.debugging.analysis import Neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Mask = NDArray[np.bool_]

EXACT_ROWS: Final = 50_000
"""Up to so many rows all pairs are compared; beyond, by an inverted file (Sivic & Zisserman, 2003)."""

_PROBES = 32
_LISTS_PER_ROOT = 4


def usable_rows(vectors: NDArray[np.floating]) -> Mask:
    """Rows that are vectors at all, neither NaN nor zero: bool, shape (n,)."""
    squared = np.vecdot(vectors, vectors)
    return np.asarray(np.isfinite(squared) & (squared > 0))


def centred_units(vectors: NDArray[np.floating]) -> Vectors:
    """Unit rows around the mean of the usable rows.

    Embeddings often lie in a narrow cone, where all cosines are alike; around their mean they are spread out
    (Mu & Viswanath, 2018).

    Parameters
    ----------
    vectors
        Shape (n, d).

    Returns
    -------
    float32, shape (n, d); rows of NaN where a row is not usable, or equals the mean.
    """
    usable = usable_rows(vectors)
    centred = np.full(vectors.shape, np.nan, np.float32)
    if usable.any():
        rows = vectors[usable].astype(np.float32)
        rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        centred[usable] = np.divide(rows, lengths, out=np.full_like(rows, np.nan), where=lengths > 1e-6)
    return centred


def principal_components(
    vectors: NDArray[np.floating], dims: int, *, centred: bool = True, seed: int = 0
) -> Vectors:
    """Leading principal components of the usable rows, axes by at most 10,000 of them.

    Parameters
    ----------
    vectors
        Shape (n, d).
    dims
        At most this many.
    centred
        Around the mean; else around zero, which keeps cosines about as they are.
    seed
        Which rows make the axes.

    Returns
    -------
    float32, shape (n, min(dims, d)); rows of NaN where a row is not usable. The largest entry of each axis is
    positive, so the same rows give the same components.
    """
    usable = np.flatnonzero(usable_rows(vectors))
    components = np.full((len(vectors), min(dims, vectors.shape[1])), np.nan, np.float32)
    if not len(usable):
        return components
    sample = np.sort(np.random.default_rng(seed).permutation(usable)[:10_000])
    rows = vectors[sample].astype(np.float64)
    mean = rows.mean(axis=0) * centred
    rows -= mean
    _, axes = np.linalg.eigh(rows.T @ rows)  # (d, d), the largest last
    axes = axes[:, ::-1][:, : components.shape[1]]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    components[usable] = vectors[usable].astype(np.float32) @ axes.astype(np.float32)
    components[usable] -= (mean @ axes).astype(np.float32)
    return components


def nearest_rows(vectors: Vectors, k: int, *, among: Mask | None = None) -> Neighbours:
    """The k rows of largest cosine with each row, but itself.

    Parameters
    ----------
    vectors
        float32, shape (n, d): any length; rows of NaN or zeros have no neighbours and are nobody's.
    k
        How many.
    among
        Rows that may be neighbours: bool, shape (n,); all by default.

    Returns
    -------
    Neighbours of shape (n, k). Equal cosines come in the order of the rows.
    """
    import faiss

    usable = usable_rows(vectors)
    unit = np.zeros(vectors.shape, np.float32)
    unit[usable] = vectors[usable] / np.linalg.norm(vectors[usable], axis=1, keepdims=True)
    candidates = np.flatnonzero(usable if among is None else usable & among)
    queries = np.flatnonzero(usable)
    rows = np.full((len(vectors), k), -1, np.int64)
    cosines = np.full((len(vectors), k), np.nan, np.float32)
    if not len(candidates):
        return Neighbours(rows, cosines)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    index: Any = flat
    if len(candidates) > EXACT_ROWS:
        lists = int(_LISTS_PER_ROOT * np.sqrt(len(candidates)))
        index = faiss.IndexIVFFlat(flat, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        index.train(unit[candidates])
        index.nprobe = _PROBES
    index.add(unit[candidates])
    found, places = index.search(unit[queries], min(k + 1, len(candidates)))
    numbers = np.where(places >= 0, candidates[places], -1)
    # Itself, and what a list of the inverted file had not, go to the end.
    found = np.where((numbers == queries[:, None]) | (numbers < 0), -np.inf, found)
    order = np.lexsort((numbers, -found), axis=1)[:, :k]
    numbers, found = (np.take_along_axis(values, order, axis=1) for values in (numbers, found))
    held = np.isfinite(found)
    rows[queries, : order.shape[1]] = np.where(held, numbers, -1)
    cosines[queries, : order.shape[1]] = np.where(held, found, np.nan)
    return Neighbours(rows, cosines)
