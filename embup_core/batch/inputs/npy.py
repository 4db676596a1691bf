"""Rows of a NumPy array: in a file of its own, or stored in an archive; nothing in it is ever unpickled.

Rows are read a block at a time, also in Fortran order, where a row lies scattered over the file: one read a
column gathers a block, so memory stays flat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from embup_core.batch.inputs.input_file import DescriptorFile, input_changed, unreadable
from embup_core.batch.inputs.number_block import NumberBlock
from embup_core.errors import InputFileError
from embup_core.files.npy_header import NpyHeader
from embup_core.files.readable import read_at, status_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from embup_core.batch.inputs.input_file import OpenInput
    from embup_core.files.readable import Readable


class NpyReader:
    """Reads the rows of an open ``.npy`` file.

    Parameters
    ----------
    source
        The file, and where to start in it.

    Raises
    ------
    InputFileError
        It is not a NumPy file, or not one of rows of `source.input_dims` numbers.
    """

    notices: Final = ()

    def __init__(self, source: OpenInput) -> None:
        try:
            header = NpyHeader.read(DescriptorFile(source.descriptor))  # type: ignore[arg-type]
        except ValueError as error:
            raise InputFileError(
                f"{source.path}: expected a NumPy file, found something else ({error}).",
                remedy="Save it with numpy.save, or give the file the ending of what it holds.",
            ) from error
        require_rows(source.path, header, source.input_dims)
        if header.fortran_order and not isinstance(source.descriptor, int):
            raise InputFileError(
                f"{source.path}: expected an array in C order, found one in Fortran order: its rows lie"
                " scattered over the object, so that each block of them would fetch all of it.",
                remedy="Save numpy.ascontiguousarray(rows), or copy the object to a disk and name the copy.",
            )
        size_bytes = status_of(source.descriptor).st_size
        if size_bytes != header.size_bytes:
            what = "is cut off" if size_bytes < header.size_bytes else "holds more than one array"
            raise InputFileError(
                f"{source.path} {what}: its header promises {header.shape[0]} rows, which take"
                f" {header.size_bytes} bytes with the header; found {size_bytes}.",
                remedy="Save it again with numpy.save.",
            )
        values = DescriptorValues(source.path, source.descriptor)
        self._rows = ArrayRows(source, header, values)

    @property
    def exhausted(self) -> bool:
        """Whether no row is left."""
        return self._rows.exhausted

    def read_block(self) -> NumberBlock | None:
        """Return the next rows, or None after the last one; raises `InputFileError`."""
        return self._rows.read_block()

    def estimated_rows(self) -> int:
        """Return the number of rows in the header."""
        return self._rows.count

    def most_rows(self, block_end: int) -> int:
        """Return how many rows follow."""
        return self._rows.count - block_end


class Values(Protocol):
    """The bytes of an array and its header, by their offset."""

    def read(self, offset: int, count: int) -> bytes | None:
        """Return bytes from an offset on; None while those before it are still being passed over.

        Raises
        ------
        InputFileError
            They cannot be read.
        """

    def bytes_done(self, offset: int) -> int:
        """Return how far into the input file that is."""


class DescriptorValues:
    """Bytes of an open file.

    Parameters
    ----------
    path
        The file, for messages.
    descriptor
        The open file; the caller closes it.
    start
        Where the array's header starts in it.
    """

    def __init__(self, path: Path, descriptor: Readable, start: int = 0) -> None:
        self._path = path
        self._descriptor = descriptor
        self._start = start

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes from an offset on; raises `InputFileError`."""
        place = self._start + offset
        try:
            data = read_at(self._descriptor, count, place)
        except OSError as error:
            raise unreadable(self._path, place, error) from error
        if len(data) != count:
            raise input_changed(f"{self._path} ends before byte {place + count}")
        return data

    def bytes_done(self, offset: int) -> int:
        """Return the place in the file."""
        return self._start + offset


