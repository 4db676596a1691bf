"""Convert bare rows to a Parquet file, some thousand rows a step, in constant memory.

A Parquet file cannot be cut at a row, so rows grow in a part file and are converted at the end; after a crash
the conversion starts again. The same rows give the same bytes.

Refused rows are lists of NaN, as in the other formats, not nulls: what flattens the column to an array leaves
nulls out, and every row behind one would change its place.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from embup_core.batch.arrow import first_line, load_arrow
from embup_core.errors import OutputError

if TYPE_CHECKING:
    from embup_core.batch.outputs.part_file import PartFile

COLUMN: Final = "embedding"
ROW_GROUP_ROWS: Final = 4096


class ParquetConversion:
    """Makes a Parquet file of one column, `embedding`: lists of float32, all of one length.

    Parameters
    ----------
    rows
        The bare rows: little-endian float32. They stay as they are.
    target
        The empty file to write; the caller closes it.
    count, dims
        How many rows there are, and values of a row.
    """

    def __init__(self, rows: PartFile, target: PartFile, *, count: int, dims: int) -> None:
        self._rows = rows
        self._count = count
        self._dims = dims
        self._done = 0
        self._sink = _PartSink(target)
        self._arrow = arrow = load_arrow()
        kind = arrow.list_(arrow.field("element", arrow.float32(), nullable=False), dims)
        self._schema = arrow.schema([arrow.field(COLUMN, kind, nullable=False)])
        # Digits of unit vectors are as good as random: neither dictionaries nor compression find anything.
        self._writer = arrow.parquet.ParquetWriter(
            arrow.PythonFile(self._sink, mode="w"),
            self._schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
        )

    @property
    def finished(self) -> bool:
        """Whether the file is whole."""
        return not self._writer.is_open

    def step(self) -> None:
        """Write the next row group, or the end of the file after the last one.

        Raises
        ------
        OutputError
            The rows cannot be read, or the file cannot be written.
        """
        try:
            if self._done >= self._count:
                self._writer.close()
                return
            rows = min(ROW_GROUP_ROWS, self._count - self._done)
            self._writer.write_table(self._next_rows(rows), row_group_size=rows)
            self._done += rows
        except (self._arrow.ArrowException, OSError) as error:
            raise OutputError(
                f"{self._sink.part.path} cannot be written: {first_line(error)}.", remedy="Run it again."
            ) from error

    def close(self) -> None:
        """Close, finished or not; the file stays open. Idempotent."""
        self._sink.deaf = True
        with suppress(self._arrow.ArrowException, OSError):
            self._writer.close()

    def _next_rows(self, rows: int) -> Any:
        row_bytes = 4 * self._dims
        data = self._rows.read(rows * row_bytes, self._done * row_bytes)
        if len(data) != rows * row_bytes:
            raise OutputError(
                f"{self._rows.path} was cut by another program: expected {self._count} rows.",
                remedy="Keep other programs from that file, and start the batch again.",
            )
        # From buffers: given NumPy arrays, Arrow tries to import pandas.
        arrow = self._arrow
        values = arrow.Array.from_buffers(
            arrow.float32(), rows * self._dims, [None, arrow.py_buffer(data)], null_count=0
        )
        kind = self._schema.field(COLUMN).type
        lists = arrow.Array.from_buffers(kind, rows, [None], null_count=0, children=[values])
        return arrow.Table.from_arrays([lists], schema=self._schema)


class _PartSink(io.RawIOBase):
    """File object over a part file, for Arrow."""

    def __init__(self, part: PartFile) -> None:
        self.part = part
        self.deaf = False  # an abandoned writer still writes its footer

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.part.size_bytes

    def write(self, data: Any) -> int:
        if not self.deaf:
            self.part.append(data)
        return len(data)
