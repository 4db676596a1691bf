"""Nearest training rows of a query: the same ones whether it is asked alone or in a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Search: TypeAlias = Literal["exact", "fast"]

# faiss rounds distances otherwise than the sums below, and may do so differently for blocks and for single
# queries. Spare candidates, ranked again row by row, settle near ties at the last place the same way always.
_SPARE_EXACT = 8
# Distances between 4-bit codes are approximate: with this many candidates more than neighbours wanted, 99 in
# 100 neighbours are found on real rows, and those missed are among the farthest.
_SPARE_FAST = 24
_CODE_BITS = 4
_FEWEST_FAST = 1024  # with fewer rows a full search costs less than the codes


class NearestRows:
    """Nearest neighbours by Euclidean distance.

    Parameters
    ----------
    points
        float32, shape (n, d).
    search
        ``exact`` computes all distances in full. ``fast`` computes all of them on 4-bit codes, one a number,
        with the query's tables in processor registers (product quantisation with fast scan: André, Kermarrec
        & Le Scouarnec, 2015), and then those of the best candidates in full.
    """

    def __init__(self, points: NDArray[np.float32], search: Search = "exact") -> None:
        import faiss  # takes 0.1 s to import

        self.points = np.ascontiguousarray(points, dtype=np.float32)
        dims = self.points.shape[1]
        coded = search == "fast" and len(points) >= _FEWEST_FAST
        self._spare = _SPARE_FAST if coded else _SPARE_EXACT
        self._index = faiss.IndexPQFastScan(dims, dims, _CODE_BITS) if coded else faiss.IndexFlatL2(dims)
        if coded:
            self._index.train(self.points)
        self._index.add(self.points)

    def n_candidates(self, k: int) -> int:
        """How many candidates `candidates` finds for the k nearest."""
        return min(k + self._spare, len(self.points))

    def candidates(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Among which the k nearest points of each query are: int64, shape (n, n_candidates(k)), in order."""
        _, candidates = self._index.search(
            np.ascontiguousarray(queries, dtype=np.float32), self.n_candidates(k)
        )
        candidates.sort(axis=1)  # by row number, so that who ranks them settles ties by it
        found: NDArray[np.int64] = candidates
        return found

    def query(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """The k nearest points of each query, nearest first; ties in the order of the points.

        Parameters
        ----------
        queries
            float32, shape (n, d).
        k
            At most the number of points.

        Returns
        -------
        index
            int64, shape (n, k).
        offsets
            point - query: float32, shape (n, k, d).
        squared
            Squared distances: float32, shape (n, k).
        """
        candidates = self.candidates(queries, k)
        offsets = self.points[candidates]  # (n, candidates, d)
        offsets -= queries[:, None, :]
        squared = np.einsum("nkd,nkd->nk", offsets, offsets)  # (n, candidates)
        nearest = np.argsort(squared, axis=1, kind="stable")[:, :k]  # (n, k), places among the candidates
        row = np.arange(len(queries))[:, None]  # (n, 1); take_along_axis would build it three times
        return candidates[row, nearest], offsets[row, nearest], squared[row, nearest]
