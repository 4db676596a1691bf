"""Vectors of rows as an `.npy` file that grows; rows without a vector are NaN."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from embup_core.batch.outputs.encoding import NpyEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_NAN_ROWS: Final = 1_000


class VectorFile:
    """Writes float32 rows, whose number is not known before the end.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._encoder: NpyEncoder | None = None
        self._path = path
        self._dims = 0
        self._rows = 0

    @property
    def dims(self) -> int:
        """Length of a vector; 0 until the first one came."""
        return self._dims

    def add(self, vectors: Sequence[NDArray[np.float32] | None]) -> None:
        """Add rows, one after the other."""
        if not self._dims:
            self._dims = next((len(vector) for vector in vectors if vector is not None), 0)
            if not self._dims:
                self._rows += len(vectors)
                return
            self._encoder = NpyEncoder(self._dims)
            self._file.write(self._encoder.head)
            self._write_missing(self._rows)
        block = np.full((len(vectors), self._dims), np.nan, np.float32)  # (b, d)
        for row, vector in enumerate(vectors):
            if vector is not None:
                block[row] = vector
        self._file.write(block.astype("<f4").tobytes())
        self._rows += len(vectors)

    def add_block(self, block: NDArray[np.float32]) -> None:
        """Add rows: float32, shape (b, d)."""
        self.add(list(block))

    def _write_missing(self, rows: int) -> None:
        missing = np.full((min(rows, _NAN_ROWS), self._dims), np.nan, "<f4")
        for start in range(0, rows, _NAN_ROWS):
            self._file.write(missing[: rows - start].tobytes())

    def close(self) -> bool:
        """Complete the file and flush it to the disk; without any vector it is removed.

        Returns
        -------
        Whether there is a file.
        """
        if self._encoder is None:
            self._file.close()
            self._path.unlink(missing_ok=True)
            return False
        self._file.seek(0)
        self._file.write(self._encoder.final_head(self._rows))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
