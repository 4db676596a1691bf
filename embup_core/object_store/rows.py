"""Some rows of a matrix in an object store, without the rest of it."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib import format as npy_format

from embup_core.errors import InvalidDataError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.object_store.store import ObjectStore

_HEAD_BYTES = 4096  # a header of `np.save` has 128


def read_npy_rows(store: ObjectStore, key: str, rows: Sequence[int]) -> NDArray[np.floating]:
    """Read rows of a ``.npy`` matrix by ranges; rows side by side take one request.

    Parameters
    ----------
    store, key
        Where the file lies: floats, shape (N, M), C order.
    rows
        Row numbers, 0-based, in any order.

    Returns
    -------
    NDArray[np.floating]
        In the file's own type, shape (len(rows), M).

    Raises
    ------
    SourceUnavailableError
        There is no such object.
    InvalidDataError
        It is no matrix of floats in C order, or has fewer rows.
    ObjectStoreError
        The store fails, or the object was overwritten meanwhile.
    """
    place = f"{store.address}/{key}"
    stored = store.find(key)
    if stored is None:
        raise SourceUnavailableError(f"{place}: there is no such object.", remedy="Upload it.")
    head = BytesIO(store.read_range(stored, 0, min(_HEAD_BYTES, stored.size_bytes)))
    try:
        version = npy_format.read_magic(head)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran_order, dtype = read(head)
    except ValueError as error:
        raise InvalidDataError(
            f"{place}: expected a .npy file, found another ({error}).", remedy="Write it with numpy.save."
        ) from error
    offset = head.tell()
    if len(shape) != 2 or fortran_order or dtype.kind != "f":
        raise InvalidDataError(
            f"{place}: expected a matrix of floats in C order, found {dtype} of shape {shape}.",
            remedy="Write it with numpy.save(numpy.ascontiguousarray(...)).",
        )
    row_bytes = shape[1] * dtype.itemsize
    if stored.size_bytes != offset + shape[0] * row_bytes:
        raise InvalidDataError(
            f"{place}: expected {offset + shape[0] * row_bytes} bytes, found {stored.size_bytes}.",
            remedy="The file was cut short: upload it again.",
        )
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    if wanted.size and not (wanted[0] >= 0 and wanted[-1] < shape[0]):
        raise InvalidDataError(
            f"{place}: expected row numbers from 0 to {shape[0] - 1}, found {wanted[0]} to {wanted[-1]}.",
            remedy="Take the row numbers of this matrix.",
        )
    runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1) if wanted.size else []
    ranges = [(offset + int(run[0]) * row_bytes, offset + (int(run[-1]) + 1) * row_bytes) for run in runs]
    content = b"".join(store.read_ranges(stored, ranges))
    found = np.frombuffer(content, dtype).reshape(len(wanted), shape[1])
    return np.asarray(found[np.searchsorted(wanted, rows)])
