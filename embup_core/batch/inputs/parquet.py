"""Rows of a Parquet file: one column of lists, or a column for each value; read a batch at a time.

Nulls and lists of another length are refused rows; the other rules are those of `NumberBlock`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from embup_core.batch.arrow import first_line, load_arrow
from embup_core.batch.inputs.columns import AmbiguousColumnsError, choose_columns, notices_of
from embup_core.batch.inputs.input_file import DescriptorFile
from embup_core.batch.inputs.number_block import NumberBlock, Refusal, shown
from embup_core.errors import InputFileError
from embup_core.files.readable import status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.batch.inputs.input_file import OpenInput

_BATCH_ROWS: Final = 1024
_BUFFER_BYTES: Final = 64 * 1024
_ROWS_SAMPLED: Final = 64

# Rows before the first one are decoded in steps of milliseconds, so that a caller can do other work between.
_BATCHES_SKIPPED_A_STEP: Final = 16

Numbers = npt.NDArray[Any]


class ParquetReader:
    """Reads the rows of an open Parquet file.

    Parameters
    ----------
    source
        The file, and where to start in it.

    Attributes
    ----------
    notices
        What a user should know of how the columns were chosen.

    Raises
    ------
    InputFileError
        It is not a Parquet file, or it is not clear which of its columns hold the rows.
    """

    def __init__(self, source: OpenInput) -> None:
        self._path = source.path
        self._dims = source.input_dims
        self._chunk_rows = source.chunk_rows
        self._row = source.first_row
        self._size_bytes = status_of(source.descriptor).st_size
        self._values: Numbers = np.empty((0, self._dims), dtype=np.float32)
        self._refused: dict[int, Refusal] = {}
        self._arrow = load_arrow()
        with self._explained():
            stream = self._arrow.PythonFile(DescriptorFile(source.descriptor), mode="r")
            file = self._arrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            self._rows: int = file.metadata.num_rows
            self._columns, self.notices = _columns(self._path, file, self._dims, self._arrow)
            self._batches, self._to_skip = self._batches_from(file, source.first_row)

    def _batches_from(self, file: Any, first_row: int) -> tuple[Iterator[Any], int]:
        """Return batches of rows, and how many of their rows come before the first one."""
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
        """Return the number of rows in the footer."""
        return self._rows

    def most_rows(self, block_end: int) -> int:
        """Return how many rows follow."""
        return self._rows - block_end

    def _take(self, count: int) -> NumberBlock:
        """Return the first rows in memory, and drop them."""
        values, self._values = self._values[:count], self._values[count:]
        refused = {index: refusal for index, refusal in self._refused.items() if index < count}
        self._refused = {index - count: refusal for index, refusal in self._refused.items() if index >= count}
        first, self._row = self._row, self._row + count
        return NumberBlock(values, refused, first, self._size_bytes * self._row // self._rows)

    def _read_batch(self) -> None:
        """Read the next batch, less the rows to skip."""
        with self._explained():
            batch = next(self._batches, None)
            if batch is None:
                raise InputFileError(
                    f"{self._path} is damaged: its footer promises {self._rows} rows, and it ends before.",
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
        """Return a batch's values, shape (rows, dims), and its refused rows."""
        columns = [batch.column(batch.schema.get_field_index(name)) for name in self._columns]
        if len(columns) == 1:
            return _from_lists(columns[0], self._dims, self._arrow)
        values = np.column_stack([_to_numpy(column, self._arrow) for column in columns])  # (rows, dims)
        nulls = np.column_stack([column.is_null().to_numpy(zero_copy_only=False) for column in columns])
        refused = {
            int(index): _null_value(values[index], nulls[index])
            for index in np.flatnonzero(nulls.any(axis=1))
        }
        return values, refused

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of Arrow into those of an input file."""
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


def _columns(path: Path, file: Any, dims: int, arrow: Any) -> tuple[list[str], tuple[str, ...]]:
    """Return the names of the columns that hold the rows, in the order of the values, and the notices."""
    schema, types = file.schema_arrow, arrow.types
    names: list[str] = schema.names
    once = [field for field in schema if names.count(field.name) == 1]  # Arrow reads columns by name
    numbers = [field.name for field in once if _is_number(field.type, types)]
    lists = {field.name: None for field in once if _is_list_of_numbers(field.type, types)}
    try:
        chosen = choose_columns(
            _lengths(file, lists, arrow, alone=len(lists) == 1 and not numbers), numbers, dims
        )
    except AmbiguousColumnsError as error:
        _refuse_packed_lists(path, file, dims, types)
        raise InputFileError(
            f"{path}: expected one column of lists of {dims} numbers, or {dims} columns of numbers with"
            f" numbered names; found {error} among {len(names)}.",
            remedy="Write the vectors as one column of lists, or name the columns dim_0, dim_1, …",
        ) from error
    if isinstance(chosen, str):
        kind = _storage(schema.field(chosen).type)
        if types.is_fixed_size_list(kind) and kind.list_size != dims:
            raise InputFileError(
                f"{path}: expected lists of {dims} numbers, found lists of {kind.list_size} in the column"
                f" {chosen!r}.",
                remedy="Write the projected embeddings, not the originals.",
            )
        return [chosen], notices_of(names, [names.index(chosen)])
    ordered = [numbers[place] for place in chosen]
    return ordered, notices_of(names, [names.index(name) for name in ordered])


def _lengths(file: Any, names: dict[str, None], arrow: Any, *, alone: bool) -> dict[str, int | None]:
    """Return the length of the first list of each column; None if there is none, or one candidate alone."""
    lengths: dict[str, int | None] = dict(names)
    open_names = []
    for name in names:
        kind = _storage(file.schema_arrow.field(name).type)
        if arrow.types.is_fixed_size_list(kind):
            lengths[name] = kind.list_size
        else:
            open_names.append(name)
    if alone:
        return lengths  # of any length: each row says so, and none is read twice
    for name, column in _first_rows(file, open_names).items():
        found = (len(one) for one in column if one.is_valid)
        lengths[name] = next(found, None)
    return lengths


def _first_rows(file: Any, names: list[str]) -> dict[str, Any]:
    """Return some rows of columns; without a row, none."""
    if not names:
        return {}
    batches = file.iter_batches(batch_size=_ROWS_SAMPLED, columns=names, use_threads=False)
    batch = next(batches, None)
    if batch is None:
        return {}
    return {name: batch.column(batch.schema.get_field_index(name)) for name in names}


def _refuse_packed_lists(path: Path, file: Any, dims: int, types: Any) -> None:
    """Refuse columns whose cells are lists in text or in bytes with an error of their own."""
    texts = [
        field.name
        for field in file.schema_arrow
        if types.is_string(field.type) or types.is_large_string(field.type)
    ]
    for name, column in _first_rows(file, texts).items():
        first = next((str(one).strip() for one in column if one.is_valid), "")
        if first.startswith(("[", "{", "(")):
            raise InputFileError(
                f"{path}: the column {name!r} holds lists as text ({first[:20]}…), expected lists of {dims}"
                " numbers.",
                remedy="Parse it before writing, for example with json.loads, and write lists of floats.",
            )
    for field in file.schema_arrow:
        if types.is_binary(field.type) or types.is_fixed_size_binary(field.type):
            raise InputFileError(
                f"{path}: the column {field.name!r} holds bytes, expected lists of {dims} numbers.",
                remedy="Unpack it before writing, for example with numpy.frombuffer, into lists of floats.",
            )


def _storage(kind: Any) -> Any:
    return getattr(kind, "storage_type", kind)  # a tensor of a fixed shape is stored as a list


def _is_number(kind: Any, types: Any) -> bool:
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind))


def _is_list_of_numbers(kind: Any, types: Any) -> bool:
    kind = _storage(kind)
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(lists) and _is_number(kind.value_type, types)


def _from_lists(column: Any, dims: int, arrow: Any) -> tuple[Numbers, dict[int, Refusal]]:
    """Return the values of a column of lists, shape (rows, dims), and its refused rows."""
    column = getattr(column, "storage", column)
    rows = len(column)
    if arrow.types.is_fixed_size_list(column.type):
        starts = np.arange(column.offset, column.offset + rows, dtype=np.int64) * dims
        lengths = np.full(rows, dims)
    else:
        offsets = column.offsets.to_numpy().astype(np.int64)
        starts, lengths = offsets[:-1], np.diff(offsets)
    values, value_nulls = (
        _to_numpy(column.values, arrow),
        column.values.is_null().to_numpy(zero_copy_only=False),
    )
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


def _to_numpy(values: Any, arrow: Any) -> Numbers:
    """Return an array's numbers as floats; the values of nulls are undefined."""
    if arrow.types.is_decimal(values.type):
        values = values.cast(arrow.float64())
    found: Numbers = values.to_numpy(zero_copy_only=False)
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def _null_value(values: Numbers, nulls: npt.NDArray[np.bool_]) -> Refusal:
    position = int(np.flatnonzero(nulls)[0])
    raw = shown(["null" if null else value for value, null in zip(values, nulls, strict=True)])
    return Refusal(f"value {position + 1}: null is not a number", raw)
