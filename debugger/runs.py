"""Runs: a data set is loaded, analysed with the reviews that hold, and what was found is a new version."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from debugger.predictions.stored import load_predictions, publish
from debugger.reading import open_dataset
from debugger.reviews import label_after
from debugger.store.analyses import as_json, write_analysis
from debugger.store.locking import exclusive
from debugger.store.names import DEFAULT_DECODER, SOURCE, find_dataset
from embup_core.debugging.analysis import AnnotatedRows
from embup_core.dims import DEFAULT_OUTPUT_DIMS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from debugger.reading import OpenDataset
    from embup_core.debugging.analysis import Analysis
    from embup_core.progress import Progress


@dataclass(frozen=True)
class RunReport:
    """What a run did.

    Attributes
    ----------
    name, version
        The data set, and the new version of its analysis.
    rows
        How many were analysed.
    reviews
        Decisions that were applied.
    findings
        How many there are by kind, in their order.
    summary
        Figures of the whole.
    took_s
        Seconds.
    """

    name: str
    version: int
    rows: int
    reviews: int
    findings: Mapping[str, int]
    summary: Mapping[str, Any]
    took_s: float


def run(
    data: Path,
    name: str,
    *,
    seed: int = 0,
    decoder: str = DEFAULT_DECODER,
    output_dims: int = DEFAULT_OUTPUT_DIMS,
    progress: Progress | None = None,
    analyse: Callable[..., Analysis] | None = None,
) -> RunReport:
    """Analyse a data set.

    Labels are those that reviews left: relabelled rows have their new label, dropped ones are left out.

    Parameters
    ----------
    data
        The data folder.
    name
        Of the data set.
    seed
        Of what is drawn at random.
    decoder, output_dims
        For training data of decoders: which one judges the rows that it has not seen, ``none`` for no such
        judgement, and the dimensions of the originals.
    progress
        Called with a label, units done and units in all.
    analyse
        By default `embup_core.debugging.annotated.analyse_annotated` or, for training data of decoders,
        `debugger.source_analysis.analyse_training_data`.

    Raises
    ------
    InputError
        There is no such data set or decoder, or another run of it is under way (code ``conflict``).
    SourceError
        Training data of a decoder is gone, or another than was imported.
    OutputError
        The result cannot be written; nothing is.
    """
    started_s = time.perf_counter()
    folder = find_dataset(data, name)
    with exclusive(folder.path / "run.lock", wait=False, what="runs an analysis"):
        publish(folder)  # what an interrupted `predict` left
        with open_dataset(data, name) as opened:
            rows = load_rows(opened)
            predictions = load_predictions(opened)
            review_seq = opened.reviews[-1].seq if opened.reviews else 0
            applied = len(opened.decisions)
            if analyse is None:
                analyse = _analysis_of(opened, data, decoder=decoder, output_dims=output_dims)
            analysis = analyse(rows, predictions=predictions, seed=seed, progress=progress)
        version = max(folder.versions(), default=0) + 1
        took_s = time.perf_counter() - started_s
        write_analysis(
            folder,
            version,
            analysis,
            given={one.source for one in predictions},
            seed=seed,
            review_seq=review_seq,
            analysed_at=datetime.now(UTC).replace(tzinfo=None),
            took_s=took_s,
        )
    return RunReport(
        name=name,
        version=version,
        rows=len(rows.labels),
        reviews=applied,
        findings=dict(Counter(finding.kind for finding in analysis.findings)),
        summary=json.loads(as_json(analysis.summary)),
        took_s=took_s,
    )


def _analysis_of(
    opened: OpenDataset, data: Path, *, decoder: str, output_dims: int
) -> Callable[..., Analysis]:
    """The analysis of a data set's kind."""
    if opened.described["kind"] != SOURCE:
        from embup_core.debugging.annotated import analyse_annotated

        return analyse_annotated
    from debugger.source_analysis import analyse_training_data

    return partial(analyse_training_data, opened, data=data, decoder=decoder, output_dims=output_dims)


def load_rows(opened: OpenDataset) -> AnnotatedRows:
    """Load the rows of a data set, labels as reviews left them, vectors memory-mapped."""
    with opened.reading() as connection:
        found: Any = connection.sql(
            "SELECT label, usage, given_score FROM rows LEFT JOIN labels USING (row) ORDER BY row"
        ).to_arrow_table()
        # Without a sort, which would hold all texts at once: rows are read in the order they were stored in.
        texts = connection.sql("SELECT text FROM rows").to_arrow_table()["text"].to_pylist()
    first_labels = found["label"].to_pylist()
    labels = list(first_labels)
    for row, decision in opened.decisions.items():
        labels[row] = label_after(labels[row], decision)
    usages = found["usage"].to_pylist()
    scores: np.ndarray[Any, np.dtype[np.float64]] = np.asarray(
        found["given_score"].to_numpy(zero_copy_only=False), dtype=np.float64
    )
    left_out = np.zeros(len(labels), dtype=bool)
    left_out[[row for row, decision in opened.decisions.items() if decision.action == "drop"]] = True
    return AnnotatedRows(
        labels=labels,
        texts=[text or "" for text in texts] if any(text is not None for text in texts) else None,
        usages=usages if any(usages) else None,
        given_scores=scores if np.isfinite(scores).any() else None,
        features={
            kind: np.load(opened.folder.vectors(kind), mmap_mode="r", allow_pickle=False)
            for kind in opened.described["vectors"]
        },
        left_out=left_out,
        first_labels=first_labels if labels != first_labels or left_out.any() else None,
    )
