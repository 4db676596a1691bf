r"""Rows of numbers to text of a fixed width, by table look-up.

A value takes 12 bytes: sign or space, one digit, the point, eight decimals, then `,` or a newline::

    -0.01234567, 0.98765432,...\n

So row i of a file starts at byte i * row_bytes, and a file is cut at a row by arithmetic. The digits are
those of `'%.8f'`: the absolute error is at most 5e-9, which moves the length of a unit row of 1536 values by
at most 2e-7. The text is valid for `numpy.loadtxt(delimiter=",")`, for CSV readers, and, in brackets, for
JSON, which ignores a space before a number.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

_format_compiled: Callable[..., bool] | None
try:
    from embup_core.text._digits import format_values as _format_compiled
except ImportError:  # installed without a compiler: NumPy writes the same bytes
    _format_compiled = None

VALUE_BYTES: Final = 12
"""Bytes of one value: eleven characters and the comma or newline after it."""

_LARGEST: Final = 1.0 + 1e-6
_BEYOND: Final = "expected finite values within [-1, 1]"

# The working arrays of a block (24 bytes a value) stay in a core's second-level cache; below a quarter of
# this the calls themselves begin to show.
_BLOCK_VALUES: Final = 32_768

# Twelve bytes are two words, " 0.01234" and "567,": a value is its first six digits, then three more.
_RECORD: Final = np.dtype([("head", np.uint64), ("tail", np.uint32)])


def _words(strings: list[str]) -> npt.NDArray[np.uint32]:
    """Pack strings of four ASCII characters into one machine word each."""
    return np.frombuffer("".join(strings).encode("ascii"), dtype=np.uint32)


def _head_words() -> npt.NDArray[np.uint64]:
    """Make the words " 0.00000" to " 1.09999", then "-0.00000" to "-1.09999"."""
    leading = _words([f"{sign}{tenths // 10}.{tenths % 10}" for sign in " -" for tenths in range(11)])
    halves = np.empty((len(leading), 10_000, 2), dtype=np.uint32)
    halves[:, :, 0] = leading[:, np.newaxis]
    halves[:, :, 1] = _words([f"{digits:04d}" for digits in range(10_000)])
    return halves.reshape(-1).view(np.uint64)


# Filled through views of bytes, so they hold on machines of either byte order.
_HEADS: Final = _head_words()
_TAILS: Final = _words([f"{digits:03d}," for digits in range(1_000)])

# Arrays without axes: a call takes them sooner than scalars, which shows when one row is formatted.
_SCALE: Final = np.array(1e8)
_ONE: Final = np.array(1, dtype=np.float32)
_TAIL_BASE: Final = np.array(len(_TAILS), dtype=np.uint32)
_SIGN_BIT: Final = np.array(31, dtype=np.uint32)
_NEGATIVE_HEADS: Final = np.array(len(_HEADS) // 2, dtype=np.uint32)


class _WorkingMemory(threading.local):
    """The working arrays of a thread, kept from call to call, as touching fresh pages takes long."""

    def __init__(self) -> None:
        self._allocate(0)

    def _allocate(self, size: int) -> None:
        self._wide = np.empty((2, size), dtype=np.uint64)
        self._narrow = np.empty((2, size), dtype=np.uint32)

    def arrays(self, size: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Return two rows of `size` wide words or more, and as many narrow ones."""
        if self._wide.shape[1] < size:
            self._allocate(size)
        return self._wide, self._narrow


_working: Final = _WorkingMemory()


def row_bytes(dims: int) -> int:
    """Bytes of one formatted row of `dims` values, its newline included."""
    return VALUE_BYTES * dims


