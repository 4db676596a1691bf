"""Nearest training rows of a query, the same ones whether it comes alone or among many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# faiss picks another inner loop for blocks than for single queries, so a near tie at the last place may fall
# either way. Asking for a few more and ranking them again row by row makes the answer the same in any block.
_SPARE = 8


class NearestRows:
    """Exact nearest neighbours by Euclidean distance.

    Parameters
    ----------
    points
        float32, shape (n, d).
    """

    def __init__(self, points: NDArray[np.float32]) -> None:
        self.points = np.ascontiguousarray(points, dtype=np.float32)
        self._index = faiss.IndexFlatL2(self.points.shape[1])
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
        n_candidates = min(k + _SPARE, len(self.points))
        _, candidates = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), n_candidates)
        candidates.sort(axis=1)
        offsets = self.points[candidates] - queries[:, None, :]  # (n, candidates, d)
        squared = np.einsum("nkd,nkd->nk", offsets, offsets)
        nearest = np.argsort(squared, axis=1, kind="stable")[:, :k]
        return (
            np.take_along_axis(candidates, nearest, axis=1),
            np.take_along_axis(offsets, nearest[:, :, None], axis=1),
            np.take_along_axis(squared, nearest, axis=1),
        )
