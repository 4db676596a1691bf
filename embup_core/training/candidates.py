"""All candidates measured on the same rows: what an `Evaluation` is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

from embup_core.decoders import DECODERS
from embup_core.errors import InputError, TrainingError
from embup_core.evaluation import (
    ConfidenceDecile,
    DecodedRows,
    LearningPoint,
    ProbeScores,
    Scores,
    baselines,
    confidence_calibration,
    learning_curve,
    probe_scores,
    sample_test_pairs,
    score_rows,
)
from embup_core.evaluation.groups import score_groups
from embup_core.evaluation.probe import require_teachable
from embup_core.training.anchors import score_candidate
from embup_core.training.promotion.held_out import cluster_labels
from embup_core.training.selection import (
    CHOICES,
    Candidate,
    Evaluation,
    best_on_validation,
    required_candidates,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder
    from embup_core.evaluation.groups import GroupScores
    from embup_core.geometry.anchors import AnchorScores
    from embup_core.training.sample import Sample

PairSample: TypeAlias = "tuple[NDArray[np.float32], NDArray[np.float32]]"
"""True and predicted cosines of random pairs of test rows: float32, shape (pairs,) each."""

PLOTTED_PAIRS = 200_000


@dataclass(frozen=True)
class Measured:
    """An evaluation, and what only plots need.

    Attributes
    ----------
    evaluation
        All scores.
    pairs
        True and predicted cosines of random pairs of test rows, by candidate.
    histories
        What a fit of many steps recorded, by candidate.
    published
        The champion, where it is fitted on the rows that a published decoder is fitted on, as those held out
        for ever are the test rows; None where it has to be fitted again.
    """

    evaluation: Evaluation
    pairs: dict[str, PairSample]
    histories: dict[str, Mapping[str, Mapping[str, Sequence[float]]]]
    published: Decoder | None = None


@dataclass(frozen=True)
class _CandidateScores:
    validation: Scores
    test: Scores
    decode_ms: float
    confidence: tuple[ConfidenceDecile, ...]
    probe: ProbeScores | None
    pairs: PairSample
    anchors: AnchorScores | None
    groups: tuple[GroupScores, ...]


def evaluate_candidates(
    sample: Sample,
    candidates: Iterable[Candidate],
    *,
    choice: str,
    not_fitted: Mapping[str, str] | None = None,
    learning_curve_shares: Sequence[float] = (),
    train_train: bool = False,
    plotted_pairs: int = PLOTTED_PAIRS,
    log: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Score candidates and baselines.

    Each candidate decodes every row that is measured once, and is dropped before the next one is taken.

    Parameters
    ----------
    sample
        What they were fitted on.
    candidates
        Taken one at a time, so that they may be fitted or loaded meanwhile.
    choice
        ``auto``, ``ladder`` or a decoder's name.
    not_fitted
        Why each candidate of the choice that could not be fitted could not, by name; read after the last
        candidate.
    learning_curve_shares
        Shares of the train rows that the champion is fitted on anew; empty for no learning curve.
    train_train
        Whether to add errors over pairs of fitted rows.
    plotted_pairs
        How many pairs of test rows to keep for plots.
    log
        Called with what is being done.

    Raises
    ------
    TrainingError
        A required candidate was not fitted.
    """
    rows = sample.rows
    probe_left_out = _why_no_probe(sample)
    settings: dict[str, dict[str, Any]] = {}
    histories: dict[str, Mapping[str, Mapping[str, Sequence[float]]]] = {}
    scored: dict[str, _CandidateScores] = {}
    best: Decoder | None = None
    groups = groups_of_test_rows(sample)
    for candidate in candidates:
        name = candidate.for_report.name
        log(f"scoring {name}")
        settings[name] = candidate.for_report.settings()
        histories[name] = candidate.for_report.history_
        scored[name] = _score(
            sample,
            candidate,
            train_train=train_train,
            plotted_pairs=plotted_pairs,
            with_probe=sample.labels is not None and probe_left_out is None,
            groups=groups,
        )
        so_far = {one: scores.validation for one, scores in scored.items()}
        if rows.held_out and name == (best_on_validation(so_far) if choice in CHOICES else choice):
            best = candidate.for_report
    missing = required_candidates(choice) - scored.keys()
    if missing:
        raise TrainingError(
            f"Expected {', '.join(sorted(missing))} fitted for the choice {choice}, found "
            f"{', '.join(scored) or 'no candidate'}.",
            remedy="Fit the candidates; each says why it could not be fitted.",
        )
    on_validation, on_test = (
        baselines(sample.projected, sample.coordinates, sample.matrix, fit_rows=fitted, eval_rows=unseen)
        for fitted, unseen in ((rows.train, rows.validation), (rows.fit_rows, rows.test))
    )
    evaluation = Evaluation(
        choice=choice,
        settings=settings,
        validation={name: one.validation for name, one in scored.items()},
        test={name: one.test for name, one in scored.items()},
        baselines=on_test,
        validation_baselines=on_validation,
        split=rows.by,
        held_out=rows.held_out,
        not_fitted=dict(not_fitted or {}),
        probe=_with_references(sample, {name: one.probe for name, one in scored.items() if one.probe}),
        probe_left_out=probe_left_out,
        decode_ms={name: one.decode_ms for name, one in scored.items()},
        anchors={name: one.anchors for name, one in scored.items() if one.anchors is not None},
    )
    evaluation = replace(
        evaluation,
        learning_curve=_learning_curve(sample, evaluation, learning_curve_shares, log),
        confidence=scored[evaluation.champion].confidence,
        groups=scored[evaluation.champion].groups,
    )
    return Measured(evaluation, {name: one.pairs for name, one in scored.items()}, histories, best)


