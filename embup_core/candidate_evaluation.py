"""All candidates measured on the same rows: what an `Evaluation` is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from embup_core.decoders import DECODERS
from embup_core.errors import InputError, TrainingError
from embup_core.evaluation import (
    LearningPoint,
    ProbeScores,
    Scores,
    baselines,
    confidence_calibration,
    decode_ms_per_row,
    evaluate_decoder,
    learning_curve,
    predict_in_blocks,
    probe_scores,
)
from embup_core.selection import CHOICES, YARDSTICK, Candidate, Evaluation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from embup_core.cosine_matrix import CosineMatrix
    from embup_core.decoders import Decoder
    from embup_core.row_split import RowSplit


@dataclass(frozen=True)
class Sample:
    """The rows that candidates are fitted, chosen and reported on.

    Attributes
    ----------
    projected
        z: float32, shape (N, 32), unit rows.
    coordinates
        c: float32, shape (N, r), unit rows.
    matrix
        True cosines.
    rows
        Who sees which row.
    labels
        What a classifier is asked to tell: integers or strings, shape (N,). None where there are none.
    """

    projected: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    matrix: CosineMatrix
    rows: RowSplit
    labels: NDArray[Any] | None = None


def evaluate_candidates(
    sample: Sample,
    folders: Mapping[str, Path],
    *,
    choice: str,
    not_fitted: Mapping[str, str] | None = None,
    learning_curve_shares: Sequence[float] = (),
    train_train: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Score candidates and baselines.

    Parameters
    ----------
    sample
        What they were fitted on.
    folders
        Where each candidate lies (`Candidate.files`), by its decoder's name; loaded one at a time.
    choice
        ``auto``, ``fast`` or a decoder's name.
    not_fitted
        Why each candidate of the choice that could not be fitted could not, by name.
    learning_curve_shares
        Shares of the train rows that the champion is fitted on anew; empty for no learning curve.
    train_train
        Whether to add errors over pairs of fitted rows.
    log
        Told what is being done.

    Raises
    ------
    InvalidArtifactError
        A candidate's files are damaged.
    TrainingError
        The yardstick was not fitted, or not the decoder that was asked for.
    """
    missing = ({YARDSTICK} if choice in CHOICES else {YARDSTICK, choice}) - folders.keys()
    if missing:
        raise TrainingError(
            f"Expected {', '.join(sorted(missing))} fitted for the choice {choice}, found "
            f"{', '.join(folders) or 'no candidate'}.",
            remedy="Materialize the candidates; each tells why it was not fitted.",
        )
    rows = sample.rows
    settings: dict[str, dict[str, Any]] = {}
    validation: dict[str, Scores] = {}
    test: dict[str, Scores] = {}
    decode_ms: dict[str, float] = {}
    for name, folder in folders.items():
        log(f"scoring {name}")
        candidate = Candidate.load(folder)
        decoder = candidate.for_report
        settings[name] = decoder.settings()
        validation[name] = evaluate_decoder(
            candidate.for_selection,
            sample.projected,
            sample.matrix,
            fit_rows=rows.train,
            eval_rows=rows.validation,
            intervals=False,
        )
        test[name] = evaluate_decoder(
            decoder,
            sample.projected,
            sample.matrix,
            fit_rows=rows.fit_rows,
            eval_rows=rows.test,
            fit_s=candidate.fit_s,
            train_train=train_train,
            standard_error=decoder.cosine_standard_error,
        )
        decode_ms[name] = decode_ms_per_row(decoder, sample.projected[rows.test])
    probe, probe_left_out = _probe(sample, folders, log)
    evaluation = Evaluation(
        choice=choice,
        settings=settings,
        validation=validation,
        test=test,
        baselines=baselines(
            sample.projected, sample.coordinates, sample.matrix, fit_rows=rows.fit_rows, eval_rows=rows.test
        ),
        split=rows.by,
        not_fitted=dict(not_fitted or {}),
        probe=probe,
        probe_left_out=probe_left_out,
        decode_ms=decode_ms,
    )
    champion = evaluation.champion
    return replace(
        evaluation,
        learning_curve=_learning_curve(sample, evaluation, learning_curve_shares, log),
        confidence=confidence_calibration(
            Candidate.load(folders[champion]).for_report,
            sample.projected,
            sample.matrix,
            fit_rows=rows.fit_rows,
            eval_rows=rows.test,
        ),
    )


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
        train=sample.rows.train,
        validation=sample.rows.validation,
        shares=shares,
    )
    whole = LearningPoint(len(sample.rows.train), evaluation.validation[champion].test_test.r2)
    return (*points, whole)


def _probe(
    sample: Sample, folders: Mapping[str, Path], log: Callable[[str], None]
) -> tuple[ProbeScores | None, str | None]:
    """What a classifier learns from decoded validation rows, asked on test rows, or why it cannot.

    Not from train rows: a decoder knows those, so they come out nearer to their originals than any row that
    the classifier will meet. The decoder is the one fitted on train rows alone, for both.
    """
    if sample.labels is None:
        return None, None
    learned_from, asked = sample.rows.validation, sample.rows.test

    def features() -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
        for name, folder in folders.items():
            log(f"classifier on rows of {name}")
            decoder = Candidate.load(folder).for_selection
            known, unseen = (
                predict_in_blocks(decoder, sample.projected[part]) for part in (learned_from, asked)
            )
            yield name, known, unseen
        yield "originals", sample.coordinates[learned_from], sample.coordinates[asked]
        yield "projected", sample.projected[learned_from], sample.projected[asked]

    try:
        return probe_scores(sample.labels[learned_from], sample.labels[asked], features()), None
    except InputError as error:
        reason = f"of the validation rows, which a classifier learns from: {error}"
        log(f"no classifier: {reason}")
        return None, reason
