"""The N x N matrix of cosines between the originals, read from disk a few rows at a time.

The matrix of 12,130 rows takes 588 MB and grows with the square of the rows, so nothing here, and nothing
elsewhere, may read the whole of it at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.errors import InvalidDataError, SourceUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class CosineMatrix:
    """A memory-mapped square matrix of cosines.

    Attributes
    ----------
    path
        The ``.npy`` file.
    memory_map
        float32 or float64, shape (N, N).
    """

    path: Path
    memory_map: NDArray[np.floating]

    @classmethod
    def open(cls, path: Path) -> CosineMatrix:
        """Map the file; values are not looked at (``embup_core.sources`` validates them).

        Raises
        ------
        SourceUnavailableError
            The file does not exist.
        InvalidDataError
            The file is not a square ``.npy`` matrix of floats.
        """
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise SourceUnavailableError(
                f"{path}: the cosine matrix does not exist.", remedy="Check the path of the data source."
            ) from error
        except (ValueError, OSError, EOFError) as error:
            raise InvalidDataError(
                f"{path}: expected a .npy file of numbers, found something NumPy cannot map ({error}).",
                remedy="Save the matrix again with numpy.save.",
            ) from error
        if mapped.ndim != 2 or mapped.shape[0] != mapped.shape[1]:
            raise InvalidDataError(
                f"{path}: expected a square matrix, found shape {mapped.shape}.",
                remedy="Save the N x N matrix of cosines between the originals.",
            )
        if mapped.dtype not in (np.float32, np.float64):
            raise InvalidDataError(
                f"{path}: expected float32 or float64, found {mapped.dtype}.",
                remedy="Save it again with .astype(numpy.float32).",
            )
        return cls(path, mapped)

    @property
    def n_rows(self) -> int:
        """N, the number of sample rows."""
        return int(self.memory_map.shape[0])

    def rows(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of some rows with all rows: float32, shape (len(index), N). One contiguous read a row."""
        return np.asarray(self.memory_map[index], dtype=np.float32)

    def pairs(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of the pairs (left[k], right[k]): float32, shape (len(left),)."""
        return np.asarray(self.memory_map[left, right], dtype=np.float32)
