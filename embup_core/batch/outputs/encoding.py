"""Encode decoded rows as a fixed number of bytes a row, so that a file can be cut at any row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from embup_core.errors import OutputError
from embup_core.text.formatter import format_nan_row, format_rows, row_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Float32Rows = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class RowEncoder(Protocol):
    """One format of the output."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row while the file grows."""

    @property
    def disk_row_bytes(self) -> int:
        """Bytes that a row takes on the disk at most, until the output is in place."""

    @property
    def converted(self) -> bool:
        """Whether another file is made of the grown one at the end."""

    @property
    def head(self) -> bytes:
        """What stands before the first row while the file grows."""

    def encode(self, rows: Float32Rows, out: Bytes) -> None:
        """Write unit rows, shape (n, dims), into `out`, uint8, shape (n, row_bytes)."""

    def encode_refused(self, out: Bytes) -> None:
        """Write the rows that stand for refused ones into `out`, uint8, shape (n, row_bytes)."""

    def final_head(self, rows: int) -> bytes:
        """Return what stands before the first row once there are `rows` of them; as long as `head`."""


class TextEncoder:
    """Lines of text of a fixed width; see `embup_core.text.formatter`.

    Parameters
    ----------
    dims
        Values of a row.
    """

    head: Final = b""
    converted: Final = False

    def __init__(self, dims: int) -> None:
        self.row_bytes = self.disk_row_bytes = row_bytes(dims)
        self._dims = dims

    def encode(self, rows: Float32Rows, out: Bytes) -> None:
        """Write lines."""
        format_rows(rows, out=out.reshape(-1))

    def encode_refused(self, out: Bytes) -> None:
        """Write lines of nan."""
        out[:] = np.frombuffer(format_nan_row(self._dims), dtype=np.uint8)

    def final_head(self, rows: int) -> bytes:  # noqa: ARG002 - the same however many there are
        """Return nothing: text has no head."""
        return b""


class _RawRows:
    """Little-endian float32."""

    def __init__(self, dims: int) -> None:
        self.row_bytes = self.disk_row_bytes = 4 * dims
        self._dims = dims

    def encode(self, rows: Float32Rows, out: Bytes) -> None:
        """Write the numbers as they are in memory."""
        out[:] = np.ascontiguousarray(rows, dtype="<f4").view(np.uint8)

    def encode_refused(self, out: Bytes) -> None:
        """Write rows of NaN."""
        out[:] = np.full((len(out), self._dims), np.nan, dtype="<f4").view(np.uint8)


class NpyEncoder(_RawRows):
    """A NumPy file of float32, shape (rows, dims), version 1.0; its head is completed at the end.

    Parameters
    ----------
    dims
        Values of a row.
    """

    converted: Final = False
    _HEAD_BYTES: Final = 128

    def __init__(self, dims: int) -> None:
        super().__init__(dims)
        self.head = self.final_head(0)

    def final_head(self, rows: int) -> bytes:
        """Return the header of a file of so many rows; always 128 bytes, as NumPy aligns it."""
        start = b"\x93NUMPY\x01\x00" + (self._HEAD_BYTES - 10).to_bytes(2, "little")
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {self._dims}), }}"
        return start + text.encode().ljust(self._HEAD_BYTES - 11) + b"\n"


class ParquetRowsEncoder(_RawRows):
    """The rows of a Parquet file, bare, until `embup_core.batch.outputs.parquet` makes it of them.

    Parameters
    ----------
    dims
        Values of a row.
    """

    head: Final = b""
    converted: Final = True

    def __init__(self, dims: int) -> None:
        super().__init__(dims)
        self.disk_row_bytes = 2 * self.row_bytes

    def final_head(self, rows: int) -> bytes:  # noqa: ARG002 - the same however many there are
        """Return nothing: rows alone have no head."""
        return b""


def encoder_for(output_path: Path, dims: int) -> RowEncoder:
    """Return the encoder of the output's format by its ending: `.npy`, `.parquet`, else text.

    Raises
    ------
    OutputError
        The ending is that of a compressed file.
    """
    ending = output_path.suffix.lower()
    if ending in _UNWRITTEN:
        raise OutputError(
            f"{output_path}: outputs are not compressed, and this ending is that of a compressed file.",
            remedy="Choose an output that ends in .txt, .npy or .parquet.",
        )
    return _ENCODERS.get(ending, TextEncoder)(dims)


def is_converted(output_path: Path) -> bool:
    """Whether an output of this ending is made of another file at the end."""
    return _ENCODERS.get(output_path.suffix.lower(), TextEncoder).converted


_ENCODERS: Final[Mapping[str, type[TextEncoder | NpyEncoder | ParquetRowsEncoder]]] = {
    ".npy": NpyEncoder,
    ".parquet": ParquetRowsEncoder,
}
_UNWRITTEN: Final = (".gz", ".zst")
