r"""Rows of numbers to text of a fixed width, by table look-up.

A value takes 12 bytes: sign or space, one digit, the point, eight decimals, then `,` or a newline::

    -0.01234567, 0.98765432,...\n

So row i of a file starts at byte i * row_bytes, and a file is cut at a row by arithmetic. The digits are
those of `'%.8f'`: the absolute error is at most 5e-9, which moves the length of a unit row of 1536 values by
at most 2e-7. The text is valid for `numpy.loadtxt(delimiter=",")`, for CSV readers, and, in brackets, for
JSON, where a space before a number means nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

VALUE_BYTES: Final = 12
"""Bytes of one value: eleven characters and the comma or newline after it."""

_DECIMALS_SCALE: Final = 1e8
_LARGEST: Final = 1.0 + 1e-6
_LARGEST_SCALED: Final = 10**8

# The working arrays of one block (about 40 bytes a value) stay in a core's second-level cache.
_BLOCK_VALUES: Final = 16_384


def _words(strings: list[str]) -> npt.NDArray[np.uint32]:
    """Pack strings of four ASCII characters into one machine word each."""
    return np.frombuffer("".join(strings).encode("ascii"), dtype=np.uint32)


# Twelve bytes are three words: "-0.0" "1234" "567,". Eleven leading words a sign: 1.00000000 has ten tenths.
_TENTHS: Final = 11
_LEADING: Final = _words(
    [f"{sign}{tenths // 10}.{tenths % 10}" for sign in " -" for tenths in range(_TENTHS)]
)
_MIDDLE: Final = _words([f"{digits:04d}" for digits in range(10_000)])
_LAST: Final = _words([f"{digits:03d}," for digits in range(1_000)])

_LAST_BASE: Final = np.uint32(1_000)
_MIDDLE_BASE: Final = np.uint32(10_000)


def row_bytes(dims: int) -> int:
    """Bytes of one formatted row of `dims` values, its newline included."""
    return VALUE_BYTES * dims


def format_rows(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Format rows as lines of fixed width.

    Parameters
    ----------
    rows
        float32, shape (n, d), each value in [-1, 1] (1e-6 beyond is rounding, and is cut off).

    Returns
    -------
    numpy.ndarray
        uint8, shape (n * row_bytes(d),), C-contiguous: the bytes to write, in order.

    Raises
    ------
    ValueError
        `rows` has not two axes, has no column, or holds a value that is not finite or is beyond ±1.
    """
    if rows.ndim != 2 or rows.shape[1] == 0:
        message = f"expected rows of shape (n, d) with d > 0, found {rows.shape}"
        raise ValueError(message)
    count, dims = rows.shape
    values = np.ascontiguousarray(rows, dtype=np.float32).reshape(-1)
    # Written so that NaN fails too.
    if values.size and not (float(values.min()) >= -_LARGEST and float(values.max()) <= _LARGEST):
        message = "expected finite values within [-1, 1]"
        raise ValueError(message)
    words = np.empty((values.size, 3), dtype=np.uint32)
    for start in range(0, values.size, _BLOCK_VALUES):
        block = slice(start, start + _BLOCK_VALUES)
        _format_values(values[block], words[block])
    text = words.view(np.uint8).reshape(count, row_bytes(dims))
    text[:, -1] = ord("\n")
    return text.reshape(-1)


def format_nan_row(dims: int) -> bytes:
    """Return the line that stands for a row without an answer: `dims` times `nan`, same width as any row."""
    width = VALUE_BYTES - 1
    return b",".join([b"nan".rjust(width)] * dims) + b"\n"


def format_json_row(row: npt.NDArray[np.float32]) -> bytes:
    """Format one row as a JSON array, with the digits `format_rows` writes.

    Parameters
    ----------
    row
        float32, shape (d,), values as in `format_rows`.
    """
    if row.ndim != 1:
        message = f"expected a row of shape (d,), found {row.shape}"
        raise ValueError(message)
    return b"[" + format_rows(row[np.newaxis])[:-1].tobytes() + b"]"


def format_json_rows(rows: npt.NDArray[np.float32]) -> bytes:
    """Format rows, shape (n, d), as a JSON array of arrays, with the digits `format_rows` writes."""
    return b"[" + b",".join([format_json_row(row) for row in rows]) + b"]"


def _format_values(values: npt.NDArray[np.float32], words: npt.NDArray[np.uint32]) -> None:
    """Write the three words of each value, shape (m,), into `words`, shape (m, 3)."""
    # 24 bits times 1e8 = 2**8 * 390625 has 43 bits: exact in float64, so ties round as in '%.8f'.
    scaled = np.abs(values).astype(np.float64)
    scaled *= _DECIMALS_SCALE
    np.rint(scaled, out=scaled)
    np.minimum(scaled, _LARGEST_SCALED, out=scaled)
    last = scaled.astype(np.uint32)
    middle = last // _LAST_BASE
    last -= middle * _LAST_BASE
    leading = middle // _MIDDLE_BASE
    middle -= leading * _MIDDLE_BASE
    leading += (values.view(np.uint32) >> np.uint32(31)) * np.uint32(_TENTHS)
    # The indices are in range by construction; "clip" only spares take() its own check.
    words[:, 0] = _LEADING.take(leading, mode="clip")
    words[:, 1] = _MIDDLE.take(middle, mode="clip")
    words[:, 2] = _LAST.take(last, mode="clip")
