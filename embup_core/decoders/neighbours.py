"""Nearest training rows of a query, the same ones whether it comes alone or among many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import faiss
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Search: TypeAlias = Literal["exact", "fast"]

# faiss picks another inner loop for blocks than for single queries, so a near tie at the last place may fall
# either way. Asking for a few more and ranking them again row by row makes the answer the same in any block.
_SPARE_EXACT = 8
# Distances between 4-bit codes are off by a little: with this many candidates more than neighbours asked for,
# 99 in 100 of them are found on real rows, and those that are not are among the last.
_SPARE_FAST = 24
_CODE_BITS = 4
_FEWEST_FAST = 1024  # below, looking at all rows costs less than the codes


class NearestRows:
    """Nearest neighbours by Euclidean distance.

    Parameters
    ----------
    points
        float32, shape (n, d).
    search
        ``exact`` looks at all points in full. ``fast`` looks at all of them in 4-bit codes, one a number,
        with the tables of one query in processor registers (product quantisation with fast scan: André,
        Kermarrec & Le Scouarnec, 2015), and then at the best candidates in full.
    """

    def __init__(self, points: NDArray[np.float32], search: Search = "exact") -> None:
        self.points = np.ascontiguousarray(points, dtype=np.float32)
        dims = self.points.shape[1]
        coded = search == "fast" and len(points) >= _FEWEST_FAST
        self._spare = _SPARE_FAST if coded else _SPARE_EXACT
        self._index = faiss.IndexPQFastScan(dims, dims, _CODE_BITS) if coded else faiss.IndexFlatL2(dims)
        if coded:
            self._index.train(self.points)
        self._index.add(self.points)

    def query(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """The k nearest points of each query, nearest first; ties in the order of the points.

        Parameters
        ----------
        queries
            float32, shape (n, d).
        k
            How many; at most the number of points.

        Returns
        -------
        index
            int64, shape (n, k).
        offsets
            point - query: float32, shape (n, k, d).
        squared
            Squared distances: float32, shape (n, k).
        """
        n_candidates = min(k + self._spare, len(self.points))
        _, candidates = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), n_candidates)
        candidates.sort(axis=1)
        offsets = self.points[candidates]  # (n, candidates, d)
        offsets -= queries[:, None, :]
        squared = np.einsum("nkd,nkd->nk", offsets, offsets)
        nearest = np.argsort(squared, axis=1, kind="stable")[:, :k]
        row = np.arange(len(queries))[:, None]  # take_along_axis makes it again for each of the three
        return candidates[row, nearest], offsets[row, nearest], squared[row, nearest]
