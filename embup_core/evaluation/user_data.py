"""A published decoder measured on rows that somebody kept apart. Nothing of its training sample is needed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.evaluation.cosines import Comparison, DotProducts, StandardErrors
from embup_core.evaluation.held_out import unit_norm_error
from embup_core.evaluation.probe import ProbeScores, probe_scores
from embup_core.evaluation.scores import Scores, measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embup_core.evaluation.user_files import UserData
    from embup_core.progress import Progress
    from embup_core.upsampler import Upsampler


def evaluate_user_data(
    upsampler: Upsampler,
    rows: UserData,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Scores, ProbeScores | None]:
    """Scores of a published decoder; reference rows stand where `Scores` says training rows.

    Parameters
    ----------
    upsampler
        Loaded.
    rows
        What to decode, and the truth.
    seed
        Of samples and resampling.
    progress
        Called with a label, rows done and rows in all.

    Returns
    -------
    The scores, and the linear probe's where there are labels, else None.
    """
    unseen, confidence = _decoded(upsampler, rows.projected, "decoding", progress)
    known = None
    if rows.reference_projected is not None:
        known, _ = _decoded(upsampler, rows.reference_projected, "decoding reference rows", progress)
    scores = measure(
        Comparison(
            DotProducts(unseen, unseen),
            rows.test_test,
            StandardErrors.where_known(upsampler.cosine_standard_error, unseen, confidence),
        ),
        None
        if known is None or rows.test_reference is None
        else Comparison(DotProducts(unseen, known), rows.test_reference),
        seed=seed,
        progress=progress,
    )
    probe = None
    if known is not None and rows.labels is not None and rows.reference_labels is not None:
        features = _features(rows, known, unseen, progress)
        probe = probe_scores(rows.reference_labels, rows.labels, features, seed=seed)
    return replace(scores, unit_norm_error=unit_norm_error(unseen)), probe


def _features(
    rows: UserData, known: NDArray[np.float32], unseen: NDArray[np.float32], progress: Progress | None
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Name, reference rows and unseen rows of each feature set that there is."""
    sets = (
        ("decoded", known, unseen),
        ("originals", rows.reference_originals, rows.originals),
        ("projected", rows.reference_projected, rows.projected),
    )
    for done, (name, training, test) in enumerate(sets):
        if progress:
            progress("fitting classifiers", done, len(sets))
        if training is not None and test is not None:
            yield name, training, test


def _decoded(
    upsampler: Upsampler, projected: NDArray[np.float32], label: str, progress: Progress | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    decoded = np.empty((len(projected), upsampler.output_dims), np.float32)
    confidence = np.empty(len(projected), np.float32)
    for block in row_blocks(len(projected)):
        decoded[block], confidence[block] = upsampler.upsample(projected[block])
        if progress:
            progress(label, block.stop, len(projected))
    return decoded, confidence
