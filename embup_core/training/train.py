"""Training in one call: choose candidates, fit each twice, score them, refit the champion, publish it.

Each step is a function of a sibling module, without state and without a framework: `open_sample`,
`fit_candidates`, `evaluate_candidates`, `require_publishable`, `refit`, `publish_champion`. Dagster's assets
call the same ones.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embup_core.artifacts.registry import Registry
from embup_core.artifacts.remote import open_registry
from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.geometry.landmark_source import with_coordinates
from embup_core.sources import resolve_source
from embup_core.training.anchors import anchor_warnings
from embup_core.training.basis import BasisChoice
from embup_core.training.candidates import evaluate_candidates
from embup_core.training.data_folder import remember_source
from embup_core.training.fitting import check_settings, fit_candidates
from embup_core.training.gates import require_publishable
from embup_core.training.publication import publish_champion, refit
from embup_core.training.report import measured_plots
from embup_core.training.result import TrainingResult, evaluation_warnings
from embup_core.training.sample import open_sample
from embup_core.training.selection import AUTO, wanted_candidates
from embup_core.training.split import MAX_TRAINING_ROWS, SplitBy
from embup_core.training.step_progress import (
    COORDINATES,
    EVALUATION,
    MATRIX,
    PUBLICATION,
    TRANSFORM,
    StepProgress,
    decoder_step,
    step_shares,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from embup_core.progress import Progress


def train(
    source: str | os.PathLike[str],
    *,
    registry: Registry | str | os.PathLike[str] | None = None,
    decoder: str = AUTO,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    output_dims: int = DEFAULT_OUTPUT_DIMS,
    split: SplitBy | str = SplitBy.rows,
    seed: int = 0,
    leave_out_wrong_rows: bool = False,
    without: Iterable[int] | NDArray[np.integer] = (),
    basis: str | None = None,
    promote: bool | None = None,
    max_training_rows: int = MAX_TRAINING_ROWS,
    learning_curve_shares: Sequence[float] = (),
    progress: Progress | None = None,
    work: str | os.PathLike[str] | None = None,
) -> TrainingResult:
    """Train decoders on a source, and return the best one; publish it where a registry is given.

    Candidates are fitted on train rows and compared on validation rows, which decides. Each is fitted again
    with validation rows and scored on test rows, which is what is reported. The champion is fitted on all
    rows.

    Parameters
    ----------
    source
        A folder that holds ``projected_train_embs.npy`` and ``og_train_cos_theta.npy``, or in its place
        ``landmark_cosines.npy`` and ``landmark_rows.npy``; an address such as ``s3://bucket/prefix`` of such
        a folder, two URLs separated by a comma, or ``sample``.
    registry
        Where to publish, a `Registry`, its folder, or an address such as ``s3://bucket/prefix``. None
        publishes nothing.
    decoder
        ``auto``, ``ladder`` or a decoder's name; see `wanted_candidates`.
    settings
        Hyper-parameters that are not the default, by decoder's name.
    output_dims
        Dimensions of the originals, which the files do not state, and so of decoded vectors.
    split
        What is held out: ``rows`` or whole ``groups``, which the source's ``groups.npy`` names.
    seed
        Of the division of rows.
    leave_out_wrong_rows
        Whether up to 5 % of rows that do not belong together are left out and reported. By default, and where
        there are more, they are an error.
    without
        Rows of the source that are left out, 0-based; `embup_core.sources.row_list.load_row_list` reads them
        from a file.
    basis
        A version whose basis is kept, so that vectors decoded by both are comparable, or ``new``. None: that
        of the version in service, if the source holds its landmark rows, else a new one, with a warning.
    promote
        Whether the new version goes into service. None: unless another one is in service that was trained on
        other data, or is better on the same rows.
    max_training_rows
        Most rows that take part, test rows among them; of more, a random sample does.
    learning_curve_shares
        Shares of the train rows, above 0 and below 1, that the champion is fitted on anew.
    progress
        Called with what is being done, units of work done, and units in all.
    work
        The data folder: downloads and generated samples, kept for the next training, and ``source.json``,
        which names the source. None uses a temporary folder.

    Returns
    -------
    TrainingResult
        The new decoder as ``model``, and how it was measured.

    Raises
    ------
    InputError
        There is no such decoder, setting or split, or no such row to leave out.
    SourceError
        The data cannot be read or is not what it should be, or does not hold the landmark rows of the basis
        that was asked for.
    TrainingError
        A required fit failed, or the champion does not pass a gate; nothing is published.
    ArtifactError
        The registry cannot be written, or the version whose basis is asked for cannot be read.

    Examples
    --------
    >>> result = train("my-folder", registry="data/registry")  # doctest: +SKIP
    >>> vectors, confidence = result.model.upsample(z)  # doctest: +SKIP
    """
    settings = settings or {}
    wanted_candidates(decoder)  # refused before anything is downloaded
    check_settings(settings)
    split = SplitBy.from_text(split)
    steps = StepProgress(progress, step_shares(decoder))
    with ExitStack() as temporary:

        def folder(given: str | os.PathLike[str] | None) -> Path:
            return Path(temporary.enter_context(tempfile.TemporaryDirectory()) if given is None else given)

        data = folder(work)
        # Without a registry the decoder is written, loaded back and verified all the same, and then removed.
        opened_registry = (
            registry
            if isinstance(registry, Registry)
            else open_registry(folder(None) if registry is None else os.fspath(registry))
        )
        chosen = BasisChoice.from_registry(opened_registry, basis)
        files = resolve_source(os.fspath(source), cache_dir=data / "sources", progress=steps.within("source"))
        files = with_coordinates(
            files,
            data / "sources",
            output_dims=output_dims,
            kept=chosen.kept,
            progress=steps.within(MATRIX),
        )
        opened = open_sample(
            files,
            output_dims=output_dims,
            split=split,
            seed=seed,
            leave_out_wrong_rows=leave_out_wrong_rows,
            without=without,
            basis=chosen,
            max_training_rows=max_training_rows,
            progress=steps.within(MATRIX),
        )
        sample = opened.sample
        steps.finish(MATRIX)
        steps.finish(COORDINATES)
        steps.finish(TRANSFORM)

        not_fitted: dict[str, str] = {}
        measured = evaluate_candidates(
            sample,
            fit_candidates(
                sample,
                choice=decoder,
                settings=settings,
                not_fitted=not_fitted,
                on_steps=lambda name, done, of: steps.report(decoder_step(name), part=done / of),
                on_fitted=lambda name: steps.finish(decoder_step(name)),
            ),
            choice=decoder,
            not_fitted=not_fitted,
            learning_curve_shares=learning_curve_shares,
            log=lambda note: steps.report(EVALUATION, note),
        )
        evaluation = measured.evaluation
        steps.finish(EVALUATION)
        require_publishable(evaluation)

        if measured.published is not None:  # as a fit of the same rows would be, bit for bit
            champion = measured.published
        else:
            steps.report(PUBLICATION, f"fitting {evaluation.champion} on all rows")
            champion = refit(
                evaluation, sample, on_steps=lambda done, of: steps.report(PUBLICATION, part=done / of)
            )
        published = publish_champion(
            opened_registry,
            champion,
            sample,
            evaluation,
            source=files.name,
            fingerprint=opened.profile.fingerprint,
            plots={} if registry is None else measured_plots(measured),
            promote=promote,
        )
        model = opened_registry.load(published.info.version)
        # A training set of drops is replaced each month.
        if registry is not None and (files.recovery is not None or not files.has_coordinates):
            remember_source(
                data,
                files.name,
                fingerprint=opened.profile.fingerprint,
                promoted=published.promotion.promoted,
            )
        steps.finish(PUBLICATION)
    warnings = [
        *opened.warnings,
        *evaluation_warnings(evaluation, has_groups=files.groups is not None),
        *anchor_warnings(evaluation, has_anchors=files.anchors is not None),
        published.warning,
    ]
    return TrainingResult(
        version=published.info.version,
        model=model,
        evaluation=evaluation,
        rows=opened.profile.rows,
        left_out=tuple(sample.left_out.tolist()),
        recovery_s=opened.recovery_s,
        basis=opened.basis_note,
        published=registry is not None,
        promoted=registry is not None and published.promotion.promoted,
        previous=published.previous,
        gate=published.promotion.gate,
        warnings=tuple(warning for warning in warnings if warning),
    )
