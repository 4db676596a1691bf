"""What a run found, as a database that is written once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from debugger.store.database import insert, new_database
from debugger.store.schema import (
    ANALYSIS,
    FINDINGS,
    NEIGHBOURS,
    OF_ANALYSIS,
    POSITIONS,
    PREDICTIONS,
    SCORES,
    SLICES,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from datetime import datetime

    import duckdb
    from numpy.typing import NDArray

    from debugger.store.names import DatasetFolder
    from embup_core.debugging.analysis import Analysis, Finding, Prediction

CANDIDATES: Final = 5
"""Labels that are kept of a prediction."""
EXPECTED_OF: Final = {"pair_error": "expected_error"}
"""Score kinds that predict another one."""
_BLOCK_ROWS: Final = 20_000


def write_analysis(
    folder: DatasetFolder,
    version: int,
    analysis: Analysis,
    *,
    given: Container[str] = (),
    seed: int,
    review_seq: int,
    analysed_at: datetime,
    took_s: float,
) -> None:
    """Write an analysis as a new version.

    Parameters
    ----------
    folder
        Of the data set.
    version
        Its number, which none has.
    analysis
        What was found.
    given
        Sources of predictions that the data set has already, which are not stored again.
    seed, review_seq, analysed_at, took_s
        As the table ``analysis`` has them.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    with new_database(folder.analysis(version), OF_ANALYSIS) as connection:
        for kind, values in analysis.scores.items():
            _write_scores(connection, kind, values, analysis.scores.get(EXPECTED_OF.get(kind, "")), version)
        _write_findings(connection, analysis.findings, version)
        _write_slices(connection, analysis, version)
        for prediction in analysis.predictions:
            if prediction.source not in given:
                _write_prediction(connection, prediction)
        if analysis.positions is not None:
            _write_positions(connection, analysis.positions, version)
        for kind, neighbours in analysis.neighbours.items():
            _write_neighbours(connection, kind, neighbours.rows, neighbours.cosines, version)
        described = {
            "version": version,
            "summary": as_json(analysis.summary),
            "seed": seed,
            "review_seq": review_seq,
            "analysed_at": analysed_at,
            "took_s": took_s,
        }
        insert(connection, ANALYSIS, {name: [value] for name, value in described.items()})


def _write_scores(
    connection: duckdb.DuckDBPyConnection,
    kind: str,
    values: NDArray[np.float64],
    expected: NDArray[np.float64] | None,
    version: int,
) -> None:
    import pyarrow as pa

    rows = np.flatnonzero(np.isfinite(values))
    beside = np.full(len(rows), np.nan) if expected is None else np.asarray(expected)[rows]
    insert(
        connection,
        SCORES,
        {
            "row": rows,
            "kind": _constant(kind, len(rows)),
            "value": np.asarray(values, np.float64)[rows],
            "expected": pa.array(beside, pa.float64(), mask=~np.isfinite(beside)),
            "version": _constant(version, len(rows)),
        },
    )


def _write_findings(connection: duckdb.DuckDBPyConnection, findings: Sequence[Finding], version: int) -> None:
    for start in range(0, len(findings), _BLOCK_ROWS):
        block = findings[start : start + _BLOCK_ROWS]
        insert(
            connection,
            FINDINGS,
            {
                "finding": np.arange(start + 1, start + 1 + len(block)),
                "kind": [one.kind for one in block],
                "severity": [one.severity for one in block],
                "title": _texts(one.title for one in block),
                "suggestion": _texts(one.suggestion for one in block),
                "score": [float(one.score) if np.isfinite(one.score) else None for one in block],
                "evidence": [as_json(one.evidence) for one in block],
                "rows": _lists([one.rows for one in block]),
                "key": _constant("", len(block)),
                "version": _constant(version, len(block)),
            },
        )
    connection.execute("UPDATE findings SET key = md5(concat(kind, ' ', list_sort(rows)::VARCHAR))")


