"""How wrong a decoded row and a decoded cosine may be, fitted to rows that were left out of a fit."""

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
    """Rows that one fit had not seen, decoded by it.

    Attributes
    ----------
    mean, residual
        The two parts of decoded rows: float32, shapes (n, d) and (n, 1536 - d).
    novelty
        float32, shape (n,).
    coordinates
        True principal coordinates: float32, shape (n, r) with r >= d.
    """

    mean: NDArray[np.float32]
    residual: NDArray[np.float32]
    novelty: NDArray[np.float32]
    coordinates: NDArray[np.float32]


@dataclass(frozen=True)
class Uncertainty:
    """Squared errors as sums of few terms, each with a factor that is not negative.

    Attributes
    ----------
    row
        E|c - mu|^2 = s^2 (row[0] + row[1] a), with s^2 the unexplained share and a the novelty: shape (2,).
    cosine
        E(error of a cosine)^2 = cosine . [v + v', v v', (r.r')^2], with v, v' the rows' squared errors and
        r.r' what their residuals add to the cosine: shape (3,). The first term is the error of one row seen
        from the mean of the other, the second that of both, the third what pairs of near rows may be off.
    """

    row: NDArray[np.float64]
    cosine: NDArray[np.float64]

    @classmethod
    def fit(cls, decoded: Sequence[DecodedRows], counts: Sequence[int], *, seed: int) -> Self:
        """Fit to unseen rows.

        Parameters
        ----------
        decoded
            Groups of rows; pairs are made within each.
        counts
            How many times as many pairs to take from each group.
        seed
            Of the pairs.
        """
        unexplained = [
            np.maximum(1 - np.vecdot(rows.mean, rows.mean), 1e-6).astype(float) for rows in decoded
        ]
        squared = [
            np.maximum(1 + np.vecdot(rows.mean, rows.mean) - 2 * np.vecdot(rows.mean, _leading(rows)), 0)
            for rows in decoded
        ]
        row = _factors(
            np.concatenate(
                [
                    np.tile(np.stack([left, left * rows.novelty], axis=1), (count, 1))
                    for left, rows, count in zip(unexplained, decoded, counts, strict=True)
                ]
            ),
            np.concatenate([np.tile(one, count) for one, count in zip(squared, counts, strict=True)]),
        )
        rng = np.random.default_rng(seed)
        terms, errors = [], []
        for rows, left, count in zip(decoded, unexplained, counts, strict=True):
            variance = np.clip(left * (row[0] + row[1] * rows.novelty), 1e-6, 1)
            n = len(variance)
            i, j = rng.integers(0, n, (2, count * min(_PAIRS, n * n)))
            i, j = i[i != j], j[i != j]
            shared = _dots(rows.residual, i, j)
            errors.append(np.square(_dots(rows.mean, i, j) + shared - _dots(rows.coordinates, i, j)))
            both = [variance[i] + variance[j], variance[i] * variance[j], np.square(shared)]
            terms.append(np.stack(both, axis=1))
        return cls(row, _factors(np.concatenate(terms), np.concatenate(errors)))

    def confidence(self, explained: NDArray[np.float32], novelty: NDArray[np.float32]) -> NDArray[np.float32]:
        """1 - E|c - mu|^2, between 0 and 1: float32, shape (n,).

        Parameters
        ----------
        explained
            |mu|^2: float32, shape (n,).
        novelty
            float32, shape (n,).
        """
        known, new = self.row.astype(np.float32)
        known_share = 1 - (1 - explained) * (known + new * novelty)
        confident: NDArray[np.float32] = np.minimum(np.maximum(known_share, 0), 1)
        return confident

    def cosine_standard_error(
        self,
        residual: NDArray[np.float32],
        confidence: NDArray[np.float32],
        other_residual: NDArray[np.float32],
        other_confidence: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Standard errors of the cosines between decoded rows: float32, shape (n, m).

        Parameters
        ----------
        residual, other_residual
            Last columns of decoded rows: float32, shapes (n, 1536 - d) and (m, 1536 - d).
        confidence, other_confidence
            float32, shapes (n,) and (m,).
        """
        one, both, shared = self.cosine.astype(np.float32)
        variance, other = (1 - confidence)[:, None], (1 - other_confidence)[None, :]
        squared: NDArray[np.float32] = np.square(residual @ other_residual.T)
        squared *= shared
        squared += one * (variance + other) + both * variance * other
        return np.sqrt(squared, out=squared)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was fitted: ``row_error`` and ``cosine_error``."""
        return {"row_error": self.row, "cosine_error": self.cosine}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up what `arrays` gave; ValueError where shapes or numbers do not fit."""
        row, cosine = require_shape(arrays, "row_error", 2), require_shape(arrays, "cosine_error", 3)
        if min(row.min(), cosine.min()) < 0:
            raise ValueError(
                "tensors row_error and cosine_error: expected numbers of at least 0, found "
                f"{row.tolist()} and {cosine.tolist()}"
            )
        return cls(row, cosine)


def _leading(rows: DecodedRows) -> NDArray[np.float32]:
    return rows.coordinates[:, : rows.mean.shape[1]]


def _factors(terms: NDArray[np.float64], squared_errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors >= 0 with terms @ factors close to the squared errors, each error in units of its prediction.

    Least squares in units of the prediction is what a squared normal error asks for (its variance is twice
    its squared mean); the prediction is refined a few times (iteratively reweighted least squares).
    """
    from scipy.optimize import nnls

    predicted = np.full(len(terms), max(float(squared_errors.mean()), 1e-12))
    factors = np.zeros(terms.shape[1])
    for _ in range(_ROUNDS):
        scaled = terms / predicted[:, None]
        orthonormal, triangle = np.linalg.qr(scaled)  # nnls of few equations, as well conditioned as of all
        factors, _ = nnls(triangle, orthonormal.T @ (squared_errors / predicted))
        predicted = np.maximum(terms @ factors, predicted.mean() * 1e-3)
    return factors


def _dots(
    rows: NDArray[np.float32], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float64]:
    found = np.empty(len(left))
    for block in row_blocks(len(left), 8192):
        found[block] = np.vecdot(rows[left[block]], rows[right[block]])
    return found
