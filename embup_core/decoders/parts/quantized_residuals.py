"""Kriging residuals: what a trend leaves at each training row, in as few bytes as wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np

from embup_core.decoders.base import require_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

Storage: TypeAlias = Literal["float32", "float16", "int8"]

_LARGEST_INT8 = 127


@dataclass(frozen=True)
class QuantizedResiduals:
    """Rows in float32 or float16, or in int8 with one scale a column (symmetric quantisation).

    Attributes
    ----------
    numbers
        float32, float16 or int8, shape (n, d).
    scale
        Value of one unit in each column: float32, shape (d,); ones but for int8.
    """

    numbers: NDArray[Any]
    scale: NDArray[np.float32]

    @classmethod
    def from_rows(cls, rows: NDArray[np.float32], storage: Storage) -> Self:
        """Store rows: float32, shape (n, d)."""
        ones = np.ones(rows.shape[1], np.float32)
        if storage != "int8":
            return cls(rows.astype(storage), ones)
        largest = np.abs(rows).max(axis=0)  # (d,)
        scale = np.where(largest > 0, largest / np.float32(_LARGEST_INT8), ones)
        return cls(np.rint(rows / scale).astype(np.int8), scale)

    def weighted(self, index: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weighted sums of rows: index and weights (n, k) -> float32 (n, d)."""
        rows = self.numbers[index]  # (n, k, d)
        found = (weights[:, None, :] @ rows.astype(np.float32, copy=False))[:, 0]  # (n, 1, k) @ (n, k, d)
        if self.numbers.dtype == np.int8:
            found *= self.scale
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays: ``residuals`` and ``residual_scale``."""
        return {"residuals": self.numbers, "residual_scale": self.scale}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]], rows: int, dims: int, storage: Storage) -> Self:
        """Load learned arrays; ValueError where shapes or types do not fit."""
        numbers = require_shape(arrays, "residuals", rows, dims)
        if numbers.dtype != storage:
            raise ValueError(f"tensor residuals: expected {storage}, found {numbers.dtype}")
        return cls(numbers, require_shape(arrays, "residual_scale", dims))
