"""How good each candidate is, side by side with what needs no decoder."""

import json
from pathlib import Path
from typing import Annotated

import dagster as dg
from annotated_types import Gt, Lt
from pydantic import Field

from embup_core.errors import TrainingError
from embup_core.training.candidates import evaluate_candidates
from embup_core.training.report import measured_plots, pairs_plot, report_plots
from embup_core.training.sample import Sample
from embup_core.training.selection import Candidate, Evaluation
from pipelines.defs.assets.handles import (
    OWNERS,
    CandidatesHandle,
    CoordinatesHandle,
    InputFiles,
    MatrixHandle,
    StagedResult,
    open_anchors,
    open_basis,
    open_coordinates,
    open_matrix,
    open_projected,
    open_row_labels,
    open_slices,
    open_split,
    require_one_lineage,
)
from pipelines.defs.assets.thumbnails import THUMBNAIL_DPI, captioned
from pipelines.defs.resources import CandidateChoice, StagingRoot
from pipelines.staging import version_of

EVALUATION_FILE = "evaluation.json"


class EvaluationConfig(dg.Config):
    """What is drawn, and what is fitted for it."""

    plotted_pairs: int = Field(200_000, ge=100, description="Random pairs of test rows in each plot.")
    learning_curve_shares: list[Annotated[float, Gt(0), Lt(1)]] = Field(
        default=[],
        description="Shares of the train rows that the champion is fitted on anew, such as 0.1, 0.25 and "
        "0.5; empty for no learning curve.",
    )
    train_train: bool = Field(
        False, description="Whether to add errors over pairs of fitted rows to evaluation.json."
    )


@dg.asset(group_name="evaluation", owners=OWNERS, kinds={"numpy", "matplotlib"})
def evaluation(
    context: dg.AssetExecutionContext,
    config: EvaluationConfig,
    projected_embeddings: InputFiles,
    cosine_matrix: MatrixHandle,
    coordinates: CoordinatesHandle,
    row_split: StagedResult,
    candidates: CandidateChoice,
    fitted_decoders: CandidatesHandle,
    staging: StagingRoot,
) -> dg.MaterializeResult[StagedResult]:
    """Scores of all candidates and baselines on pairs of unseen rows, a plot each, and the champion."""
    made_from = require_one_lineage(
        cosine_matrix,
        coordinates=coordinates,
        row_split=row_split,
        fitted_decoders=fitted_decoders,
    )
    labels_file = cosine_matrix.files.labels
    sample = Sample(
        projected=open_projected(projected_embeddings, cosine_matrix),
        coordinates=open_coordinates(coordinates),
        matrix=open_matrix(cosine_matrix),
        rows=open_split(row_split),
        output_dims=coordinates.output_dims,
        basis=open_basis(coordinates),
        labels=None if labels_file is None else open_row_labels(labels_file, cosine_matrix),
        anchors=open_anchors(cosine_matrix, output_dims=coordinates.output_dims),
        slices=open_slices(cosine_matrix),
    )
    # The choice may have been changed since they were fitted.
    taken = {name: one for name, one in fitted_decoders.candidates.items() if candidates.wants(name)}
    folders = {name: Path(one.path) for name, one in taken.items()}
    measured = evaluate_candidates(
        sample,
        (Candidate.load(folder) for folder in folders.values()),
        choice=candidates.decoder,
        not_fitted={
            name: reason for name, reason in fitted_decoders.not_fitted.items() if candidates.wants(name)
        },
        learning_curve_shares=config.learning_curve_shares,
        train_train=config.train_train,
        plotted_pairs=config.plotted_pairs,
        log=context.log.info,
    )
    result, champion = measured.evaluation, measured.evaluation.champion
    plots = measured_plots(measured)
    training_plot = folders[champion] / f"training_{champion}.png"
    if training_plot.exists():  # what a fit recorded is not kept with its arrays
        plots[training_plot.name] = training_plot.read_bytes()
    small = report_plots(result, dpi=THUMBNAIL_DPI)
    hexbins = {f"cosines_{name}.png": pairs_plot(measured, name, dpi=THUMBNAIL_DPI) for name in folders}
    version = version_of(
        choice=candidates.decoder,
        candidates={name: one.version for name, one in taken.items()},
        not_fitted=fitted_decoders.not_fitted,
        config=config.model_dump(),
        labels=None if labels_file is None else labels_file.sha256,
        slices=[one.sha256 for one in (cosine_matrix.files.drops, cosine_matrix.files.groups) if one],
        anchors=None if cosine_matrix.files.anchors is None else cosine_matrix.files.anchors.version,
    )
    content = json.dumps(result.to_json(), indent=2).encode()
    folder = staging.area(cosine_matrix.fingerprint).save_folder(
        "evaluation", version, {EVALUATION_FILE: content} | plots
    )
    scores, anchors = result.test[champion], result.anchors.get(champion)
    low, high = scores.intervals.r2 if scores.intervals else (float("nan"), float("nan"))
    context.instance.add_run_tags(
        context.run.run_id, {"champion": champion, "r2": f"{scores.test_test.r2:.3f}"}
    )
    return dg.MaterializeResult(
        value=StagedResult(path=str(folder), version=version, made_from=made_from),
        metadata={
            "champion": champion,
            "chosen_because": result.chosen_because,
            "choice": candidates.decoder,
            "test_r2": scores.test_test.r2,
            "test_r2_interval_low": low,
            "test_r2_interval_high": high,
            "validation_r2": result.validation[champion].test_test.r2,
            "test_rmse": scores.test_test.rmse,
            **({"anchors": anchors.anchors, "anchors_r2": anchors.r2} if anchors else {}),
            "rule": result.rule,
            "scores": _table(result),
            "report": captioned(small),
            "true_against_predicted_cosine": captioned(hexbins),
            "folder": dg.MetadataValue.path(str(folder)),
        },
        data_version=dg.DataVersion(version),
    )


def open_evaluation(handle: StagedResult) -> Evaluation:
    """The staged evaluation; raises `TrainingError` where its file is gone or of another version of embup."""
    path = Path(handle.path) / EVALUATION_FILE
    try:
        return Evaluation.from_json(json.loads(path.read_bytes()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path}: expected an evaluation of this version of embup, found none ({error!r}).",
            remedy="Materialize the decoders and evaluation again.",
        ) from error


def _table(evaluation: Evaluation) -> dg.TableMetadataValue:
    columns, rows = evaluation.table()
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in columns]),
    )