class ArrayRows:
    """Blocks of the rows of an array.

    Parameters
    ----------
    source
        Size of the blocks, and the row to start at.
    header
        An array of shape (n, input_dims), see `require_rows`.
    values
        Its bytes.
    """

    def __init__(self, source: OpenInput, header: NpyHeader, values: Values) -> None:
        self._header = header
        self._dims = source.input_dims
        self._chunk_rows = source.chunk_rows
        self._row = source.first_row
        self._values = values
        self.count = header.shape[0]

    @property
    def exhausted(self) -> bool:
        """Whether no row is left."""
        return self._row >= self.count

    def read_block(self) -> NumberBlock | None:
        """Return the next rows, or None after the last one; raises `InputFileError`."""
        if self.exhausted:
            return None
        first, end = self._row, min(self._row + self._chunk_rows, self.count)
        rows = self._columns(first, end) if self._header.fortran_order else self._lines(first, end)
        if rows is None:
            empty = np.empty((0, self._dims), np.float32)
            return NumberBlock(empty, {}, first, self._values.bytes_done(self._offset(first)))
        self._row = end
        return NumberBlock(rows, {}, first, self._values.bytes_done(self._offset(end)))

    def _offset(self, row: int) -> int:
        return self._header.offset_bytes + row * self._dims * self._header.dtype.itemsize

    def _lines(self, first: int, end: int) -> npt.NDArray[Any] | None:
        data = self._values.read(self._offset(first), self._offset(end) - self._offset(first))
        if data is None:
            return None
        return np.frombuffer(data, self._header.dtype).reshape(-1, self._dims)  # (rows, dims)

    def _columns(self, first: int, end: int) -> npt.NDArray[Any] | None:
        item_bytes = self._header.dtype.itemsize
        columns = []
        for column in range(self._dims):
            place = self._header.offset_bytes + (column * self.count + first) * item_bytes
            if (data := self._values.read(place, (end - first) * item_bytes)) is None:
                return None
            columns.append(data)
        return np.frombuffer(b"".join(columns), self._header.dtype).reshape(self._dims, -1).T


def require_rows(path: Path, header: NpyHeader, input_dims: int, *, inside: str = "") -> None:
    """Check that an array holds rows of numbers.

    Parameters
    ----------
    path
        The file.
    header
        The array's.
    input_dims
        Values of a row.
    inside
        Name of the array in an archive.

    Raises
    ------
    InputFileError
        It holds something else; the remedy has the expression to save.
    """
    dtype, shape = header.dtype, header.shape
    found = f"{'Fortran order, ' if header.fortran_order else ''}{dtype.name}, shape {shape}"
    if dtype.hasobject:
        found += ", pickled objects, which are never opened"
        remedy = "Save the rows as numbers: numpy.save(path, numpy.stack(list(rows)).astype(numpy.float32))."
    elif dtype.kind not in "fiu":
        found += ", as bfloat16 is saved" * (dtype.kind == "V" and dtype.names is None)
        remedy = "Save real numbers: numpy.save(path, rows.astype(numpy.float32))."
    elif shape == (input_dims,):
        found += ", one row without an axis of rows"
        remedy = f"Save it with that axis: numpy.save(path, row.reshape(1, {input_dims}))."
    elif len(shape) == 2 and shape[0] == input_dims != shape[1]:
        found += ", rows and columns swapped"
        remedy = "Save the transpose: numpy.save(path, array.T)."
    elif len(shape) != 2 and shape[-1:] == (input_dims,):
        remedy = f"Save it with one axis of rows: numpy.save(path, array.reshape(-1, {input_dims}))."
    elif len(shape) != 2 or shape[1] != input_dims:
        remedy = f"Save rows of {input_dims} numbers with numpy.save."
    else:
        return
    array = f", array {inside!r}" if inside else ""
    raise InputFileError(
        f"{path}{array}: expected floats or integers of shape (n, {input_dims}); found {found}.",
        remedy=remedy,
    )
