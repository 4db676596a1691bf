"""Predictions of other classifiers, as they come in and as they are read.

Each answer goes into a log at once, so that a kill loses none. `publish` moves the log into the database that
readers open.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np

from debugger.formats.records import MAX_LABEL, is_unicode
from debugger.store import log
from debugger.store.database import insert, new_database
from debugger.store.locking import exclusive
from debugger.store.schema import OF_PREDICTIONS, PREDICTIONS, Column, Table, definition, quoted
from embup_core.debugging.analysis import Prediction
from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from debugger.reading import OpenDataset
    from debugger.store.names import DatasetFolder

    Candidates: TypeAlias = Sequence[tuple[str, float]]
    """Labels with their probabilities, likeliest first."""

MOST_CELLS: Final = 1 << 28
"""Probabilities that are loaded of a classifier."""
_BLOCK: Final = 5_000
_ANSWERS: Final = Table(
    "answers",
    "answers and failures, older ones of a row included",
    (
        Column("seq", "BIGINT", ""),
        *(Column(column.name, column.kind.removesuffix(" NOT NULL"), "") for column in PREDICTIONS.columns),
        Column("reason", "VARCHAR", ""),
    ),
)
_NEWEST_ANSWERS: Final = """
INSERT INTO predictions
SELECT row, source, label, confidence, candidates, in_sample, predicted_at FROM answers WHERE reason IS NULL
QUALIFY row_number() OVER (PARTITION BY source, row ORDER BY seq DESC) = 1 ORDER BY source, row
"""
_NEWEST_FAILURES: Final = """
INSERT INTO prediction_failures
SELECT row, source, reason, predicted_at FROM answers ANTI JOIN predictions USING (row, source)
WHERE reason IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY source, row ORDER BY seq DESC) = 1 ORDER BY source, row
"""
_PUBLISHED_BEFORE: Final = """
INSERT INTO answers BY NAME
SELECT 0 AS seq, * FROM published.predictions
UNION ALL BY NAME
SELECT 0 AS seq, row, source, reason, failed_at AS predicted_at FROM published.prediction_failures
"""


def checked_source(source: str) -> str:
    """The name of a classifier; raises `InputError` for what no table can hold."""
    if not source.strip() or len(source) > MAX_LABEL or not is_unicode(source):
        raise InputError(
            f"Expected a name of 1 to {MAX_LABEL:,} characters for predictions, found {source[:40]!r}.",
            remedy="Give another name with --source, in UTF-8.",
        )
    return source


def record_answers(
    folder: DatasetFolder,
    source: str,
    answers: Sequence[tuple[int, Candidates]],
    failures: Sequence[tuple[int, str]] = (),
    *,
    in_sample_usages: Sequence[str] = ("train",),
) -> None:
    """Store predictions; they survive a kill once this returns.

    Parameters
    ----------
    folder
        Of the data set.
    source
        Name of the classifier.
    answers
        Row, and its labels with their probabilities, likeliest first.
    failures
        Row, and why it has no prediction.
    in_sample_usages
        Usages of the rows that the classifier was fitted on.

    Raises
    ------
    InputError
        A name or a label is no Unicode text. Nothing is stored: the database would refuse it each time.
    OutputError
        They cannot be written.
    """
    checked_source(source)
    bad = next((one for _, found in answers for one, _ in found if not is_unicode(one)), None)
    if bad is not None:
        raise InputError(f"The label {bad[:40]!r} is no Unicode text.", remedy="Give labels in UTF-8.")
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    shared = {"source": source, "at": now}
    fitted = list(in_sample_usages)
    log.append(
        folder.prediction_log,
        [{**shared, "row": row, "candidates": list(found), "fitted": fitted} for row, found in answers]
        + [{**shared, "row": row, "reason": reason} for row, reason in failures],
    )


def publish(folder: DatasetFolder) -> None:
    """Move the log into the database of predictions; a newer prediction of a row replaces an older one.

    Raises
    ------
    OutputError
        It cannot be written; the log stays.
    """
    if not log.last_number(folder.prediction_log):
        return
    with exclusive(folder.path / "predictions.lock", wait=True, what="publishes predictions"):
        last = log.last_number(folder.prediction_log)
        with new_database(folder.predictions, OF_PREDICTIONS) as connection:
            connection.execute(definition(_ANSWERS, temporary=True))
            connection.execute(f"ATTACH {quoted(folder.dataset)} AS imported (READ_ONLY)")
            _take_in_log(connection, folder, last)
            _take_in_published(connection, folder)
            connection.execute(_NEWEST_ANSWERS)
            connection.execute(_NEWEST_FAILURES)
            connection.execute("DETACH imported")
        log.clear(folder.prediction_log, up_to=last)


def _take_in_log(connection: duckdb.DuckDBPyConnection, folder: DatasetFolder, last: int) -> None:
    import pyarrow as pa

    kind = pa.list_(pa.struct([("label", pa.string()), ("confidence", pa.float64())]))
    stored = connection.execute("SELECT usage FROM imported.rows ORDER BY row").fetchall()
    usages = [usage for (usage,) in stored]
    entries = iter(log.entries(folder.prediction_log))
    while block := [entry for entry in islice(entries, _BLOCK) if entry["seq"] <= last]:
        candidates = [entry.get("candidates") or [] for entry in block]
        best = [found[0] if found else (None, None) for found in candidates]
        listed = [[{"label": label, "confidence": share} for label, share in found] for found in candidates]
        insert(
            connection,
            _ANSWERS,
            {
                "seq": [entry["seq"] for entry in block],
                "row": [entry["row"] for entry in block],
                "source": [entry["source"] for entry in block],
                "label": pa.array([label for label, _ in best], pa.string()),
                "confidence": pa.array([share for _, share in best], pa.float64()),
                "candidates": pa.array(listed, kind),
                "in_sample": [usages[entry["row"]] in entry.get("fitted", ()) for entry in block],
                "predicted_at": pa.array([datetime.fromisoformat(entry["at"]) for entry in block]),
                "reason": pa.array([entry.get("reason") for entry in block], pa.string()),
            },
        )


def _take_in_published(connection: duckdb.DuckDBPyConnection, folder: DatasetFolder) -> None:
    if not folder.predictions.exists():
        return
    connection.execute(f"ATTACH {quoted(folder.predictions)} AS published (READ_ONLY)")
    connection.execute(_PUBLISHED_BEFORE)
    connection.execute("DETACH published")


def predicted_rows(folder: DatasetFolder, source: str) -> set[int]:
    """Rows that have a prediction of a classifier, published or not."""
    rows: set[int] = set()
    if folder.predictions.exists():
        with duckdb.connect(":memory:") as connection:
            connection.execute(f"ATTACH {quoted(folder.predictions)} AS published (READ_ONLY)")
            found = connection.execute("SELECT row FROM published.predictions WHERE source = ?", [source])
            rows.update(row for (row,) in found.fetchall())
    rows.update(
        entry["row"]
        for entry in log.entries(folder.prediction_log)
        if entry["source"] == source and "candidates" in entry
    )
    return rows


def load_predictions(opened: OpenDataset) -> list[Prediction]:
    """Predictions of the classifiers that were asked, as an analysis takes them.

    What the candidates of a row leave of its probability is spread evenly over the classes that are none. Of
    very many classes only the most frequent ones are kept, so that all probabilities take a gigabyte at most.
    """
    return [_load(opened, source) for source in opened.asked_sources()]


def _load(opened: OpenDataset, source: str) -> Prediction:
    n_rows = opened.count("rows")
    found = opened.query(
        "SELECT label, count(*) AS n FROM (SELECT unnest(candidates).label AS label FROM asked_predictions"
        " WHERE source = ?) GROUP BY label ORDER BY n DESC, label LIMIT ?",
        [source, max(MOST_CELLS // max(n_rows, 1), 1)],
    )
    classes = sorted(one["label"] for one in found)
    column = {label: place for place, label in enumerate(classes)}
    probabilities = np.full((n_rows, len(classes)), np.nan, np.float32)
    in_sample = np.zeros(n_rows, dtype=bool)
    answers = opened.connection.sql(
        "SELECT row, in_sample, list_transform(candidates, lambda c: c.label) AS labels,"
        " list_transform(candidates, lambda c: c.confidence) AS confidences"
        " FROM asked_predictions WHERE source = ? ORDER BY row",
        params=[source],
    )
    for batch in answers.to_arrow_reader(_BLOCK):
        rows = batch.column("row").to_numpy()
        in_sample[rows] = batch.column("in_sample").to_numpy(zero_copy_only=False)
        probabilities[rows] = _spread(batch, column)
    return Prediction(source, tuple(classes), probabilities, in_sample)


def _spread(batch: Any, column: dict[str, int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Probabilities of all classes: float32, shape (b, k); NaN for rows of which no class is kept."""
    labels, confidences = batch.column("labels"), batch.column("confidences")
    lengths = np.diff(labels.offsets.to_numpy()).astype(np.int64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    encoded = labels.flatten().dictionary_encode()
    code = np.array([column.get(label, -1) for label in encoded.dictionary.to_pylist()], dtype=np.int64)
    place = code[encoded.indices.to_numpy()] if len(row) else np.empty(0, np.int64)
    shares = confidences.flatten().to_numpy(zero_copy_only=False)
    kept = place >= 0
    row, place, shares = row[kept], place[kept], shares[kept]
    named = np.bincount(row, minlength=len(lengths))
    left = np.clip(1 - np.bincount(row, shares, minlength=len(lengths)), 0, None)
    spread = np.repeat((left / np.maximum(len(column) - named, 1))[:, None], len(column), axis=1)  # (b, k)
    spread[row, place] = shares
    total = spread.sum(axis=1, keepdims=True)
    spread[(named == 0) | (total[:, 0] <= 0)] = np.nan
    return np.asarray(spread / np.where(total > 0, total, 1), dtype=np.float32)
