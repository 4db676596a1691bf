"""The header of a ``.npy`` array: where its numbers start, and what they are.

NumPy reads headers of versions 1 and 2 only through its public functions; version 3 differs from version 2 in
the encoding of field names, which arrays of plain numbers do not have.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, Self

from numpy.lib import format as npy_format

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

MAGIC: Final = b"\x93NUMPY"
LONGEST_HEADER_BYTES: Final = 1 << 16  # NumPy refuses headers of more than 10,000 bytes
_READERS: Final[Mapping[tuple[int, int], Any]] = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
    (3, 0): npy_format.read_array_header_2_0,
}


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """Layout of the array in a ``.npy`` file.

    Attributes
    ----------
    shape
        Shape of the array.
    dtype
        Type of its values, in the byte order of the file.
    offset_bytes
        Offset of the first value from the start of the header.
    fortran_order
        Whether the first index varies fastest; False for one axis, where both orders are the same.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset_bytes: int
    fortran_order: bool

    @property
    def size_bytes(self) -> int:
        """Bytes of header and array together."""
        count = 1
        for length in self.shape:  # of Python's integers: a forged header may overflow those of NumPy
            count *= length
        return self.offset_bytes + count * self.dtype.itemsize

    @classmethod
    def read(cls, file: IO[bytes]) -> Self:
        """Read the header at the position of an open file, and no more than 64 KiB.

        Raises
        ------
        ValueError
            The bytes are not a ``.npy`` header, with the reason in one line.
        OSError
            The file cannot be read.
        """
        # NumPy allocates what a header claims to have, before it compares that with its limit.
        prefix = io.BytesIO(file.read(LONGEST_HEADER_BYTES))
        version: tuple[int, int] | None = None
        try:
            version = npy_format.read_magic(prefix)
            shape, fortran_order, dtype = _READERS[version](prefix)
        except Exception as error:  # the header is parsed as a Python literal, which fails in many ways
            reason = f"version {version}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
            raise ValueError(reason.rstrip(".")) from error
        if any(length < 0 for length in shape):
            raise ValueError(f"negative shape {shape}")
        return cls(shape, dtype, prefix.tell(), fortran_order and len(shape) > 1)
