"""A NumPy file of short rows: its header is read and checked, nothing in it is ever run."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib import format as npy_format

from embup_core.batch.number_block import NumberBlock
from embup_core.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VALUE_BYTES: Final = (2, 4, 8)
_LONGEST_HEADER_BYTES: Final = 1 << 16  # NumPy takes 10,000
_HEADER_READERS: Final[Mapping[tuple[int, int], Any]] = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}


class NpyReader:
    """Reads the rows of an open NumPy file.

    Parameters
    ----------
    path
        Its path, for messages.
    descriptor
        The file; it stays the caller's.
    dims
        Values of a row.
    chunk_rows
        Rows of a block; only the last one has fewer.
    first_row
        Where to start, from 0.

    Raises
    ------
    InputFileError
        It is no NumPy file, or not one of so many numbers a row.
    """

    def __init__(
        self, path: Path, descriptor: int, *, dims: int, chunk_rows: int, first_row: int = 0
    ) -> None:
        self._path = path
        self._descriptor = descriptor
        self._dims = dims
        self._chunk_rows = chunk_rows
        self._row = first_row
        shape, fortran, self._dtype, self._start = _header(path, descriptor)
        self._require_rows(shape, fortran=fortran)
        self._rows = int(shape[0])
        self._row_bytes = dims * self._dtype.itemsize
        expected_bytes = self._offset(self._rows)
        found_bytes = os.fstat(descriptor).st_size
        if found_bytes != expected_bytes:
            what = "is cut off" if found_bytes < expected_bytes else "holds more than one array"
            raise InputFileError(
                f"{path} {what}: its header speaks of {self._rows} rows, which take {expected_bytes} bytes"
                f" with the header; found {found_bytes}.",
                remedy="Save it again with numpy.save.",
            )

    def _require_rows(self, shape: tuple[int, ...], *, fortran: bool) -> None:
        dtype = self._dtype
        expected = f"float16, float32 or float64, C order, shape (n, {self._dims})"
        found = f"{'Fortran order, ' if fortran else ''}{dtype.name}, shape {shape}"
        fitting = dtype.kind == "f" and dtype.itemsize in _VALUE_BYTES and not fortran
        if not fitting or len(shape) != 2 or shape[1] != self._dims:
            raise InputFileError(
                f"{self._path}: expected {expected}; found {found}.",
                remedy="numpy.save(path, numpy.ascontiguousarray(rows, numpy.float32)) writes such a file.",
            )

    @property
    def exhausted(self) -> bool:
        """Whether no row is left."""
        return self._row >= self._rows

    def read_block(self) -> NumberBlock | None:
        """Return the next rows, or None after the last one.

        Raises
        ------
        InputFileError
            The file was cut, or cannot be read.
        """
        if self.exhausted:
            return None
        first, end = self._row, min(self._row + self._chunk_rows, self._rows)
        offset, wanted_bytes = self._offset(first), (end - first) * self._row_bytes
        try:
            data = os.pread(self._descriptor, wanted_bytes, offset)
        except OSError as error:
            message = f"{self._path} cannot be read at byte {offset}: {error.strerror}."
            raise InputFileError(message, remedy="Check the disk it lies on.") from error
        if len(data) != wanted_bytes:
            message = f"input changed: {self._path} ends before its row {end}."
            remedy = "Submit it again once nobody writes to it."
            raise InputFileError(message, remedy=remedy, code="input_changed")
        self._row = end
        values = np.frombuffer(data, dtype=self._dtype).reshape(-1, self._dims)
        return NumberBlock(values, {}, first, self._offset(end))

    def estimated_rows(self) -> int:
        """Return how many rows there are, which the header says."""
        return self._rows

    def most_rows(self, block_end: int) -> int:
        """Return how many rows follow."""
        return self._rows - block_end

    def _offset(self, row: int) -> int:
        return self._start + row * self._row_bytes


def _header(path: Path, descriptor: int) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether it is in Fortran order, type of the values, and where they start."""
    version = None
    try:
        # NumPy takes as much as a header says that it has, before it finds that too much.
        file = io.BytesIO(os.pread(descriptor, _LONGEST_HEADER_BYTES, 0))
        version = npy_format.read_magic(file)
        read_header = _HEADER_READERS[version]
        shape, fortran, dtype = read_header(file)
    except Exception as error:  # NumPy parses the header as Python's own text, which fails in many ways
        reason = f"version {version}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise InputFileError(
            f"{path}: expected a NumPy file, found something else ({reason.rstrip('.')}).",
            remedy="Save it with numpy.save, or give the file the ending of what it holds.",
        ) from error
    return shape, fortran, dtype, file.tell()
