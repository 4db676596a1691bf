"""Import of a decoder's training data: its rows become a data set, the two files stay where they are."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from debugger.importing.blocks import ImportReport
from debugger.importing.folder import new_dataset_folder
from debugger.store.database import insert, new_database
from debugger.store.names import SOURCE, DatasetFolder
from debugger.store.schema import DATASET, LABELS, OF_DATASET, ROWS, SCHEMA_VERSION
from debugger.store.vectors import VectorFile
from embup_core.sources import load_projected, load_row_labels, resolve_source, validate_pair

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from embup_core.progress import Progress
    from embup_core.sources import SourceFiles

TEXTS_FILE: Final = "texts.npy"
_BLOCK_ROWS: Final = 5_000


def import_source(source: str, data: Path, name: str, *, progress: Progress | None = None) -> ImportReport:
    """Import the training data of a decoder as a new data set.

    The rows' groups and labels come from ``groups.npy`` and ``labels.npy`` beside the two files, their texts
    from ``texts.npy``, an array of strings, where there are any.

    Parameters
    ----------
    source
        A folder that holds ``projected_train_embs.npy`` and ``og_train_cos_theta.npy``, ``sample``, or two
        URLs. The files are read again by each run.
    data, name
        The data folder, and the name of the new data set.
    progress
        Called with a label, units done and units in all.

    Raises
    ------
    SourceError
        A file cannot be read, or is not what it should be.
    InputError
        The name is taken.
    OutputError
        The data set cannot be written.
    """
    started_s = time.perf_counter()
    with new_dataset_folder(data, name) as path:
        files = resolve_source(source, cache_dir=data / "sources", progress=progress)
        projected = load_projected(files.projected)
        fingerprint = validate_pair(files, progress=progress).fingerprint
        rows, dims = projected.shape
        folder = DatasetFolder(path)
        with VectorFile(folder.vectors("projected")) as vectors:
            for start in range(0, rows, _BLOCK_ROWS):
                vectors.add_block(projected[start : start + _BLOCK_ROWS])
            vectors.close()
        report = ImportReport(name, rows=rows, records=rows, usages={None: rows}, vectors={"projected": dims})
        with new_database(folder.dataset, OF_DATASET) as connection:
            report.labelled = _fill(connection, files, rows)
            described: dict[str, Any] = {
                "schema_version": SCHEMA_VERSION,
                "name": name,
                "kind": SOURCE,
                "source": files.name,
                "format": "folder",
                "sha256": fingerprint,
                "fields": "{}",
                "vectors": json.dumps(report.vectors),
                "records": rows,
                "skipped": 0,
                "imported_at": datetime.now(UTC).replace(tzinfo=None),
            }
            insert(connection, DATASET, {key: [value] for key, value in described.items()})
    report.took_s = time.perf_counter() - started_s
    return report


def _fill(connection: duckdb.DuckDBPyConnection, files: SourceFiles, rows: int) -> int:
    import pyarrow as pa

    beside = files.projected.with_name(TEXTS_FILE)
    given = {"group": files.groups, "label": files.labels, "text": beside if beside.is_file() else None}
    values = {
        of: pa.nulls(rows, pa.string())
        if path is None
        else pa.array(load_row_labels(path, rows).astype(np.str_).tolist(), pa.string())
        for of, path in given.items()
    }
    numbers = np.arange(rows)
    insert(
        connection,
        ROWS,
        {
            "row": numbers,
            "record": numbers,
            "external_id": pa.nulls(rows, pa.string()),
            "text": values["text"],
            "complete": np.full(rows, files.labels is not None),
            "usage": pa.nulls(rows, pa.string()),
            "given_score": pa.nulls(rows, pa.float64()),
            "group_name": values["group"],
        },
    )
    if files.labels is None:
        return 0
    insert(connection, LABELS, {"row": numbers, "label": values["label"]})
    return rows
