"""Predictions from a file: the same formats as annotated rows, a record for each row."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from debugger.formats.json_records import parse_json
from debugger.formats.opening import open_records
from debugger.importing.folder import take_in
from debugger.predictions.client import Answer, parse_answer
from debugger.predictions.stored import checked_source, publish, record_answers
from debugger.reading import open_dataset
from debugger.store.locking import exclusive
from debugger.store.names import find_dataset
from embup_core.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from debugger.formats.records import Record
    from embup_core.progress import Progress

SHOWN_FAULTS: Final = 20
_BLOCK: Final = 2_000
_MOST_DIGITS: Final = 18
_REMEDY: Final = (
    "Give each record a row (0-based) or an id, and a label with its confidence, or probabilities by label."
)


@dataclass
class FilePredictions:
    """What a file of predictions held.

    Attributes
    ----------
    name, source
        The data set, and the name of the classifier.
    stored
        Predictions that were taken in.
    refused
        Records that were not.
    faults
        The first of them: line and reason.
    took_s
        Seconds.
    """

    name: str
    source: str
    stored: int = 0
    refused: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    took_s: float = 0.0


def import_predictions(
    file: Path,
    data: Path,
    name: str,
    *,
    source: str,
    file_format: str | None = None,
    held_out: bool = False,
    skip_bad_rows: bool = False,
    progress: Progress | None = None,
) -> FilePredictions:
    """Take predictions of a file in.

    A record names its row by ``row``, its number in the data set, or by ``id``. It says ``label`` and
    ``confidence``; or ``probabilities``, an object of probabilities by label; or ``predictions`` as a
    prediction API answers.

    Parameters
    ----------
    file
        JSON, JSON lines, CSV or Parquet, or a zip archive with one such file.
    data, name
        The data folder and the data set.
    source
        Name that they are stored under.
    file_format
        Where it cannot be told from the file.
    held_out
        Whether the classifier was fitted on none of the rows it predicts; by default it counts as fitted on
        those of the usage ``train``.
    skip_bad_rows
        Whether records that cannot be used are reported instead of ending the import.
    progress
        Called with a label, records done, and None.

    Raises
    ------
    InputError
        The file cannot be read, or a record cannot be used. Nothing is stored.
    """
    started_s = time.perf_counter()
    checked_source(source)
    folder = find_dataset(data, name)
    report = FilePredictions(name, source)
    with open_dataset(data, name) as opened:
        rows = opened.count("rows")
        by_id = _rows_by_id(opened.query("SELECT external_id, row FROM rows WHERE external_id IS NOT NULL"))
    with (
        exclusive(folder.path / "predict.lock", wait=False, what="asks for predictions"),
        tempfile.TemporaryDirectory(prefix="embup-") as work,
    ):
        copy, _, called = take_in(file, Path(work))
        found: list[tuple[int, Any]] = []
        for record in open_records(copy, name=called, chosen=file_format).records():
            answer = _read(record, rows, by_id)
            if isinstance(answer, str):
                report.refused += 1
                if len(report.faults) < SHOWN_FAULTS:
                    report.faults.append((record.line, answer))
            else:
                found.append(answer)
            if progress is not None and record.number % _BLOCK == 0:
                progress(f"{record.number:,} records", record.number, None)
        if report.refused and not skip_bad_rows:
            listed = "\n".join(f"  record {line:,}: {reason}." for line, reason in report.faults)
            raise InputFileError(
                f"{file}: {report.refused:,} records hold no prediction of a row of {name}:\n{listed}",
                remedy=f"{_REMEDY} --on-bad-row skip takes the others in.",
            )
        if not found:
            raise InputFileError(f"{file} holds no prediction.", remedy=_REMEDY)
        usages = () if held_out else ("train",)
        for start in range(0, len(found), _BLOCK):
            record_answers(folder, source, found[start : start + _BLOCK], in_sample_usages=usages)
        report.stored = len({row for row, _ in found})
        publish(folder)
    report.took_s = time.perf_counter() - started_s
    return report


def _rows_by_id(found: list[dict[str, Any]]) -> dict[str, int]:
    """Row by id; -1 for an id of several rows."""
    by_id: dict[str, int] = {}
    for one in found:
        by_id[one["external_id"]] = -1 if one["external_id"] in by_id else one["row"]
    return by_id


def _read(record: Record, rows: int, by_id: Mapping[str, int]) -> tuple[int, Any] | str:
    values = record.values
    if values is None:
        return record.reason
    row = _row(values, rows, by_id)
    if isinstance(row, str):
        return row
    answer = _answer(values)
    return answer.reason or (row, answer.candidates)


def _row(values: Mapping[str, Any], rows: int, by_id: Mapping[str, int]) -> int | str:
    if values.get("row") not in (None, ""):
        text = str(values["row"])
        if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS or int(text) >= rows:
            return f"expected a row from 0 to {rows - 1:,}, found {text[:40]!r}"
        return int(text)
    named = values.get("id")
    if named in (None, ""):
        return "expected a field row or id, found neither"
    row = by_id.get(str(named))
    if row is None:
        return f"no row has the id {str(named)[:40]!r}"
    return f"several rows have the id {str(named)[:40]!r}: give row" if row < 0 else row


def _answer(values: Mapping[str, Any]) -> Answer:
    try:
        if values.get("predictions"):
            return parse_answer({"predictions": _parsed(values["predictions"])})
        if values.get("probabilities"):
            shares = dict(_parsed(values["probabilities"]))
            candidates = [{"label": label, "confidence": share} for label, share in shares.items()]
        else:
            candidates = [
                {"label": values.get("label"), "confidence": float(values.get("confidence", 1) or 0)}
            ]
    except (TypeError, ValueError, OverflowError) as error:
        return Answer(reason=f"expected probabilities, found {str(error)[:60]}")
    return parse_answer({"predictions": [{"value": candidates}]})


def _parsed(value: Any) -> Any:
    return parse_json(value) if isinstance(value, str) else value
