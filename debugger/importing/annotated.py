"""Import of rows that people gave labels.

The data set keeps a copy of the file, from which exports are made: what has no meaning here is not lost.
"""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from debugger.formats.fields import VECTORS, FieldMap, choose_fields
from debugger.formats.opening import open_records
from debugger.importing.blocks import BlockImport, ImportReport, open_vectors
from debugger.importing.folder import new_dataset_folder, take_in
from debugger.store.database import insert, new_database
from debugger.store.names import ANNOTATED, DatasetFolder
from debugger.store.schema import DATASET, OF_DATASET, SCHEMA_VERSION
from embup_core.errors import InputError, InputFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from debugger.formats.records import RecordFile
    from debugger.formats.rows import Refused
    from embup_core.progress import Progress

SAMPLED_RECORDS: Final = 200
SAMPLED_SIZE: Final = 16 << 20
"""Characters, and numbers of vectors, after which a sample of records ends."""
SKIP_REMEDY: Final = "Correct them, or import the others with --on-bad-row skip."


def preview_fields(
    file: Path,
    *,
    fields: Mapping[str, str] | None = None,
    file_format: str | None = None,
    vectors: Mapping[str, Path] | None = None,
) -> FieldMap:
    """Which field would mean what, without an import; parameters and errors are those of the import."""
    given = _opened(vectors or {})
    with tempfile.TemporaryDirectory(prefix="embup-") as folder:
        copy, _, called = take_in(file, Path(folder))
        return _chosen(
            open_records(copy, name=called, chosen=file_format), fields or {}, has_vectors=bool(given)
        )


def import_annotated(
    file: Path,
    data: Path,
    name: str,
    *,
    fields: Mapping[str, str] | None = None,
    file_format: str | None = None,
    vectors: Mapping[str, Path] | None = None,
    skip_bad_rows: bool = False,
    on_fields: Callable[[FieldMap], None] | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import a file of annotated rows as a new data set.

    Parameters
    ----------
    file
        JSON (an array of objects, or one a line), CSV, Parquet; or a zip archive with one such file.
    data
        The data folder; the data set becomes ``debug/NAME`` in it.
    name
        Of the new data set.
    fields
        Field by meaning (`debugger.formats.fields.NAMES`), where the usual names do not do; an empty one
        leaves a meaning out.
    file_format
        ``json``, ``jsonl``, ``csv`` or ``parquet``; by default told from the file.
    vectors
        ``.npy`` files of vectors by name, ``embedding`` or ``projected``: shape (records, d) each.
    skip_bad_rows
        Whether records that are no rows are listed in the report instead of ending the import.
    on_fields
        Called with the fields before any row is imported.
    progress
        Called with a label, records done, and None.

    Raises
    ------
    InputError
        The file cannot be read, has records that are no rows, or the name is taken. Nothing is imported.
    OutputError
        The data set cannot be written.
    """
    started_s = time.perf_counter()
    given = _opened(vectors or {})
    with new_dataset_folder(data, name) as folder:
        copy, digest, called = take_in(file, folder)
        records = open_records(copy, name=called, chosen=file_format)
        chosen = _chosen(records, fields or {}, has_vectors=bool(given))
        if on_fields is not None:
            on_fields(chosen)
        report = ImportReport(name, fields=chosen.to_json(), other_fields=chosen.others)
        new = DatasetFolder(folder)
        work = BlockImport(new, chosen, given, report, skip=skip_bad_rows)
        with new_database(new.dataset, OF_DATASET) as connection, work:
            work.run(connection, records.records(chosen.columns(records.fields())), progress)
            if report.skipped and not skip_bad_rows:
                raise _faults(file, report, records)
            if not report.rows:
                raise InputFileError(f"{file} has no rows.", remedy="Give a file with at least one row.")
            work.finish(connection)
            described: dict[str, Any] = {
                "schema_version": SCHEMA_VERSION,
                "name": name,
                "kind": ANNOTATED,
                "source": file.name,
                "format": records.format,
                "sha256": digest,
                "fields": json.dumps(report.fields),
                "vectors": json.dumps(report.vectors),
                "records": report.records,
                "skipped": report.skipped,
                "imported_at": datetime.now(UTC).replace(tzinfo=None),
            }
            insert(connection, DATASET, {key: [value] for key, value in described.items()})
    report.took_s = time.perf_counter() - started_s
    return report


def _opened(vectors: Mapping[str, Path]) -> dict[str, tuple[Path, NDArray[Any]]]:
    """Files of vectors by name, mapped."""
    unknown = next((key for key in vectors if key not in VECTORS), None)
    if unknown is not None:
        raise InputError(
            f"Expected vectors named {' or '.join(VECTORS)}, found {unknown!r}.",
            remedy="Such as --vectors embedding=FILE.npy.",
        )
    return {key: (path, open_vectors(path)) for key, path in vectors.items()}


def _chosen(records: RecordFile, given: Mapping[str, str], *, has_vectors: bool = False) -> FieldMap:
    return choose_fields(_sample(records), given, header=records.fields(), has_vectors=has_vectors)


def _sample(records: RecordFile) -> list[Mapping[str, Any]]:
    sample = []
    size = 0
    for record in islice(records.records(), SAMPLED_RECORDS):
        if record.values is not None:
            sample.append(record.values)
            size += len(record.text) or sum(len(v) for v in record.values.values() if hasattr(v, "__len__"))
        if size > SAMPLED_SIZE:
            break
    return sample


def _faults(file: Path, report: ImportReport, records: RecordFile) -> InputFileError:
    lines = [f"  {_place(records, fault)}: {fault.reason}. {fault.remedy}" for fault in report.faults]
    more = report.skipped - len(report.faults)
    if more:
        lines.append(f"  and {more:,} more")
    listed = "\n".join(lines)
    return InputFileError(
        f"{file}: {report.skipped:,} of {report.records:,} records cannot be imported:\n{listed}",
        remedy=SKIP_REMEDY,
    )


def _place(records: RecordFile, fault: Refused) -> str:
    place = f"{records.unit} {fault.line:,}"
    return f"{place}, {fault.field}" if fault.field else place
