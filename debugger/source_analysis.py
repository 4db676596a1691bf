"""The analysis of a decoder's training data: its files, and decoders that have not seen each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from debugger.store.names import DEFAULT_DECODER
from embup_core.debugging.decoded_rows import fit_folds
from embup_core.debugging.source import analyse_source
from embup_core.decoders import DECODERS
from embup_core.errors import InputError, InvalidDataError
from embup_core.geometry.landmark_source import recovered_originals, with_coordinates
from embup_core.geometry.source_check import judge_rows
from embup_core.sources import load_projected, resolve_source, validate_pair
from embup_core.sources.cosine_matrix import CosineMatrix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from debugger.reading import OpenDataset
    from embup_core.debugging.analysis import Analysis, AnnotatedRows, Prediction
    from embup_core.progress import Progress

NO_DECODER: Final = "none"


def analyse_training_data(
    opened: OpenDataset,
    rows: AnnotatedRows,
    data: Path,
    *,
    predictions: Sequence[Prediction] = (),
    decoder: str = DEFAULT_DECODER,
    output_dims: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Analysis:
    """Analyse the source of a data set.

    Parameters
    ----------
    opened
        The data set, of the kind ``source``.
    rows
        Its labels as reviews left them, and its texts.
    data
        The data folder, which holds downloads.
    predictions
        Of labels.
    decoder
        Name of the decoder that is fitted on four fifths of the rows to judge the others; ``none`` does not
        judge decoding.
    output_dims
        Dimensions of the originals.
    seed
        Of what is drawn at random.
    progress
        Called with a label, units done and units in all.

    Raises
    ------
    InputError
        There is no such decoder.
    SourceError
        The files are gone, or others than were imported.
    """
    if decoder != NO_DECODER and decoder not in DECODERS:
        raise InputError(
            f"There is no decoder {decoder!r}.", remedy=f"There are: {', '.join(DECODERS)}; or {NO_DECODER}."
        )
    files = resolve_source(opened.described["source"], cache_dir=data / "sources", progress=progress)
    files = with_coordinates(files, data / "sources", output_dims=output_dims, progress=progress)
    if validate_pair(files, progress=progress).fingerprint != opened.described["sha256"]:
        raise InvalidDataError(
            f"The files of {files.name} are others than those that were imported as {opened.name}.",
            remedy="Import them under another name.",
        )
    projected = load_projected(files.projected)
    matrix = CosineMatrix.open(files.cosines)
    if progress is not None:
        progress("recovering the originals", 0, None)
    coordinates, _ = recovered_originals(files, matrix, output_dims=output_dims)
    defects = judge_rows(projected, coordinates, files)
    wrong = np.zeros(len(projected), dtype=bool)
    wrong[defects.wrong_rows] = True
    left_out = wrong if rows.left_out is None else wrong | rows.left_out
    folds = (
        ()
        if decoder == NO_DECODER
        else fit_folds(
            DECODERS[decoder], projected, coordinates, output_dims=output_dims, left_out=left_out, seed=seed,
            progress=progress,
        )
    )  # fmt: skip
    groups = [one["group_name"] for one in opened.query("SELECT group_name FROM rows ORDER BY row")]
    return analyse_source(
        projected,
        coordinates,
        matrix,
        folds=folds,
        defects=defects,
        labels=rows.labels if any(rows.labels) else None,
        groups=groups if any(groups) else None,
        texts=rows.texts,
        left_out=rows.left_out,
        predictions=predictions,
        seed=seed,
        progress=progress,
    )
