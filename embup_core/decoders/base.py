"""The one interface of all decoders, and the two steps they share.

A decoder learns from pairs (z, c) and answers unit rows. It keeps what it learned in plain NumPy arrays, so
that an artifact is those arrays and a few settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from embup_core.dims import OUTPUT_DIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Decoder(ABC):
    """An estimator from projected embeddings to unit rows.

    ``__init__`` only stores settings, ``fit`` learns, and learned attributes end in ``_``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> Self:
        """Learn from rows.

        Parameters
        ----------
        projected
            z: float32, shape (n, 32), unit rows.
        coordinates
            c: float32, shape (n, r) with r <= 1536, unit rows.
        """

    @abstractmethod
    def predict_with_confidence(
        self, projected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode rows.

        Parameters
        ----------
        projected
            z: float32, shape (n, 32), unit rows.

        Returns
        -------
        rows
            float32, shape (n, 1536), unit rows, C-contiguous.
        confidence
            float32, shape (n,): the squared length of the regression E[c | z] before it was completed to a
            unit vector, between 0 (nothing known) and 1 (certain); NaN where the decoder does not know.
        """

    def predict(self, projected: NDArray[np.float32]) -> NDArray[np.float32]:
        """Decode rows: float32 (n, 32) -> float32 (n, 1536), unit rows."""
        return self.predict_with_confidence(projected)[0]

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Hyper-parameters as JSON values; ``type(self)(**settings)`` makes an unfitted twin."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned."""

    @classmethod
    @abstractmethod
    def array_names(cls, settings: dict[str, Any]) -> frozenset[str]:
        """The names that `arrays` has for these settings."""

    @abstractmethod
    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up what `arrays` gave. Shapes that do not fit each other raise ValueError."""

    @classmethod
    def from_arrays(cls, settings: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Rebuild a fitted decoder from `settings` and `arrays`."""
        return cls(**settings).restore(arrays)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length, in place: float32, shape (n, d)."""
    # vecdot is BLAS's dot: several running sums, so 1,536 squares in float32 keep the length within 1e-7.
    rows /= np.sqrt(np.maximum(np.vecdot(rows, rows), np.finfo(np.float32).tiny))[:, None]
    return rows


def padded(rows: NDArray[np.float32], dims: int = OUTPUT_DIMS) -> NDArray[np.float32]:
    """Rows with zero columns behind, shape (n, dims): the coordinates of fewer dimensions than 1536."""
    if rows.shape[1] == dims:
        return rows
    wide = np.zeros((len(rows), dims), rows.dtype)
    wide[:, : rows.shape[1]] = rows
    return wide


def require_shape(arrays: dict[str, NDArray[Any]], name: str, *shape: int | None) -> NDArray[Any]:
    """The array of this name, checked: None stands for any length.

    Raises
    ------
    ValueError
        The array has another shape.
    """
    found = arrays[name].shape
    if len(found) != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, found, strict=True)
    ):
        raise ValueError(f"tensor {name}: expected shape {shape}, found {found}")
    return arrays[name]
