"""Cosines of some rows with some columns, a block of rows at a time: true and predicted ones alike.

The truth may be a matrix on disk or the originals themselves, a prediction is made of decoded rows or is one
number for every pair. Whoever compares the two need not know which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.sources.cosine_matrix import CoordinateProducts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embup_core.sources.cosine_matrix import CosineMatrix

    Float32: TypeAlias = NDArray[np.float32]
    StandardError: TypeAlias = Callable[[Float32, Float32, Float32, Float32], Float32 | None]
    """Rows, their confidence, other rows, theirs -> standard errors of all cosines; None where not known."""


class Cosines(Protocol):
    """A rectangle of cosines that is never held whole."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`: float32, shape (stop - start, columns)."""


@dataclass(frozen=True)
class MatrixCosines:
    """Some rows and some columns of a matrix on disk.

    Attributes
    ----------
    memory_map
        float32 or float64, two-dimensional.
    rows, columns
        Row and column numbers of it: int64, shape (n,) and (m,). None takes all.
    """

    memory_map: NDArray[np.floating]
    rows: NDArray[np.int64] | None = None
    columns: NDArray[np.int64] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.memory_map.shape
        return (
            height if self.rows is None else len(self.rows),
            width if self.columns is None else len(self.columns),
        )

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, one contiguous read each: float32, shape (stop - start, columns)."""
        whole = self.memory_map[slice(start, stop) if self.rows is None else self.rows[start:stop]]
        return np.asarray(whole if self.columns is None else whole[:, self.columns], dtype=np.float32)


@dataclass(frozen=True)
class ProductCosines:
    """Some rows and some columns of cosines that are dot products of coordinates.

    Attributes
    ----------
    matrix
        The coordinates.
    rows, columns
        Row numbers: int64, shape (n,) and (m,).
    """

    matrix: CoordinateProducts
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.columns)

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`: float32, shape (stop - start, columns)."""
        return self.matrix.block(self.rows[start:stop], self.columns)


def true_cosines(matrix: CosineMatrix, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Cosines:
    """Cosines of some rows of a source with others: int64, shape (n,) and (m,), their row numbers."""
    if isinstance(matrix, CoordinateProducts):
        return ProductCosines(matrix, rows, columns)
    return MatrixCosines(matrix.memory_map, rows, columns)


@dataclass(frozen=True)
class DotProducts:
    """Dot products of unit rows.

    Attributes
    ----------
    rows, columns
        float32, shape (n, d) and (m, d), unit rows.
    """

    rows: NDArray[np.float32]
    columns: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.columns)

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`: float32, shape (stop - start, columns)."""
        return self.rows[start:stop] @ self.columns.T


@dataclass(frozen=True)
class OneCosine:
    """The same cosine for every pair, which ranks nothing."""

    value: float
    shape: tuple[int, int]

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`: float32, shape (stop - start, columns)."""
        return np.full((stop - start, self.shape[1]), self.value, np.float32)


@dataclass(frozen=True)
class StandardErrors:
    """What a decoder says about the errors of its rows' cosines with each other; `Cosines` in shape only.

    Attributes
    ----------
    of
        As `Decoder.cosine_standard_error`.
    rows
        Decoded: float32, shape (n, d).
    confidence
        float32, shape (n,).
    """

    of: StandardError
    rows: NDArray[np.float32]
    confidence: NDArray[np.float32]

    @classmethod
    def where_known(
        cls, of: StandardError | None, rows: NDArray[np.float32], confidence: NDArray[np.float32]
    ) -> Self | None:
        """None where the decoder does not know its errors."""
        if of is None or of(rows[:1], confidence[:1], rows[:1], confidence[:1]) is None:
            return None
        return cls(of, rows, confidence)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.rows)

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`: float32, shape (stop - start, columns)."""
        errors = self.of(self.rows[start:stop], self.confidence[start:stop], self.rows, self.confidence)
        if errors is None:
            raise ValueError("the decoder knew its errors, and then did not")
        return errors


@dataclass(frozen=True)
class Comparison:
    """Predicted and true cosines of the same pairs.

    Attributes
    ----------
    predicted, true
        Of one shape.
    standard_error
        The predicted standard error of each predicted cosine, of the same shape; None where not known.
    """

    predicted: Cosines
    true: Cosines
    standard_error: Cosines | None = None

    def blocks(
        self,
    ) -> Iterator[tuple[int, int, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]]:
        """Start, stop, predicted, true and standard error of each block of rows."""
        n_rows = self.true.shape[0]
        for block in row_blocks(n_rows):
            start, stop = block.start, block.stop
            error = None if self.standard_error is None else self.standard_error.block(start, stop)
            yield start, stop, self.predicted.block(start, stop), self.true.block(start, stop), error