def _write_slices(connection: duckdb.DuckDBPyConnection, analysis: Analysis, version: int) -> None:
    slices = analysis.slices
    if not slices:
        return
    figures = ("value", "low", "high", "rest", "p", "q")
    insert(
        connection,
        SLICES,
        {
            **{
                name: _texts(getattr(one, name) for one in slices) for name in ("partition", "name", "metric")
            },
            **{name: [_finite(getattr(one, name)) for one in slices] for name in figures},
            "worse": [bool(one.worse) for one in slices],
            "rows": _lists([one.rows for one in slices]),
            "version": _constant(version, len(slices)),
        },
    )


def _write_prediction(connection: duckdb.DuckDBPyConnection, prediction: Prediction) -> None:
    """The likeliest labels of each row, a block of rows at a time."""
    import pyarrow as pa

    classes = np.asarray(prediction.classes, dtype=object)
    kept = min(CANDIDATES, len(classes))
    rows = (
        np.flatnonzero(np.isfinite(prediction.probabilities).all(axis=1)) if kept else np.empty(0, np.int64)
    )
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        probabilities = prediction.probabilities[block]  # (b, k)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :kept]  # (b, kept)
        confidences = np.take_along_axis(probabilities, best, axis=1).astype(np.float64)
        labels = classes[best]
        offsets = np.arange(0, len(block) * kept + 1, kept, dtype=np.int32)
        candidates = pa.ListArray.from_arrays(
            offsets,
            pa.StructArray.from_arrays(
                [pa.array(labels.ravel(), pa.string()), pa.array(confidences.ravel())],
                ["label", "confidence"],
            ),
        )
        insert(
            connection,
            PREDICTIONS,
            {
                "row": block,
                "source": _constant(prediction.source, len(block)),
                "label": pa.array(labels[:, 0], pa.string()),
                "confidence": confidences[:, 0],
                "candidates": candidates,
                "in_sample": np.asarray(prediction.in_sample)[block],
                "predicted_at": pa.nulls(len(block), pa.timestamp("us")),
            },
        )


def _write_positions(
    connection: duckdb.DuckDBPyConnection, positions: NDArray[np.float32], version: int
) -> None:
    rows = np.flatnonzero(np.isfinite(positions).all(axis=1))
    insert(
        connection,
        POSITIONS,
        {
            "row": rows,
            "x": positions[rows, 0],
            "y": positions[rows, 1],
            "version": _constant(version, len(rows)),
        },
    )


def _write_neighbours(
    connection: duckdb.DuckDBPyConnection,
    kind: str,
    others: NDArray[np.int64],
    cosines: NDArray[np.float32],
    version: int,
) -> None:
    for start in range(0, len(others), _BLOCK_ROWS):
        block = others[start : start + _BLOCK_ROWS]  # (b, k)
        rows, ranks = np.nonzero(block >= 0)
        insert(
            connection,
            NEIGHBOURS,
            {
                "row": rows + start,
                "kind": _constant(kind, len(rows)),
                "rank": ranks + 1,
                "other": block[rows, ranks],
                "cosine": cosines[start : start + _BLOCK_ROWS][rows, ranks],
                "version": _constant(version, len(rows)),
            },
        )


def _constant(value: Any, rows: int) -> Any:
    import pyarrow as pa

    return pa.repeat(pa.scalar(value), rows)


def _texts(values: Iterable[str]) -> Any:
    import pyarrow as pa

    return pa.array([value.encode("utf-8", "replace").decode() for value in values], pa.string())


def _lists(rows: Sequence[NDArray[np.int64]]) -> Any:
    import pyarrow as pa

    lengths = [len(one) for one in rows]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    values = np.concatenate([np.asarray(one, np.int64) for one in rows]) if rows else np.empty(0, np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values, pa.int64()))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def as_json(values: Mapping[str, Any]) -> str:
    """Values as JSON text; NumPy's values become plain ones, and what is not finite null."""
    return msgspec.json.encode(values, enc_hook=_plain).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    with suppress(TypeError):
        return dict(value)
    return str(value)
