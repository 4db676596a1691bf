"""Expected errors of a decoded row and of a decoded cosine, fitted to rows held out of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.decoders.base import require_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_PAIRS = 30_000
_ROUNDS = 5


@dataclass(frozen=True)
class DecodedRows:
    """Rows held out of a fit, decoded by it.

    Attributes
    ----------
    mean, complement
        The two parts of decoded rows: float32, shapes (n, d) and (n, output_dims - d).
    ood_score
        float32, shape (n,).
    coordinates
        True principal coordinates: float32, shape (n, r) with r >= d.
    """

    mean: NDArray[np.float32]
    complement: NDArray[np.float32]
    ood_score: NDArray[np.float32]
    coordinates: NDArray[np.float32]


@dataclass(frozen=True)
class ErrorModel:
    """Squared errors as sums of few terms, each with a non-negative factor.

    Attributes
    ----------
    row
        E|c - mu|^2 = s^2 (row[0] + row[1] a), with s^2 the unexplained share of the squared length and a the
        out-of-distribution score: float64, shape (2,).
    cosine
        E(error of a cosine)^2 = cosine . [v + v', v v', (r.r')^2], with v, v' the rows' expected squared
        errors and r.r' what their complements add to the cosine: float64, shape (3,). The first term is the
        error of one row seen from the mean of the other, the second that of both, the third that of near
        rows, which share a complement.
    """

    row: NDArray[np.float64]
    cosine: NDArray[np.float64]

    @classmethod
    def fit(cls, decoded: Sequence[DecodedRows], weights: Sequence[int], *, seed: int) -> Self:
        """Fit to held-out rows.

        Parameters
        ----------
        decoded
            Groups of rows; pairs are drawn within each.
        weights
            How often each group counts.
        seed
            Of the pairs.
        """
        unexplained = [  # s^2 of each row: (n,) a group
            np.maximum(1 - np.vecdot(rows.mean, rows.mean), 1e-6).astype(float) for rows in decoded
        ]
        # |c - mu|^2 = |c|^2 + |mu|^2 - 2 mu.c with |c| = 1; mu is 0 beyond the leading d coordinates
        squared = [
            np.maximum(1 + np.vecdot(rows.mean, rows.mean) - 2 * np.vecdot(rows.mean, _leading(rows)), 0)
            for rows in decoded
        ]
        row = _non_negative_factors(
            np.concatenate(
                [
                    np.tile(np.stack([share, share * rows.ood_score], axis=1), (weight, 1))
                    for share, rows, weight in zip(unexplained, decoded, weights, strict=True)
                ]
            ),  # (weighted rows, 2)
            np.concatenate([np.tile(one, weight) for one, weight in zip(squared, weights, strict=True)]),
        )
        rng = np.random.default_rng(seed)
        terms, errors = [], []
        for rows, share, weight in zip(decoded, unexplained, weights, strict=True):
            variance = np.clip(share * (row[0] + row[1] * rows.ood_score), 1e-6, 1)  # (n,)
            n = len(variance)
            i, j = rng.integers(0, n, (2, weight * min(_PAIRS, n * n)))
            i, j = i[i != j], j[i != j]  # (pairs,)
            shared = _dots(rows.complement, i, j)
            errors.append(np.square(_dots(rows.mean, i, j) + shared - _dots(rows.coordinates, i, j)))
            columns = [variance[i] + variance[j], variance[i] * variance[j], np.square(shared)]
            terms.append(np.stack(columns, axis=1))  # (pairs, 3)
        return cls(row, _non_negative_factors(np.concatenate(terms), np.concatenate(errors)))

    def confidence(
        self, explained: NDArray[np.float32], ood_score: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """1 - E|c - mu|^2, from 0 to 1: float32, shape (n,).

        Parameters
        ----------
        explained
            |mu|^2: float32, shape (n,).
        ood_score
            float32, shape (n,).
        """
        in_distribution, out_of_distribution = self.row.astype(np.float32)
        expected = 1 - (1 - explained) * (in_distribution + out_of_distribution * ood_score)
        clipped: NDArray[np.float32] = np.minimum(np.maximum(expected, 0), 1)
        return clipped

    def cosine_standard_error(
        self,
        complement: NDArray[np.float32],
        confidence: NDArray[np.float32],
        other_complement: NDArray[np.float32],
        other_confidence: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Standard errors of the cosines between decoded rows: float32, shape (n, m).

        Parameters
        ----------
        complement, other_complement
            Last columns of decoded rows: float32, shapes (n, output_dims - d) and (m, output_dims - d).
        confidence, other_confidence
            float32, shapes (n,) and (m,).
        """
        one, both, shared = self.cosine.astype(np.float32)
        variance, other = (1 - confidence)[:, None], (1 - other_confidence)[None, :]  # (n, 1), (1, m)
        squared: NDArray[np.float32] = np.square(complement @ other_complement.T)  # (n, m)
        squared *= shared
        squared += one * (variance + other) + both * variance * other
        return np.sqrt(squared, out=squared)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays: ``row_error`` and ``cosine_error``."""
        return {"row_error": self.row, "cosine_error": self.cosine}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; ValueError where shapes or numbers do not fit."""
        row, cosine = require_shape(arrays, "row_error", 2), require_shape(arrays, "cosine_error", 3)
        if min(row.min(), cosine.min()) < 0:
            raise ValueError(
                "tensors row_error and cosine_error: expected numbers of at least 0, found "
                f"{row.tolist()} and {cosine.tolist()}"
            )
        return cls(row, cosine)


def _leading(rows: DecodedRows) -> NDArray[np.float32]:
    return rows.coordinates[:, : rows.mean.shape[1]]


def _non_negative_factors(
    terms: NDArray[np.float64], squared_errors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Factors >= 0 such that terms @ factors predict the squared errors: float64, shape (n_terms,).

    A squared normal error has twice its squared mean as variance. So each error is measured in units of its
    prediction, which is refined a few times (iteratively reweighted least squares, here non-negative: Lawson
    & Hanson, 1974).
    """
    from scipy.optimize import nnls

    predicted = np.full(len(terms), max(float(squared_errors.mean()), 1e-12))
    factors = np.zeros(terms.shape[1])
    for _ in range(_ROUNDS):
        scaled = terms / predicted[:, None]  # (n, n_terms)
        # With scaled = QR, |scaled f - b| and |R f - Q'b| differ by a constant: nnls then has n_terms
        # equations instead of n, and they are as well conditioned.
        orthonormal, triangle = np.linalg.qr(scaled)
        factors, _ = nnls(triangle, orthonormal.T @ (squared_errors / predicted))
        predicted = np.maximum(terms @ factors, predicted.mean() * 1e-3)
    return factors


def _dots(
    rows: NDArray[np.float32], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Dot products of pairs of rows, a block at a time: float64, shape (pairs,)."""
    found = np.empty(len(left))
    for block in row_blocks(len(left), 8192):
        found[block] = np.vecdot(rows[left[block]], rows[right[block]])
    return found
