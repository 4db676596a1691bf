"""Parquet: batches of rows; columns of vectors become arrays, not lists of Python numbers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

from debugger.formats.records import Record, unreadable
from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_BATCH_ROWS: Final = 1_000
_REMEDY: Final = "Expected a Parquet file with one row for each text or vector; write it again."


class Parquet:
    """A Parquet file.

    Parameters
    ----------
    path
        The file.
    """

    format: ClassVar[str] = "parquet"
    ending: ClassVar[str] = ".parquet"
    unit: ClassVar[str] = "row"

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as file:
            self._fields = list(file.schema_arrow.names)

    def fields(self) -> list[str]:
        """Names of the columns."""
        return self._fields

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self._path, pre_buffer=False) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise unreadable(self._path, reason, _REMEDY) from error

    def records(self, fields: tuple[str, ...] | None = None) -> Iterator[Record]:
        """Read the rows; only these columns where they are named."""
        with self._opened() as file:
            yield from self._read(file, fields)

    @staticmethod
    def _read(file: Any, fields: tuple[str, ...] | None) -> Iterator[Record]:
        number = 0
        names = None if fields is None else list(fields)
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
            columns = {name: _values(batch.column(name)) for name in batch.schema.names}
            for row in range(batch.num_rows):
                yield Record(number, number + 1, {name: values[row] for name, values in columns.items()})
                number += 1

    def rewrite(self, target: Path, keep: Callable[[int], bool], change: Callable[[Record], Any]) -> int:
        """Write the rows again with the same schema; only changed values are touched."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        written = number = 0
        with self._opened() as file, pq.ParquetWriter(target, file.schema_arrow) as out:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                numbers = range(number, number + batch.num_rows)
                number += batch.num_rows
                plain = {name: _values(batch.column(name)) for name in batch.schema.names}
                changes = [
                    change(Record(one, one + 1, {name: values[row] for name, values in plain.items()})) or {}
                    if keep(one)
                    else {}
                    for row, one in enumerate(numbers)
                ]
                columns = []
                for name in batch.schema.names:
                    column = batch.column(name)
                    if any(name in changed for changed in changes):
                        values = column.to_pylist()
                        for row, changed in enumerate(changes):
                            values[row] = changed.get(name, values[row])
                        column = _typed(values, column.type, name)
                    columns.append(column)
                kept = pa.array([keep(one) for one in numbers], type=pa.bool_())
                rows = pa.RecordBatch.from_arrays(columns, schema=batch.schema).filter(kept)
                out.write_batch(rows)
                written += rows.num_rows
        return written


def _typed(values: list[Any], of: Any, name: str) -> Any:
    """An array of a column's own type; raises `InputError` for values that do not fit it."""
    import pyarrow as pa

    try:
        return pa.array(values, type=of)
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(
            f"A reviewed value does not fit the column {name}, whose type is {of}: {error}.",
            remedy="Relabel the rows with labels of that type, or import a file with another type.",
        ) from error


def _values(column: Any) -> Any:
    """Values of a column by row: arrays for lists of numbers, Python's own for everything else."""
    import pyarrow.types as kinds

    of = column.type
    if (kinds.is_list(of) or kinds.is_large_list(of) or kinds.is_fixed_size_list(of)) and (
        kinds.is_floating(of.value_type) or kinds.is_integer(of.value_type)
    ):
        return column.to_numpy(zero_copy_only=False)
    return column.to_pylist()
