"""Ids and payload columns of a Parquet file, read in step with the rows of an input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from embup_core.batch.arrow import first_line, load_arrow
from embup_core.batch.checkpoint import InputFingerprint
from embup_core.batch.inputs.input_file import DescriptorFile, open_input, require_unchanged
from embup_core.errors import InputFileError
from embup_core.files.readable import close_file
from embup_core.stores.store import OWN_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BATCH_ROWS: Final = 1024


class PayloadColumns:
    """Columns of a Parquet file, from a given row on.

    Parameters
    ----------
    path
        The file: a row for each row of the input, in the same order.
    id_column
        Column of integers or texts that are the rows' ids; None: there is none.
    columns
        Names of the payload's columns.

    Attributes
    ----------
    rows
        How many the file has.
    fingerprint
        Of the file.
    id_type
        Arrow's type of the ids; None without an id column.
    fields
        Arrow's fields of the payload.

    Raises
    ------
    InputFileError
        It is no Parquet file, has no such column, or one that no store takes.
    """

    def __init__(self, path: Path, *, id_column: str | None, columns: Sequence[str]) -> None:
        self._path = path
        self._arrow = arrow = load_arrow()
        self._id_column = id_column
        self._columns = list(dict.fromkeys(columns))
        self._input = open_input(path)
        try:
            self.fingerprint = InputFingerprint.of(self._input)
            stream = arrow.PythonFile(DescriptorFile(self._input), mode="r")
            self._file = arrow.parquet.ParquetFile(stream)
            self.rows: int = self._file.metadata.num_rows
            schema = self._file.schema_arrow
            self.fields = [arrow.field(name, self._payload_type(schema, name)) for name in self._columns]
            self.id_type = None if id_column is None else self._id_type(schema, id_column)
        except arrow.ArrowException as error:
            close_file(self._input)
            raise InputFileError(
                f"{path}: ids and payload are read from Parquet, and this is none ({first_line(error)}).",
                remedy="Give a Parquet file with --payload, with a row for each row of the input.",
            ) from error
        except BaseException:
            close_file(self._input)
            raise
        self._closed = False
        self._batches: Any = iter(())
        self._waiting: Any = None

    def _payload_type(self, schema: Any, name: str) -> Any:
        if name in OWN_COLUMNS:
            raise InputFileError(
                f"{self._path}: the payload cannot have a column {name!r}: an export has one of this name.",
                remedy="Rename the column.",
            )
        return self._type(schema, name)

    def _type(self, schema: Any, name: str) -> Any:
        """The type that a column is stored with."""
        arrow, types = self._arrow, self._arrow.types
        place = schema.get_field_index(name)
        if place < 0:
            raise InputFileError(
                f"{self._path}: expected the column {name!r}, found {', '.join(schema.names)}.",
                remedy="Name one of them, once.",
            )
        kind = schema.field(place).type
        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_string(kind) or types.is_large_string(kind):
            return arrow.string()
        if types.is_boolean(kind) or types.is_float32(kind) or types.is_float64(kind):
            return kind
        if types.is_float16(kind):
            return arrow.float32()
        if types.is_integer(kind):
            # Not every store has numbers without a sign.
            return kind if types.is_signed_integer(kind) else arrow.int64()
        raise InputFileError(
            f"{self._path}: expected texts, numbers or booleans in the column {name!r}, found {kind}.",
            remedy="Convert it, for example to text, or leave it out.",
        )

    def _id_type(self, schema: Any, name: str) -> Any:
        kind = self._type(schema, name)
        types = self._arrow.types
        if types.is_integer(kind):
            return self._arrow.int64()
        if types.is_string(kind):
            return kind
        raise InputFileError(
            f"{self._path}: expected integers or texts in the column of ids {name!r}, found {kind}.",
            remedy="Convert it.",
        )

    def start(self, row: int) -> None:
        """Go to a row, counted from 0."""
        names = self._columns + ([] if self._id_column is None else [self._id_column])
        before, groups = 0, self._file.metadata.num_row_groups
        first = 0
        while first < groups and before + self._file.metadata.row_group(first).num_rows <= row:
            before += self._file.metadata.row_group(first).num_rows
            first += 1
        self._batches = self._file.iter_batches(
            _BATCH_ROWS, row_groups=list(range(first, groups)), columns=sorted(set(names)), use_threads=False
        )
        self._waiting = None
        to_skip = row - before
        while to_skip:
            batch = next(self._batches)
            skipped = min(to_skip, batch.num_rows)
            to_skip -= skipped
            self._waiting = batch.slice(skipped)

    def take(self, count: int, *, first_row: int) -> tuple[Any, list[Any]]:
        """Return the next ids, None without an id column, and the next values of each column, as arrays.

        Parameters
        ----------
        count
            How many rows.
        first_row
            The number of the first one, from 0; for messages.

        Raises
        ------
        InputFileError
            There are fewer rows, it changed or cannot be read, or an id is null.
        """
        require_unchanged(self._path, self._input, self.fingerprint)
        arrow = self._arrow
        parts, there = [], 0
        try:
            while there < count:
                batch = self._waiting if self._waiting is not None else next(self._batches, None)
                self._waiting = None
                if batch is None:
                    raise InputFileError(
                        f"{self._path}: expected a row for each row of the input, found {first_row + there:,}"
                        ", and the input has more.",
                        remedy="Write both files with the same rows.",
                    )
                used = batch.slice(0, count - there)
                if used.num_rows < batch.num_rows:
                    self._waiting = batch.slice(used.num_rows)
                there += used.num_rows
                parts.append(used)
            table = arrow.Table.from_batches(parts).combine_chunks()
            ids = None
            if self._id_column is not None:
                ids = _flat(table[self._id_column].cast(self.id_type), arrow)
                if ids.null_count:
                    row = first_row + ids.is_null().index(True).as_py()
                    raise InputFileError(
                        f"{self._path}, row {row + 1}: expected an id, found null.",
                        remedy="Give each row an id.",
                    )
            return ids, [_flat(table[field.name].cast(field.type), arrow) for field in self.fields]
        except (arrow.ArrowException, OSError) as error:
            raise InputFileError(
                f"{self._path} cannot be read ({first_line(error)}).", remedy="Write it again."
            ) from error

    def close(self) -> None:
        """Close the file. Idempotent."""
        if not self._closed:
            close_file(self._input)
            self._closed = True


def _flat(column: Any, arrow: Any) -> Any:
    """One array of a column that may have several."""
    return column.chunk(0) if column.num_chunks == 1 else arrow.concat_arrays(column.chunks)
