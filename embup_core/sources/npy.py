"""Check the header of a source's ``.npy`` file against its size before any of it is loaded.

NumPy unpickles object arrays and maps a truncated file that fails later. Here both are errors that name the
file and the fix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embup_core.errors import InvalidDataError, SourceUnavailableError
from embup_core.files.npy_header import NpyHeader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAVE_REMEDY = "Write it with numpy.save(path, array.astype(numpy.float32)), or fetch it again."


class Accepted(NamedTuple):
    """Arrays that a file may hold: described in words, the fix for any other, and a test of the dtype."""

    words: str
    remedy: str
    fits: Callable[[np.dtype[Any]], bool]


FLOATS = Accepted("floating-point numbers", SAVE_REMEDY, lambda dtype: dtype.kind == "f")


def read_npy_header(path: Path, accepted: Accepted = FLOATS) -> NpyHeader:
    """Read and check the header of a ``.npy`` file.

    Parameters
    ----------
    path
        The file.
    accepted
        Arrays that it may hold.

    Raises
    ------
    SourceUnavailableError
        The file is missing or not readable.
    InvalidDataError
        It is not a ``.npy`` file, holds a dtype that is not accepted, or its size contradicts its header.
    """
    try:
        if not path.is_file():
            what = "is not a regular file" if path.exists() else "does not exist"
            raise SourceUnavailableError(f"{path} {what}.", remedy="Check the path.")
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            try:
                header = NpyHeader.read(file)
            except ValueError as error:
                file.seek(0)
                first = file.read(16)
                raise InvalidDataError(
                    f"{path} is not a .npy file: it has {size_bytes} bytes and begins with {first!r}.",
                    remedy=accepted.remedy,
                ) from error
    except OSError as error:
        raise SourceUnavailableError(
            f"{path} cannot be read: {error.strerror}.", remedy="Check its permissions."
        ) from error

    shape, dtype, offset_bytes = header.shape, header.dtype, header.offset_bytes
    if dtype.hasobject:
        raise InvalidDataError(
            f"{path} holds pickled Python objects ({dtype}), expected {accepted.words}; "
            "it is not opened, since unpickling runs code.",
            remedy=accepted.remedy,
        )
    if not accepted.fits(dtype):
        bfloat16 = " (bfloat16, which NumPy cannot store)" if dtype.str == "|V2" else ""
        raise InvalidDataError(
            f"{path} holds {dtype.str!r} values{bfloat16}, expected {accepted.words}.",
            remedy=accepted.remedy,
        )
    expected_bytes = header.size_bytes
    if size_bytes < expected_bytes:
        complete_rows = max(0, size_bytes - offset_bytes) // max(1, int(np.prod(shape[1:])) * dtype.itemsize)
        raise InvalidDataError(
            f"{path} is truncated: its header says shape {shape}, {expected_bytes} bytes, "
            f"and it has {size_bytes}; it ends in row {complete_rows}.",
            remedy="Fetch or copy it again.",
        )
    if size_bytes > expected_bytes:
        raise InvalidDataError(
            f"{path} is longer than its header says: shape {shape} takes {expected_bytes} bytes, "
            f"and it has {size_bytes}.",
            remedy=SAVE_REMEDY,
        )
    return header
