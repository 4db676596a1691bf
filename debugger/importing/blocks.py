"""Rows of a file go into the tables, some thousand at a time; nothing longer is held."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from debugger.formats.fields import VECTORS
from debugger.formats.rows import Refused, RowReader
from debugger.store.database import insert
from debugger.store.schema import LABELS, REFUSED, ROWS
from debugger.store.vectors import VectorFile
from embup_core.errors import InputError, InputFileError, SourceError
from embup_core.sources.npy import FLOATS, read_npy_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import duckdb
    from numpy.typing import NDArray

    from debugger.formats.fields import FieldMap
    from debugger.formats.records import Record
    from debugger.formats.rows import Row
    from debugger.store.names import DatasetFolder
    from embup_core.progress import Progress

SHOWN_FAULTS: Final = 20
_BLOCK_ROWS: Final = 2_000
_BLOCK_SIZE: Final = 4_000_000  # characters of texts, and numbers of vectors
_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass
class ImportReport:
    """What an import did.

    Attributes
    ----------
    name
        Of the data set.
    rows, labelled
        How many were imported, and how many of them have a label.
    records
        How many the file holds.
    fields
        Field of the file by meaning.
    other_fields
        Fields without a meaning here.
    usages
        Rows by usage; None for those without.
    vectors
        Dimensions by name.
    same_ids
        Ids that several rows have.
    skipped
        How many records are no rows.
    faults
        The first of them.
    took_s
        Seconds.
    """

    name: str
    rows: int = 0
    labelled: int = 0
    records: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    other_fields: tuple[str, ...] = ()
    usages: dict[str | None, int] = field(default_factory=dict)
    vectors: dict[str, int] = field(default_factory=dict)
    same_ids: int = 0
    skipped: int = 0
    faults: list[Refused] = field(default_factory=list)
    took_s: float = 0.0


def open_vectors(path: Path) -> NDArray[Any]:
    """Map an ``.npy`` file of vectors, shape (records, d).

    Raises
    ------
    InputFileError
        It cannot be read, or holds something else.
    """
    try:
        header = read_npy_header(path, FLOATS)
    except SourceError as error:
        raise InputFileError(error.message, remedy=error.remedy) from error
    if len(header.shape) != 2 or not header.shape[1]:
        raise InputFileError(
            f"{path} has shape {header.shape}, expected (records, dimensions).",
            remedy="Give one vector a record.",
        )
    mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


class BlockImport:
    """Takes the records of one file in.

    Parameters
    ----------
    folder
        Of the new data set.
    fields
        What the records' fields mean.
    vectors
        Vectors of the records by name that are not in the file: shape (records, d) each, and their file.
    report
        Is filled.
    skip
        Whether rows are still stored after one was refused.
    """

    def __init__(
        self,
        folder: DatasetFolder,
        fields: FieldMap,
        vectors: Mapping[str, tuple[Path, NDArray[Any]]],
        report: ImportReport,
        *,
        skip: bool,
    ) -> None:
        self._reader = RowReader(fields)
        self._given = vectors
        self._report = report
        self._skip = skip
        self._files = {
            name: VectorFile(folder.vectors(name))
            for name in VECTORS
            if name in fields.paths or name in vectors
        }
        self._open = ExitStack()

    def __enter__(self) -> Self:
        for file in self._files.values():
            self._open.enter_context(file)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def run(
        self, connection: duckdb.DuckDBPyConnection, records: Iterator[Record], progress: Progress | None
    ) -> None:
        """Store the rows of all records."""
        report = self._report
        rows: list[Row] = []
        refused: list[Refused] = []
        size = 0
        for record in records:
            report.records += 1
            found = self._reader.read(record)
            if isinstance(found, Refused):
                report.skipped += 1
                if len(report.faults) < SHOWN_FAULTS:
                    report.faults.append(found)
                refused.append(found)
            elif self._skip or not report.skipped:
                rows.append(found)
                size += len(found.text or "") + sum(map(len, found.vectors.values()))
            if len(rows) >= _BLOCK_ROWS or len(refused) >= _BLOCK_ROWS or size > _BLOCK_SIZE:
                self._store(connection, rows, refused)
                rows, refused, size = [], [], 0
                if progress is not None:
                    progress(f"{report.records:,} records", report.records, None)
        self._store(connection, rows, refused)
        for name, (path, given) in self._given.items():
            if len(given) != report.records:
                raise _other_count(name, path, len(given), f"{report.records:,}")

    def _store(self, connection: duckdb.DuckDBPyConnection, rows: list[Row], refused: list[Refused]) -> None:
        if refused and self._skip:
            columns = zip(*refused, strict=True)
            names = (column.name for column in REFUSED.columns)
            insert(
                connection, REFUSED, {name: list(column) for name, column in zip(names, columns, strict=True)}
            )
        if not rows:
            return
        first = self._report.rows
        numbers = np.arange(first, first + len(rows))
        insert(
            connection,
            ROWS,
            {
                "row": numbers,
                "record": [row.record for row in rows],
                "external_id": _strings(row.external_id for row in rows),
                "text": _strings(row.text for row in rows),
                "complete": [row.complete for row in rows],
                "usage": _strings(row.usage for row in rows),
                "given_score": _numbers(row.score for row in rows),
                "group_name": _strings(row.group for row in rows),
            },
        )
        labels = [(int(number), row.label) for number, row in zip(numbers, rows, strict=True) if row.label]
        if labels:
            insert(
                connection,
                LABELS,
                {"row": [number for number, _ in labels], "label": _strings(label for _, label in labels)},
            )
        for name, file in self._files.items():
            if name in self._given:
                file.add_block(self._given_block(name, [row.record for row in rows]))
            else:
                file.add([row.vectors.get(name) for row in rows])
        self._report.rows += len(rows)
        self._report.labelled += len(labels)

    def _given_block(self, name: str, records: list[int]) -> NDArray[np.float32]:
        path, given = self._given[name]
        if records[-1] >= len(given):
            raise _other_count(name, path, len(given), f"at least {records[-1] + 1:,}")
        block = np.asarray(given[records], dtype=np.float64)  # (b, d)
        missing = np.isnan(block).all(axis=1)
        wrong = ~missing & ~(np.abs(block) <= _LARGEST).all(axis=1)
        if wrong.any():
            row = records[int(np.flatnonzero(wrong)[0])]
            raise InputFileError(
                f"{path}, row {row}: expected finite numbers, found others.",
                remedy="Correct the row, or make all of it NaN where it has no vector.",
            )
        return block.astype(np.float32)

    def finish(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Complete the files of vectors and the report."""
        report = self._report
        report.vectors = {name: file.dims for name, file in self._files.items() if file.close()}
        report.usages = dict(
            connection.execute("SELECT usage, count(*) FROM rows GROUP BY usage ORDER BY usage").fetchall()
        )
        found = connection.execute(
            "SELECT count(*) FROM (SELECT external_id FROM rows WHERE external_id IS NOT NULL"
            " GROUP BY external_id HAVING count(*) > 1)"
        ).fetchall()
        report.same_ids = int(found[0][0])


def _other_count(name: str, path: Path, vectors: int, records: str) -> InputError:
    return InputFileError(
        f"{path} has {vectors:,} vectors for {name}, and the file {records} records.",
        remedy="Give one vector for each record, in their order.",
    )


def _strings(values: Iterator[str | None]) -> Any:
    import pyarrow as pa

    return pa.array(values, type=pa.string())


def _numbers(values: Iterator[float | None]) -> Any:
    import pyarrow as pa

    return pa.array(values, type=pa.float64())
