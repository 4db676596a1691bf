"""The originals' own basis, from originals that are known: anchors.

Decoded vectors are right up to one rotation: cosines among them are those of the originals, cosines with a
fresh original are not. With m anchors, the rotation of the regression's leading dimensions is an orthogonal
Procrustes problem (Schoenemann, 1966): R = U V^T of the singular value decomposition of M^T X, where M are
the anchors in the regression's dimensions and X the anchors themselves.

The complement of a decoded vector (`embup_core.decoders.parts.complement`) is rotated along, into the
dimensions that R leaves. So rows stay unit vectors, and their cosines with each other stay what they were;
with fresh originals the complement adds a little noise. Without it a row would be shorter than 1, and an
index that makes its rows unit would blow it up: on ada-002 R2 falls from 0.77 to -3.7, recall@10 from 0.60 to
0.54, where the complement costs 0.01 of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from embup_core.decoders.base import unit_rows
from embup_core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST_ANCHORS: Final = 50
"""Fewer fix too few of the dimensions, and leave too few to hold out."""

UNIT_TOLERANCE: Final = 1e-3
ORTHONORMAL_TOLERANCE: Final = 1e-4
_SPARE_ANCHORS: Final = 1.05
_LEAST_SINGULAR_VALUE: Final = 1e-6


def anchors_for_projection(output_dims: int) -> int:
    """How many anchors fix the map from originals of so many dimensions to z.

    Each anchor gives the direction of one z, and each number of z costs output_dims + 1 unknowns; measured on
    ada-002, 1,600 anchors predict unseen rows within 3e-3 radians, 1,650 within 1e-4, and 1,550 within 0.03.
    """
    return math.ceil(_SPARE_ANCHORS * (output_dims + 1))


@dataclass(frozen=True)
class AnchorScores:
    """How well cosines between fresh originals and decoded rows agree with the originals' own.

    Anchors are held out in turn: a rotation is fitted to four fifths of them, and the others are the fresh
    originals.

    Attributes
    ----------
    anchors
        How many there are.
    documents
        Decoded rows that each fresh original is compared with.
    r2
        Of these cosines: 1 - mean square error / variance of the true cosines.
    recall_at_10
        Share of the 10 true nearest of these rows that are retrieved; None where there are too few rows.
    """

    anchors: int
    documents: int
    r2: float
    recall_at_10: float | None


def fit_rotation(means: NDArray[np.float32], originals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fit the rotation of the regression's dimensions into those of the originals.

    Parameters
    ----------
    means
        Anchors in the regression's dimensions: their leading principal coordinates, or the leading part of
        their decoded rows. float32, shape (m, d).
    originals
        The anchors: float32, shape (m, D) with D >= d, unit rows.

    Returns
    -------
    rotation
        float32, shape (d, D), orthonormal rows. Dimensions that fewer than d anchors leave open are filled
        with some that are orthogonal to all others.

    Raises
    ------
    InvalidArgumentError
        Other shapes, fewer than `FEWEST_ANCHORS` rows, or originals that are not unit rows.
    """
    require_anchors(means, originals)
    return procrustes(means, originals)


def procrustes(means: NDArray[np.float32], originals: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rotation of any number of rows, unchecked; parameters and answer are those of `fit_rotation`."""
    products = means.T.astype(np.float64) @ originals  # (d, D)
    left, _, right = np.linalg.svd(products, full_matrices=False)  # (d, d), (d, D)
    rotation: NDArray[np.float32] = (left @ right).astype(np.float32)
    return rotation


def require_anchors(means: NDArray[np.float32], originals: NDArray[np.float32]) -> None:
    """Check the arguments of `fit_rotation`; raises as it does."""
    if originals.ndim != 2 or means.ndim != 2 or len(means) != len(originals):
        raise InvalidArgumentError(
            f"Expected an original for each anchor, found arrays of shapes {means.shape} and "
            f"{originals.shape}.",
            remedy="Give (m, d) rows and (m, D) originals, in the same order.",
        )
    if len(originals) < FEWEST_ANCHORS:
        raise InvalidArgumentError(
            f"Expected at least {FEWEST_ANCHORS} anchors, found {len(originals)}.",
            remedy="Embed more of the texts again; some hundred are enough.",
        )
    if means.shape[1] > originals.shape[1]:
        raise InvalidArgumentError(
            f"Expected originals of at least {means.shape[1]} dimensions, found {originals.shape[1]}.",
            remedy="Give the originals whole.",
        )
    lengths = np.sqrt(np.square(originals, dtype=np.float64).sum(axis=1))
    off = ~(np.abs(lengths - 1) <= UNIT_TOLERANCE)  # NaN compares false
    if off.any():
        row = int(off.argmax())
        raise InvalidArgumentError(
            f"Expected unit rows, found length {lengths[row]:.6g} in row {row} of the originals "
            f"({int(off.sum())} of {len(originals)} rows are off).",
            remedy="Divide each row by its length.",
        )


@dataclass(frozen=True)
class OriginalBasis:
    """Takes decoded rows into the originals' basis: an orthogonal map of all their dimensions.

    It maps the first d axes to the rows of `rotation`, and moves no direction that is orthogonal to both.
    With E the first d rows of the identity and K = E - R it is H = I - K^T (I - E R^T)^-1 K, a Householder
    reflection of whole subspaces (Sun & Bischof, 1995): for one row two products of D x d, where the matrix
    itself would take one of D x D.

    Attributes
    ----------
    rotation
        R: float32, shape (d, D), orthonormal rows.
    """

    rotation: NDArray[np.float32]
    _into: NDArray[np.float32]  # K^T, (D, d)
    _back: NDArray[np.float32]  # (I - E R^T)^-1 K, (d, D)

    @classmethod
    def from_rotation(cls, rotation: NDArray[np.float32]) -> Self:
        """Prepare the products.

        Parameters
        ----------
        rotation
            From `fit_rotation`.

        Raises
        ------
        InvalidArgumentError
            Its rows are not orthonormal.
        """
        d, dims = rotation.shape
        exact = rotation.astype(np.float64)
        off = np.abs(exact @ exact.T - np.eye(d)).max() if d <= dims else np.inf
        if not off <= ORTHONORMAL_TOLERANCE:  # NaN compares false
            raise InvalidArgumentError(
                f"Expected a rotation of orthonormal rows, found shape {rotation.shape} and products off "
                f"by {off:.1e}.",
                remedy="Fit it again.",
            )
        difference = np.eye(d, dims) - exact  # K, (d, D)
        # A direction that R leaves where it is has no difference either: its singular value is not inverted.
        inverse = np.linalg.pinv(np.eye(d) - exact[:, :d].T, rcond=_LEAST_SINGULAR_VALUE)
        return cls(
            rotation,
            np.ascontiguousarray(difference.T, np.float32),
            np.ascontiguousarray(inverse @ difference, np.float32),
        )

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Decoded rows in the originals' basis: float32 (n, D), unit rows, C-contiguous."""
        turned = rows.copy()
        turned -= (rows @ self._into) @ self._back
        return unit_rows(turned)
