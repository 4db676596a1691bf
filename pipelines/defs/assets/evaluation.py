"""How good each candidate is, side by side with what needs no decoder."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from embup_core.evaluation import Scores, baselines, evaluate_decoder, sample_test_pairs
from embup_core.plots import comparison, cosine_hexbin
from embup_core.scores_table import markdown_table, scores_table
from embup_core.selection import Candidate, Evaluation
from pipelines.defs.assets.handles import (
    OWNERS,
    CandidateHandle,
    InputFiles,
    MatrixHandle,
    StagedResult,
    open_coordinates,
    open_matrix,
    open_projected,
    open_split,
    require_one_lineage,
)
from pipelines.defs.assets.thumbnails import THUMBNAIL_DPI, thumbnails
from pipelines.defs.resources import CandidateChoice, StagingRoot
from pipelines.staging import version_of

EVALUATION_FILE = "evaluation.json"


class EvaluationConfig(dg.Config):
    """What is drawn."""

    plotted_pairs: int = Field(200_000, ge=100, description="Random pairs of test rows in each plot.")


@dg.asset(group_name="evaluation", owners=OWNERS, kinds={"numpy", "matplotlib"})
def evaluation(
    context: dg.AssetExecutionContext,
    config: EvaluationConfig,
    projected_embeddings: InputFiles,
    cosine_matrix: MatrixHandle,
    coordinates: StagedResult,
    row_split: StagedResult,
    decoder_linear: CandidateHandle,
    decoder_linear_residual: CandidateHandle,
    decoder_kriging: CandidateHandle,
    decoder_mlp: CandidateHandle,
    candidates: CandidateChoice,
    staging: StagingRoot,
) -> dg.MaterializeResult[StagedResult]:
    """Scores of all candidates and baselines on pairs of unseen rows, a plot each, and the champion."""
    handles = {
        "decoder_linear": decoder_linear,
        "decoder_linear_residual": decoder_linear_residual,
        "decoder_kriging": decoder_kriging,
        "decoder_mlp": decoder_mlp,
    }
    made_from = require_one_lineage(cosine_matrix, coordinates=coordinates, row_split=row_split, **handles)
    projected = open_projected(projected_embeddings, cosine_matrix)
    matrix = open_matrix(cosine_matrix)
    rows = open_split(row_split)

    settings: dict[str, dict[str, Any]] = {}
    validation: dict[str, Scores] = {}
    test: dict[str, Scores] = {}
    plots: dict[str, bytes] = {}
    small: dict[str, bytes] = {}
    for handle in handles.values():
        if handle.path is None:
            continue
        folder = Path(handle.path)
        candidate = Candidate.load(folder)
        plots |= {path.name: path.read_bytes() for path in folder.glob("*.png")}
        decoder = candidate.for_report
        context.log.info("scoring %s", decoder.name)
        settings[decoder.name] = decoder.settings()
        validation[decoder.name] = evaluate_decoder(
            candidate.for_selection, projected, matrix, fit_rows=rows.train, eval_rows=rows.validation
        )
        test[decoder.name] = evaluate_decoder(
            decoder, projected, matrix, fit_rows=rows.fit_rows, eval_rows=rows.test, fit_s=candidate.fit_s
        )
        true, predicted = sample_test_pairs(
            decoder, projected, matrix, eval_rows=rows.test, pairs=config.plotted_pairs
        )
        title = f"{decoder.name}: R2 {test[decoder.name].test_test.r2:.3f}"
        plots[f"cosines_{decoder.name}.png"] = cosine_hexbin(true, predicted, title=title)
        small[decoder.name] = cosine_hexbin(true, predicted, title=title, dpi=THUMBNAIL_DPI)
    result = Evaluation(
        choice=candidates.decoder,
        settings=settings,
        validation=validation,
        test=test,
        baselines=baselines(
            projected, open_coordinates(coordinates), matrix, fit_rows=rows.fit_rows, eval_rows=rows.test
        ),
    )
    plots["comparison.png"] = comparison(test)
    version = version_of(
        choice=candidates.decoder,
        # Not the version alone: the choice at the time of the fit may have left a candidate out.
        candidates=[handle.version if handle.path else None for handle in handles.values()],
        config=config.model_dump(),
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
            "test_r2": test[champion].test_test.r2,
            "test_rmse": test[champion].test_test.rmse,
            "scores": _table(result.reported),
            "comparison": thumbnails({"comparison": comparison(test, dpi=THUMBNAIL_DPI)}),
            "scores_on_validation": dg.MetadataValue.md(markdown_table(validation)),
            "true_against_predicted_cosine": thumbnails(small),
            "folder": dg.MetadataValue.path(str(folder)),
        },
        data_version=dg.DataVersion(version),
    )


def open_evaluation(handle: StagedResult) -> Evaluation:
    """The staged evaluation."""
    return Evaluation.from_json(json.loads((Path(handle.path) / EVALUATION_FILE).read_bytes()))


def _table(scores: dict[str, Scores]) -> dg.TableMetadataValue:
    columns, rows = scores_table(scores)
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in columns]),
    )
