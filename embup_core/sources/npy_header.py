"""What a ``.npy`` file says about itself, checked against its size, before any of it is loaded.

NumPy would unpickle object arrays, map a truncated file only to fail later, and read a matrix in Fortran
order column by column; here each of these is an error with the file's name and a remedy.
"""

from __future__ import annotations

import tokenize
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from embup_core.errors import InvalidDataError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAVE_REMEDY = "Write it with numpy.save(path, array.astype(numpy.float32)), or fetch it again."


class Accepted(NamedTuple):
    """Which arrays a file may hold: in words, what to do about others, and by dtype."""

    words: str
    remedy: str
    fits: Callable[[np.dtype[Any]], bool]


FLOATS = Accepted(
    "float32 or float64",
    SAVE_REMEDY,
    lambda dtype: dtype in (np.dtype(np.float32), np.dtype(np.float64)),
)


@dataclass(frozen=True)
class NpyHeader:
    """Where a ``.npy`` file's numbers are and what they are.

    Parameters
    ----------
    shape
        Shape of the array.
    dtype
        One that was accepted, of this machine's byte order.
    offset_bytes
        Where the first number starts.
    fortran_order
        Whether the first index runs fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset_bytes: int
    fortran_order: bool


def _parse(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def read_npy_header(path: Path, accepted: Accepted = FLOATS) -> NpyHeader:
    """Read and check the header of a ``.npy`` file.

    Parameters
    ----------
    path
        The file.
    accepted
        What it may hold.

    Raises
    ------
    SourceUnavailableError
        The file is missing or may not be read.
    InvalidDataError
        It is no ``.npy`` file, holds something other than what is accepted, or its size contradicts its
        header.
    """
    try:
        if not path.is_file():
            what = "is not a regular file" if path.exists() else "does not exist"
            raise SourceUnavailableError(f"{path} {what}.", remedy="Check the path.")
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            try:
                shape, fortran_order, dtype = _parse(file)
            except (ValueError, EOFError, SyntaxError, tokenize.TokenError, RecursionError) as error:
                file.seek(0)
                first = file.read(16)
                raise InvalidDataError(
                    f"{path} is not a .npy file: it has {size_bytes} bytes and begins with {first!r}.",
                    remedy=accepted.remedy,
                ) from error
            offset_bytes = file.tell()
    except OSError as error:
        raise SourceUnavailableError(
            f"{path} cannot be read: {error.strerror}.", remedy="Check its permissions."
        ) from error

    if dtype.hasobject:
        raise InvalidDataError(
            f"{path} holds pickled Python objects ({dtype}), expected {accepted.words}; "
            "it is not opened, since unpickling runs code.",
            remedy=accepted.remedy,
        )
    if not accepted.fits(dtype) or not dtype.isnative:
        raise InvalidDataError(
            f"{path} holds {dtype.str!r} values, expected {accepted.words} of this machine's byte order.",
            remedy=accepted.remedy,
        )
    expected_bytes = offset_bytes + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
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
    return NpyHeader(shape, dtype, offset_bytes, fortran_order and len(shape) > 1)