def _score(
    sample: Sample,
    candidate: Candidate,
    *,
    train_train: bool,
    plotted_pairs: int,
    with_probe: bool,
    groups: dict[str, NDArray[Any]],
) -> _CandidateScores:
    rows, projected, matrix = sample.rows, sample.projected, sample.matrix
    for_selection, decoder = candidate.for_selection, candidate.for_report
    known, validation = (
        DecodedRows.by(for_selection, projected[part]) for part in (rows.train, rows.validation)
    )
    on_validation = score_rows(validation, known, matrix, fit_rows=rows.train, eval_rows=rows.validation)
    del known  # as large as the training set
    fitted = DecodedRows.by(decoder, projected[rows.fit_rows])
    with threadpool_limits(1):  # these are timed, as a service decodes: on one core
        test = DecodedRows.by(decoder, projected[rows.test])
    probe = None
    if with_probe and sample.labels is not None:
        # A decoder knows its train rows, so they come out nearer to their originals than any row that the
        # classifier will meet. Hence validation rows, by the decoder that was fitted on train rows alone.
        asked = DecodedRows.by(for_selection, projected[rows.test])
        features = [(decoder.name, validation.rows, asked.rows)]
        probe = probe_scores(sample.labels[rows.validation], sample.labels[rows.test], features)
    return _CandidateScores(
        validation=on_validation,
        test=score_rows(
            test,
            fitted,
            matrix,
            fit_rows=rows.fit_rows,
            eval_rows=rows.test,
            fit_s=candidate.fit_s,
            train_train=train_train,
            standard_error=decoder.cosine_standard_error,
        ),
        decode_ms=1000 * test.quickest_block_s,
        confidence=confidence_calibration(
            decoder, test, fitted, matrix, fit_rows=rows.fit_rows, eval_rows=rows.test
        ),
        probe=probe,
        pairs=sample_test_pairs(test.rows, matrix, eval_rows=rows.test, pairs=plotted_pairs),
        anchors=score_candidate(decoder, sample, test.rows),
        groups=score_groups(test, fitted, matrix, groups, fit_rows=rows.fit_rows, eval_rows=rows.test),
    )


def groups_of_test_rows(sample: Sample) -> dict[str, NDArray[Any]]:
    """What test rows are told apart by: what the source says of them, and clusters of their originals.

    A cluster has the name of the row nearest to its centre, so that somebody can look at what is in it.
    """
    test = sample.rows.test
    known = {**sample.slices, **({} if sample.labels is None else {"label": sample.labels})}
    coordinates = sample.coordinates[test]
    clusters = cluster_labels(coordinates)
    names = np.empty(clusters.max() + 1, dtype="U24")
    for cluster in np.unique(clusters):
        rows = np.flatnonzero(clusters == cluster)
        central = rows[int((coordinates[rows] @ coordinates[rows].mean(axis=0)).argmax())]
        names[cluster] = f"around row {test[central]}"
    return {**{kind: values[test] for kind, values in known.items()}, "cluster": names[clusters]}


def _why_no_probe(sample: Sample) -> str | None:
    """Why labels cannot be used; None where they can, or where there are none."""
    if sample.labels is None:
        return None
    try:
        require_teachable(sample.labels[sample.rows.validation])
    except InputError as error:
        return f"of the validation rows, which a classifier learns from: {error}"
    return None


def _with_references(sample: Sample, probes: Mapping[str, ProbeScores]) -> ProbeScores | None:
    """Accuracies of all candidates, of the originals and of the projected embeddings as one."""
    if sample.labels is None or not probes:
        return None
    validation, test = sample.rows.validation, sample.rows.test
    references = probe_scores(
        sample.labels[validation],
        sample.labels[test],
        [
            ("originals", sample.coordinates[validation], sample.coordinates[test]),
            ("projected", sample.projected[validation], sample.projected[test]),
        ],
    )
    by_candidate = {name: share for one in probes.values() for name, share in one.accuracy.items()}
    return replace(references, accuracy=by_candidate | references.accuracy)


def _learning_curve(
    sample: Sample, evaluation: Evaluation, shares: Sequence[float], log: Callable[[str], None]
) -> tuple[LearningPoint, ...]:
    """The champion on parts of the train rows; the fit on all of them has been scored already."""
    if not shares:
        return ()
    champion = evaluation.champion

    def unfitted() -> Decoder:
        log(f"learning curve: fitting {champion}")
        return DECODERS[champion](**evaluation.settings[champion])

    points = learning_curve(
        unfitted,
        sample.projected,
        sample.coordinates,
        sample.matrix,
        output_dims=sample.output_dims,
        basis=sample.basis,
        train=sample.rows.train,
        validation=sample.rows.validation,
        shares=shares,
    )
    whole = LearningPoint(len(sample.rows.train), evaluation.validation[champion].test_test.r2)
    return (*points, whole)
