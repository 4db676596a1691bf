"""How good each candidate is, side by side with what needs no decoder."""

import json
from pathlib import Path
from typing import Annotated

import dagster as dg
from annotated_types import Gt, Lt
from pydantic import Field

from embup_core.candidate_evaluation import Sample, evaluate_candidates
from embup_core.decoders import DECODERS
from embup_core.errors import TrainingError
from embup_core.evaluation import sample_test_pairs
from embup_core.plots import cosine_hexbin
from embup_core.report_plots import report_plots
from embup_core.scores_table import markdown_table, scores_table
from embup_core.selection import Candidate, Evaluation
from pipelines.defs.assets.candidates import asset_name, candidate_ins
from pipelines.defs.assets.handles import (
    OWNERS,
    CandidateHandle,
    InputFiles,
    MatrixHandle,
    StagedResult,
    open_coordinates,
    open_matrix,
    open_projected,
    open_row_labels,
    open_split,
    require_one_lineage,
)
from pipelines.defs.assets.thumbnails import THUMBNAIL_DPI, thumbnails
from pipelines.defs.resources import CandidateChoice, StagingRoot
from pipelines.staging import version_of

EVALUATION_FILE = "evaluation.json"


class EvaluationConfig(dg.Config):
    """What is drawn, and what is fitted for it."""

    plotted_pairs: int = Field(200_000, ge=100, description="Random pairs of test rows in each plot.")
    learning_curve_shares: list[Annotated[float, Gt(0), Lt(1)]] = Field(
        default=[0.25, 0.5],
        description="Shares of the train rows that the champion is fitted on anew; empty for no curve.",
    )
    train_train: bool = Field(
        False, description="Whether to add errors over pairs of fitted rows to evaluation.json."
    )


def evaluation_asset() -> dg.AssetsDefinition:
    """Make the asset, which takes all candidates there are."""
    make = dg.asset(
        ins=candidate_ins(), group_name="evaluation", owners=OWNERS, kinds={"numpy", "matplotlib"}
    )
    return make(evaluation)


def evaluation(
    context: dg.AssetExecutionContext,
    config: EvaluationConfig,
    projected_embeddings: InputFiles,
    cosine_matrix: MatrixHandle,
    coordinates: StagedResult,
    row_split: StagedResult,
    candidates: CandidateChoice,
    staging: StagingRoot,
    **handles: CandidateHandle,
) -> dg.MaterializeResult[StagedResult]:
    """Scores of all candidates and baselines on pairs of unseen rows, a plot each, and the champion."""
    made_from = require_one_lineage(cosine_matrix, coordinates=coordinates, row_split=row_split, **handles)
    projected = open_projected(projected_embeddings, cosine_matrix)
    matrix = open_matrix(cosine_matrix)
    rows = open_split(row_split)

    labels_file = cosine_matrix.files.labels
    sample = Sample(
        projected=projected,
        coordinates=open_coordinates(coordinates),
        matrix=matrix,
        rows=rows,
        labels=None if labels_file is None else open_row_labels(labels_file, cosine_matrix),
    )
    staged = {name: handles[asset_name(name)].path for name in DECODERS}
    fitted = {name: Path(path) for name, path in staged.items() if path and candidates.wants(name)}
    left_out = {name: handles[asset_name(name)].cannot_be_fitted for name in DECODERS}
    result = evaluate_candidates(
        sample,
        fitted,
        choice=candidates.decoder,
        not_fitted={name: why for name, why in left_out.items() if why and candidates.wants(name)},
        learning_curve_shares=config.learning_curve_shares,
        train_train=config.train_train,
        log=context.log.info,
    )
    plots = report_plots(result)
    small = report_plots(result, dpi=THUMBNAIL_DPI)
    hexbins: dict[str, bytes] = {}
    for name, folder in fitted.items():
        plots |= {path.name: path.read_bytes() for path in folder.glob("*.png")}
        true, predicted = sample_test_pairs(
            Candidate.load(folder).for_report,
            projected,
            matrix,
            eval_rows=rows.test,
            pairs=config.plotted_pairs,
        )
        title = f"{name}: R2 {result.test[name].test_test.r2:.3f}"
        plots[f"cosines_{name}.png"] = cosine_hexbin(true, predicted, title=title)
        hexbins[name] = cosine_hexbin(true, predicted, title=title, dpi=THUMBNAIL_DPI)
    version = version_of(
        choice=candidates.decoder,
        # Not the version alone: the choice at the time of the fit may have left a candidate out.
        candidates=[handle.version if handle.path else None for handle in handles.values()],
        config=config.model_dump(),
        labels=None if labels_file is None else labels_file.sha256,
    )
    content = json.dumps(result.to_json(), indent=2).encode()
    folder = staging.area(cosine_matrix.fingerprint).save_folder(
        "evaluation", version, {EVALUATION_FILE: content} | plots
    )
    champion = result.champion
    return dg.MaterializeResult(
        value=StagedResult(path=str(folder), version=version, made_from=made_from),
        metadata={
            "champion": champion,
            "choice": candidates.decoder,
            "test_r2": result.test[champion].test_test.r2,
            "test_rmse": result.test[champion].test_test.rmse,
            "rule": result.rule,
            "scores": _table(result),
            "report": thumbnails({name.removesuffix(".png"): image for name, image in small.items()}),
            "scores_on_validation": dg.MetadataValue.md(markdown_table(result.validation)),
            "true_against_predicted_cosine": thumbnails(hexbins),
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
    columns, rows = scores_table(evaluation.reported, evaluation.decode_ms)
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in columns]),
    )
