"""A Parquet file of short rows: one column of lists, or a column a value; read a batch at a time.

Nulls and lists of another length are refused rows; the other rules are those of numbers anywhere.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from embup_core.batch.arrow import first_line, load_arrow
from embup_core.batch.input_file import DescriptorFile
from embup_core.batch.number_block import NumberBlock, Refusal, shown
from embup_core.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BATCH_ROWS: Final = 1024
_BUFFER_BYTES: Final = 64 * 1024
_NAMES_SHOWN: Final = 5

# Rows before the first one wanted are decoded in steps of milliseconds, so that a caller can do other work.
_BATCHES_SKIPPED_A_STEP: Final = 16

Numbers = npt.NDArray[Any]


class ParquetReader:
    """Reads the rows of an open Parquet file.

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
        It is no Parquet file, or which of its columns hold the rows is not clear.
    """

    def __init__(
        self, path: Path, descriptor: int, *, dims: int, chunk_rows: int, first_row: int = 0
    ) -> None:
        self._path = path
        self._dims = dims
        self._chunk_rows = chunk_rows
        self._row = first_row
        self._size_bytes = os.fstat(descriptor).st_size
        self._values: Numbers = np.empty((0, dims), dtype=np.float32)
        self._refused: dict[int, Refusal] = {}
        self._arrow = load_arrow()
        with self._explained():
            source = self._arrow.PythonFile(DescriptorFile(descriptor), mode="r")
            file = self._arrow.parquet.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            self._rows: int = file.metadata.num_rows
            self._columns = _columns(path, file.schema_arrow, dims, self._arrow.types)
            self._batches, self._to_skip = self._batches_from(file, first_row)

    def _batches_from(self, file: Any, first_row: int) -> tuple[Iterator[Any], int]:
        """Return batches of rows, and how many of their rows come before the first one wanted."""
        groups = range(file.metadata.num_row_groups)
        ends = np.cumsum([file.metadata.row_group(group).num_rows for group in groups], dtype=np.int64)
        first_group = int(np.searchsorted(ends, first_row, side="right"))
        rows_before = int(ends[first_group - 1]) if first_group else 0
        batches = file.iter_batches(
            batch_size=_BATCH_ROWS,
            row_groups=list(groups[first_group:]),
            columns=self._columns,
            use_threads=False,
        )
        return batches, first_row - rows_before

    @property
    def exhausted(self) -> bool:
        """Whether no row is left."""
        return self._row >= self._rows

    def read_block(self) -> NumberBlock | None:
        """Return the next rows, or None after the last one.

        Raises
        ------
        InputFileError
            The file is damaged, or cannot be read.
        """
        if self.exhausted:
            return None
        batches_skipped = 0
        wanted_rows = min(self._chunk_rows, self._rows - self._row)
        while len(self._values) < wanted_rows:
            if batches_skipped == _BATCHES_SKIPPED_A_STEP:
                return self._take(0)
            batches_skipped += self._to_skip > 0
            self._read_batch()
        return self._take(wanted_rows)

    def estimated_rows(self) -> int:
        """Return how many rows there are, which the file says."""
        return self._rows

    def most_rows(self, block_end: int) -> int:
        """Return how many rows follow."""
        return self._rows - block_end

    def _take(self, count: int) -> NumberBlock:
        """Return the first rows that are in memory, and forget them."""
        values, self._values = self._values[:count], self._values[count:]
        refused = {index: refusal for index, refusal in self._refused.items() if index < count}
        self._refused = {index - count: refusal for index, refusal in self._refused.items() if index >= count}
        first, self._row = self._row, self._row + count
        return NumberBlock(values, refused, first, self._size_bytes * self._row // self._rows)

    def _read_batch(self) -> None:
        """Bring the next batch into memory, less what is to be skipped."""
        with self._explained():
            batch = next(self._batches, None)
            if batch is None:
                raise InputFileError(
                    f"{self._path} is damaged: it speaks of {self._rows} rows and ends before.",
                    remedy="Write it again.",
                )
            skipped_rows = min(self._to_skip, batch.num_rows)
            self._to_skip -= skipped_rows
            batch = batch.slice(skipped_rows)
            if not batch.num_rows:
                return
            values, refused = self._numbers(batch)
        waiting = len(self._values)
        self._refused |= {waiting + index: refusal for index, refusal in refused.items()}
        self._values = np.concatenate([self._values, values]) if waiting else values

    def _numbers(self, batch: Any) -> tuple[Numbers, dict[int, Refusal]]:
        """Return a batch's values, shape (rows, dims), and which of its rows are none."""
        columns = [batch.column(batch.schema.get_field_index(name)) for name in self._columns]
        if len(columns) == 1:
            return _from_lists(columns[0], self._dims, self._arrow)
        values = np.column_stack([_to_numpy(column) for column in columns])
        nulls = np.column_stack([column.is_null().to_numpy(zero_copy_only=False) for column in columns])
        refused = {
            int(index): _null_value(values[index], nulls[index])
            for index in np.flatnonzero(nulls.any(axis=1))
        }
        return values, refused

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Put into words what Arrow says."""
        try:
            yield
        except (self._arrow.ArrowException, OSError, ValueError, LookupError) as error:
            # The last two: names that are no text, lists that lead nowhere.
            if isinstance(error, OSError) and error.errno is not None:
                message = f"{self._path} cannot be read: {error.strerror}."
                raise InputFileError(message, remedy="Check the disk it lies on.") from error
            raise InputFileError(
                f"{self._path}: expected a whole Parquet file, found something else ({first_line(error)}).",
                remedy="Write it again, or give the file the ending of what it holds.",
            ) from error


def _columns(path: Path, schema: Any, dims: int, types: Any) -> list[str]:
    """Return the names of the columns that hold the rows: one of lists, or one a value."""
    lists = [field.name for field in schema if _is_list_of_numbers(field.type, dims, types)]
    numbers = [field.name for field in schema if _is_number(field.type, types)]
    names = schema.names
    fitting = []
    if len(lists) == 1:
        fitting = lists
    elif not lists and len(numbers) == dims:
        fitting = numbers
    # Arrow reads columns by name.
    if fitting and all(names.count(name) == 1 for name in fitting):
        return fitting
    raise InputFileError(
        f"{path}: expected one column of lists of {dims} numbers, or exactly {dims} columns of numbers; found"
        f" {_counted(lists, 'column of lists', 'columns of lists')} and"
        f" {_counted(numbers, 'column of numbers', 'columns of numbers')} among {len(names)}.",
        remedy="Write a file of the embeddings alone.",
    )


def _counted(names: list[str], one: str, many: str) -> str:
    if not names:
        return f"no {one}"
    some = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    return f"{len(names)} {one if len(names) == 1 else many} ({some}{', …' * (len(names) > _NAMES_SHOWN)})"


def _is_number(kind: Any, types: Any) -> bool:
    return bool(types.is_floating(kind) or types.is_integer(kind))


def _is_list_of_numbers(kind: Any, dims: int, types: Any) -> bool:
    kind = getattr(kind, "storage_type", kind)  # a tensor of a fixed shape is stored as a list
    if types.is_fixed_size_list(kind):
        return kind.list_size == dims and _is_number(kind.value_type, types)
    return bool(types.is_list(kind) or types.is_large_list(kind)) and _is_number(kind.value_type, types)


def _from_lists(column: Any, dims: int, arrow: Any) -> tuple[Numbers, dict[int, Refusal]]:
    """Return the values of a column of lists, and which of its rows are none."""
    column = getattr(column, "storage", column)
    rows = len(column)
    if arrow.types.is_fixed_size_list(column.type):
        starts = np.arange(column.offset, column.offset + rows, dtype=np.int64) * dims
        lengths = np.full(rows, dims)
    else:
        offsets = column.offsets.to_numpy().astype(np.int64)
        starts, lengths = offsets[:-1], np.diff(offsets)
    values, value_nulls = _to_numpy(column.values), column.values.is_null().to_numpy(zero_copy_only=False)
    null = column.is_null().to_numpy(zero_copy_only=False)
    whole = (lengths == dims) & ~null
    places = starts[whole, None] + np.arange(dims)
    found = np.zeros((rows, dims), dtype=values.dtype)
    found[whole] = values[places]
    with_null = np.zeros((rows, dims), dtype=bool)
    with_null[whole] = value_nulls[places]
    refused: dict[int, Refusal] = {}
    for index in np.flatnonzero(~whole).tolist():
        if null[index]:
            refused[index] = Refusal(f"expected {dims} numbers, found null", "null")
            continue
        raw = shown(values[starts[index] : starts[index] + lengths[index]])
        refused[index] = Refusal(f"expected {dims} numbers, found {lengths[index]}", raw)
    for index in np.flatnonzero(with_null.any(axis=1)).tolist():
        refused[index] = _null_value(found[index], with_null[index])
    return found, refused


def _to_numpy(values: Any) -> Numbers:
    """Return an array's numbers as floats; what stands for a null means nothing."""
    found: Numbers = values.to_numpy(zero_copy_only=False)
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def _null_value(values: Numbers, nulls: npt.NDArray[np.bool_]) -> Refusal:
    position = int(np.flatnonzero(nulls)[0])
    raw = shown(["null" if null else value for value, null in zip(values, nulls, strict=True)])
    return Refusal(f"value {position + 1}: null is not a number", raw)
