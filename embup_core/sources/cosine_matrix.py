"""The N x N matrix of cosines between the originals, a few rows at a time.

The matrix of 12,130 rows takes 588 MB and grows with the square of the rows, so no code may hold all of it.
Where a source has coordinates instead, its cosines are their dot products, made when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.errors import InvalidDataError
from embup_core.sources.files import COORDINATES_FILE
from embup_core.sources.npy import read_npy_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PRODUCT_ROWS = 4096
"""Rows of coordinates that are multiplied at a time: 25 MB of 1,536 dimensions."""


@dataclass(frozen=True)
class CosineMatrix:
    """A memory-mapped square matrix of cosines.

    Attributes
    ----------
    path
        The ``.npy`` file.
    memory_map
        Floats of any width and byte order, shape (N, N), C order.
    """

    path: Path
    memory_map: NDArray[np.floating]

    @classmethod
    def open(cls, path: Path) -> CosineMatrix:
        """Map the file without looking at its values, which `embup_core.sources.validation` checks.

        A file of the name ``coordinates.npy`` is opened as `CoordinateProducts`.

        Raises
        ------
        SourceUnavailableError
            The file does not exist or cannot be read.
        InvalidDataError
            The file is not a square ``.npy`` matrix of floats, nor coordinates.
        """
        header = read_npy_header(path)
        if path.name == COORDINATES_FILE:
            return CoordinateProducts(path, np.load(path, mmap_mode="r", allow_pickle=False))
        if len(header.shape) != 2 or header.shape[0] != header.shape[1]:
            raise InvalidDataError(
                f"{path} has shape {header.shape}, expected a square matrix (N, N).",
                remedy="Save the N x N matrix of cosines between the originals.",
            )
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if header.fortran_order:
            mapped = mapped.T  # the matrix is symmetric: its columns, contiguous in this file, are its rows
        return cls(path, mapped)

    @property
    def n_rows(self) -> int:
        """N, the number of sample rows."""
        return int(self.memory_map.shape[0])

    def rows(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of some rows with all rows: float32, shape (len(index), N). One contiguous read per row."""
        return np.asarray(self.memory_map[index], dtype=np.float32)

    def block(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of some rows with some others: float32, shape (len(rows), len(columns))."""
        return self.rows(rows)[:, columns]

    def pairs(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of the pairs (left[k], right[k]): float32, shape (len(left),)."""
        return np.asarray(self.memory_map[left, right], dtype=np.float32)

    def landmarks(self, count: int, *, seed: int) -> NDArray[np.int64]:
        """Random rows to recover coordinates from: int64, shape (at most count,), sorted."""
        return np.sort(np.random.default_rng(seed).permutation(self.n_rows)[:count])

    def random_pairs(
        self, rows: NDArray[np.integer], count: int, *, seed: int
    ) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Random pairs of two different ones of some rows, whose cosines are known: at most `count`."""
        left, right = np.random.default_rng(seed).choice(rows, (2, count))
        return left[left != right], right[left != right]

    def row_number(self, row: int) -> int:
        """Number of a row in the source's files, for messages."""
        return row


@dataclass(frozen=True)
class CoordinateProducts(CosineMatrix):
    """Cosines given by coordinates: entry (i, j) is the dot product of rows i and j.

    Attributes
    ----------
    path
        The ``.npy`` file.
    memory_map
        The coordinates: floats, shape (N, r), unit rows.
    """

    def rows(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of some rows with all rows: float32, shape (len(index), N)."""
        return self.block(index, np.arange(self.n_rows))

    def block(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of some rows with some others: float32, shape (len(rows), len(columns))."""
        left = np.asarray(self.memory_map[rows], dtype=np.float32)
        products = np.empty((len(rows), len(columns)), np.float32)
        for part in row_blocks(len(columns), PRODUCT_ROWS):
            products[:, part] = left @ np.asarray(self.memory_map[columns[part]], dtype=np.float32).T
        return products

    def pairs(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of the pairs (left[k], right[k]): float32, shape (len(left),)."""
        products = np.empty(len(left), np.float32)
        for part in row_blocks(len(left), PRODUCT_ROWS):
            products[part] = np.vecdot(self.memory_map[left[part]], self.memory_map[right[part]])
        return products