def format_rows(
    rows: npt.NDArray[np.float32], out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Format rows as lines of fixed width.

    Parameters
    ----------
    rows
        float32, shape (n, d), each value in [-1, 1] (1e-6 beyond is rounding, and is cut off).
    out
        Where to write, of the shape and type that is returned, at any address; None makes a new array.

    Returns
    -------
    numpy.ndarray
        uint8, shape (n * row_bytes(d),), C-contiguous: the bytes to write, in order. It is `out` if given.

    Raises
    ------
    ValueError
        `rows` has not two axes, has no column, or holds a value that is not finite or is beyond ±1 (`out`
        may then be written in part); or `out` does not fit.
    """
    if rows.ndim != 2 or rows.shape[1] == 0:
        message = f"expected rows of shape (n, d) with d > 0, found {rows.shape}"
        raise ValueError(message)
    count, dims = rows.shape
    values = np.ascontiguousarray(rows, dtype=np.float32).reshape(-1)
    text = _output(count * row_bytes(dims), out)
    if _format_compiled is not None:
        if not _format_compiled(values, text, dims):
            raise ValueError(_BEYOND)
        return text
    records = text.view(_RECORD)
    heads, tails = records["head"], records["tail"]
    wide, narrow = _working.arrays(min(values.size, _BLOCK_VALUES))
    for start in range(0, values.size, _BLOCK_VALUES):
        block = slice(start, start + _BLOCK_VALUES)
        some = values[block]
        _format_values(some, heads[block], tails[block], wide[:, : some.size], narrow[:, : some.size])
    text.reshape(count, row_bytes(dims))[:, -1] = ord("\n")
    return text


def format_nan_row(dims: int) -> bytes:
    """Return the line of a refused row: `dims` times `nan`, as wide as any row."""
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
    return b"".join((b"[", format_rows(row[np.newaxis])[:-1].data, b"]"))


def format_json_rows(rows: npt.NDArray[np.float32]) -> bytes:
    """Format rows, shape (n, d), as a JSON array of arrays, with the digits `format_rows` writes."""
    text = format_rows(rows).data
    width = row_bytes(rows.shape[1])
    lines = [text[end - width : end - 1] for end in range(width, len(text) + 1, width)]
    return b"[[" + b"],[".join(lines) + b"]]" if lines else b"[]"


def _output(size: int, out: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """Return `out` if text of `size` bytes can be written there, or new memory for None."""
    if out is None:
        return np.empty(size, dtype=np.uint8)
    flags = out.flags
    if out.dtype != np.uint8 or out.shape != (size,) or not (flags.c_contiguous and flags.writeable):
        message = (
            f"expected out: contiguous writable uint8 of shape ({size},), found {out.dtype} of shape "
            f"{out.shape}, strides {out.strides}, {'writable' if flags.writeable else 'read-only'}"
        )
        raise ValueError(message)
    return out


def _format_values(
    values: npt.NDArray[np.float32],
    heads: npt.NDArray[np.uint64],
    tails: npt.NDArray[np.uint32],
    wide: npt.NDArray[np.uint64],
    narrow: npt.NDArray[np.uint32],
) -> None:
    """Write the two words of each value, shape (m,), into `heads` and `tails`, which are strided.

    `wide` and `narrow`, shapes (2, m), are working arrays. All steps but the two stores run over contiguous
    memory, and names that share memory are never needed at the same time: a smaller set is a faster one.
    """
    first, last = narrow
    scaled, index = wide[0].view(np.float64), wide[0].view(np.intp)
    head = wide[1]
    spare = head.view(np.uint32)[: values.size]
    magnitudes = spare.view(np.float32)

    np.abs(values, out=magnitudes)
    largest = float(magnitudes.max())
    if not largest <= 1.0:  # NaN comes here too
        if not largest <= _LARGEST:
            raise ValueError(_BEYOND)
        np.minimum(magnitudes, _ONE, out=magnitudes)

    # 24 bits times 1e8 = 2**8 * 390625 has 43 bits: exact in float64, so ties round as in '%.8f'.
    np.copyto(scaled, magnitudes)
    np.multiply(scaled, _SCALE, out=scaled)
    np.rint(scaled, out=scaled)
    # By way of int32: processors have an instruction for that, and few have one for uint32.
    np.copyto(last.view(np.int32), scaled, casting="unsafe")
    np.floor_divide(last, _TAIL_BASE, out=first)
    np.multiply(first, _TAIL_BASE, out=spare)
    np.subtract(last, spare, out=last)

    # All indices are in range, which take() need not check; "wrap" costs least then. It wants them as intp.
    np.copyto(index, last)
    _TAILS.take(index, out=last, mode="wrap")
    np.copyto(tails, last)

    # The sign is read from its bit, so that what rounds to zero keeps it, as in '%.8f'.
    np.right_shift(values.view(np.uint32), _SIGN_BIT, out=spare)
    np.multiply(spare, _NEGATIVE_HEADS, out=spare)
    np.add(first, spare, out=first)
    np.copyto(index, first)
    _HEADS.take(index, out=head, mode="wrap")
    np.copyto(heads, head)
