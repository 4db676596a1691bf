"""Rows that are copies of each other, or nearly, and those that stand in two usages at once.

Texts are compared after Unicode normalisation (NFKC), case folding and collapsing of white space; vectors by
cosine, with candidates from a search in 64 principal components that are verified in full. Sets are the
connected components of these pairs.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.debugging.features.neighbours import nearest_rows, principal_components, usable_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Indices = NDArray[np.int64]

COPY_COSINE: Final = 0.9999
NEAR_COSINE: Final = 0.98
LEAK_COSINE: Final = 0.95
"""A test row this near to a training row says little about rows that are new."""

_CANDIDATES = 20
_CANDIDATE_DIMS = 64
_BLOCK_PAIRS = 4096  # two blocks of 1536 dimensions take 50 MB
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class DuplicateSets:
    """Sets of rows; a row without a copy is a set of its own.

    Attributes
    ----------
    copies
        Number of each row's set of equal texts or equal vectors: int64, shape (n,).
    near
        The same with nearly equal vectors: int64, shape (n,).
    """

    copies: Indices
    near: Indices


def normalised(text: str) -> str:
    """A text as it is compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def duplicate_sets(
    n_rows: int,
    *,
    texts: Sequence[str] | None = None,
    text_vectors: Vectors | None = None,
    vectors: Vectors | None = None,
    near_cosine: float = NEAR_COSINE,
) -> DuplicateSets:
    """Find copies and near copies.

    Parameters
    ----------
    n_rows
        n.
    texts
        A text a row; empty texts are nobody's copies.
    text_vectors
        Features of the texts: float32, shape (n, d). They make near copies only, because texts
        that differ in a rare word have the same features.
    vectors
        Features that tell originals apart, not their short projections: float32, shape (n, d), rows of NaN or
        zeros where a row has none.
    near_cosine
        Least cosine of nearly equal vectors.
    """
    equal = [] if texts is None else [_equal_texts(texts)]
    near = list(equal)
    if vectors is not None:
        left, right, cosines = near_pairs(vectors, near_cosine)
        copies = cosines >= COPY_COSINE
        equal.append(np.stack([left[copies], right[copies]]))
        near.append(np.stack([left, right]))
    if text_vectors is not None:
        left, right, _ = near_pairs(text_vectors, near_cosine)
        near.append(np.stack([left, right]))
    return DuplicateSets(_components(n_rows, equal), _components(n_rows, near))


def near_pairs(vectors: Vectors, least_cosine: float) -> tuple[Indices, Indices, Vectors]:
    """Pairs of rows whose cosine is at least `least_cosine`, among the 20 nearest of each.

    Returns
    -------
    Rows of each pair, int64, and their cosine, float32: shape (m,) each. A pair may stand twice.
    """
    unit = _unit(vectors)
    points = principal_components(unit, _CANDIDATE_DIMS, centred=False)
    found = nearest_rows(points, _CANDIDATES)
    left = np.repeat(np.arange(len(vectors), dtype=np.int64), _CANDIDATES)
    right = found.rows.ravel()
    left, right = left[right >= 0], right[right >= 0]
    # Components cannot be farther apart than the rows: most candidates need no product in full.
    likely = _squared_distances(points, left, right) <= 2 * (1 - least_cosine) + _ROUNDING
    left, right = left[likely], right[likely]
    cosines = (1 - _squared_distances(unit, left, right) / 2).astype(np.float32)
    near = cosines >= least_cosine
    return left[near], right[near], cosines[near]


def members(sets: Indices) -> list[Indices]:
    """Rows of each set of two or more, the largest sets first: int64, sorted, each."""
    order = np.argsort(sets, kind="stable")
    starts = np.flatnonzero(np.diff(sets[order], prepend=-1))
    parts = [part for part in np.split(order, starts[1:]) if len(part) > 1]
    return sorted(parts, key=lambda part: (-len(part), int(part[0])))


def _unit(vectors: Vectors) -> Vectors:
    usable = usable_rows(vectors)
    unit = np.full(vectors.shape, np.nan, np.float32)
    unit[usable] = vectors[usable] / np.linalg.norm(vectors[usable], axis=1, keepdims=True)
    return unit


def _squared_distances(points: Vectors, left: Indices, right: Indices) -> NDArray[np.float32]:
    """Of pairs of rows, a block at a time: float32, shape (m,)."""
    squared = np.empty(len(left), np.float32)
    for block in row_blocks(len(left), _BLOCK_PAIRS):
        apart = points[left[block]] - points[right[block]]
        squared[block] = np.vecdot(apart, apart)
    return squared


def _equal_texts(texts: Sequence[str]) -> Indices:
    """Pairs of rows of one text: int64, shape (2, m)."""
    compared = [normalised(text) for text in texts]
    first: dict[str, int] = {}
    owner = np.array([first.setdefault(text, row) for row, text in enumerate(compared)], dtype=np.int64)
    copies = np.flatnonzero((owner != np.arange(len(owner))) & np.array([bool(text) for text in compared]))
    return np.stack([owner[copies], copies])


def _components(n_rows: int, pairs: Sequence[Indices]) -> Indices:
    """Number of each row's connected component: int64, shape (n,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = np.concatenate([np.empty((2, 0), np.int64), *pairs], axis=1)
    graph = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(n_rows, n_rows))
    _, numbers = connected_components(graph, directed=False)
    return np.asarray(numbers, dtype=np.int64)
