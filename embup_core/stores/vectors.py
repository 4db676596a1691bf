"""Which numbers of a decoded row are stored, and which vector is searched with for them.

All products are scalar products. Of a fresh original q, whose rotation into the regression's axes is R q, the
best prediction of its cosine with a row is mu . R q, where mu is the row's regression. A whole decoded row in
the decoder's basis has mu in front: the query is R q, filled up with zeros, and the complement adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.errors import InvalidArgumentError
from embup_core.stores.store import Dtype, Space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.upsampler import Basis, Upsampler


@dataclass(frozen=True)
class StoredRows:
    """Decodes rows as they are stored; for the batch engine, with the confidence as one more number.

    Attributes
    ----------
    upsampler
        The decoder.
    space
        What is stored.
    """

    upsampler: Upsampler
    space: Space

    @staticmethod
    def from_request(upsampler: Upsampler, *, basis: Basis, dims: int | str, dtype: Dtype) -> StoredRows:
        """Check what is asked for.

        Parameters
        ----------
        upsampler
            The decoder.
        basis
            Axes of the vectors.
        dims
            "all"; "mean", the regression without the complement; or how many leading dimensions.
        dtype
            Of the stored numbers.

        Raises
        ------
        InvalidArgumentError
            There are no such dimensions.
        NoAnchorsError
            The basis "original" of a version without anchors.
        """
        upsampler.require_basis(basis)
        whole, mean = upsampler.output_dims, upsampler.mean_dims

        def stored(part: str, count: int) -> StoredRows:
            return StoredRows(upsampler, Space(basis, basis_id_of(upsampler), part, count, whole, dtype))

        if dims == "all":
            return stored("all", whole)
        if dims == "mean":
            if mean is None:
                raise InvalidArgumentError(
                    f"Expected a decoder with a regression part, found one without in {upsampler.version}.",
                    remedy="Export all dimensions, or with another decoder.",
                )
            return stored("mean", mean if basis == "decoded" else whole)
        if not isinstance(dims, int) or not 1 <= dims <= whole:
            raise InvalidArgumentError(
                f"dims: expected all, mean, or a number from 1 to {whole}, found {dims}.",
                remedy="Give one of them.",
            )
        if basis == "original":
            raise InvalidArgumentError(
                "Leading dimensions mean nothing in the originals' basis, whose axes are in no order.",
                remedy="Export the basis decoded, which fresh originals can search as well, or --dims mean.",
            )
        return stored("leading", dims)

    @property
    def version(self) -> str:
        """Of the decoder."""
        return self.upsampler.version

    @property
    def input_dims(self) -> int:
        """Numbers of a short row."""
        return self.upsampler.input_dims

    @property
    def output_dims(self) -> int:
        """Numbers of a stored row, and its confidence."""
        return self.space.dims + 1

    def upsample(self, z: NDArray[np.float32], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Stored rows and confidence in one array: float32, shape (n, dims + 1); and the confidence again."""
        rows, confidence = decoded_part(self.upsampler, self.space, z)
        return np.column_stack([rows, confidence]), confidence


def basis_difference(space: Space, upsampler: Upsampler) -> str:
    """What was expected and found, where vectors of a space cannot be compared with those of a decoder."""
    expected = basis_id_of(upsampler), upsampler.output_dims
    found = space.basis_id, space.output_dims
    if expected == found:
        return ""
    return (
        f"expected the basis {expected[0]} and {expected[1]} dimensions of {upsampler.version}, found "
        f"{found[0]} and {found[1]}"
    )


def basis_id_of(upsampler: Upsampler) -> str:
    """The id of a decoder's basis; of one that has none, its version, which alone shares its axes."""
    return upsampler.basis_id or f"version {upsampler.version}"


def decoded_part(
    upsampler: Upsampler, space: Space, z: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decode rows as they are stored in a space: float32, shape (n, space.dims); and their confidence."""
    if space.part == "mean" and space.basis == "original":
        rows, confidence = upsampler.upsample(z)
        rotation = upsampler.anchor_rotation()
        return rows[:, : len(rotation)] @ rotation, confidence  # (n, d) @ (d, D)
    rows, confidence = upsampler.upsample(z, basis="original" if space.basis == "original" else "decoded")
    return rows[:, : space.dims], confidence


def query_of_originals(
    upsampler: Upsampler, space: Space, originals: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What to search a space with for fresh originals.

    Parameters
    ----------
    upsampler
        A decoder of the space's basis.
    space
        What is stored.
    originals
        float32, shape (q, output_dims), unit rows.

    Returns
    -------
    float32, shape (q, space.dims)

    Raises
    ------
    NoAnchorsError
        The space has the decoder's basis, and the decoder no anchors.
    """
    if space.basis == "original":
        return originals
    turned = originals @ upsampler.anchor_rotation().T  # (q, d)
    query = np.zeros((len(originals), space.dims), np.float32)
    shared = min(space.dims, turned.shape[1])
    query[:, :shared] = turned[:, :shared]
    return query
