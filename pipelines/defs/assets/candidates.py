"""One asset a decoder, fitted twice: on train rows, to choose by, and with validation rows, to report.

Defaults of the configurations are those of the decoders; a test holds them together.
"""

import itertools
from collections.abc import Callable
from typing import Any

import dagster as dg
from pydantic import Field

from embup_core.decoders import DECODERS, Decoder
from embup_core.decoders.mlp import MlpDecoder
from embup_core.plots import loss_curve
from embup_core.selection import Candidate
from pipelines.defs.assets.handles import (
    OWNERS,
    CandidateHandle,
    InputFiles,
    MatrixHandle,
    StagedResult,
    open_coordinates,
    open_projected,
    open_split,
    require_one_lineage,
)
from pipelines.defs.assets.thumbnails import THUMBNAIL_DPI, thumbnails
from pipelines.defs.resources import CandidateChoice, StagingRoot
from pipelines.progress_lines import now_and_then
from pipelines.staging import version_of

GROUP = "decoders"


class LinearConfig(dg.Config):
    """Settings of the linear decoder."""

    alpha: float = Field(
        0.01, ge=0, description="Ridge penalty on the squared weights, in units of squared z."
    )


class LinearResidualConfig(dg.Config):
    """Settings of the linear decoder with residual."""

    alpha: float = Field(1.0, ge=0, description="Ridge penalty, in standard units of z.")
    mean_dims: int = Field(
        64, ge=2, le=1534, description="Dimensions of the regression; the rest are residual."
    )
    residual_length_scale: float = Field(
        1.5, gt=0, description="Distance, in standard units of z, over which two residuals stay alike."
    )
    seed: int = Field(0, description="Of the residual's random frequencies.")


class KrigingConfig(dg.Config):
    """Settings of the kriging decoder."""

    neighbours: int = Field(16, ge=1, description="Training rows that a prediction looks at.")
    length_scale: float = Field(
        16.0, gt=0, description="Of the Laplacian covariance, in standard units of z."
    )
    nugget: float = Field(
        0.001, ge=0, description="Variance of the noise, as a share of the covariance at 0."
    )
    alpha: float = Field(1.0, ge=0, description="Ridge penalty of the trend, in standard units of z.")
    mean_dims: int = Field(
        384, ge=2, le=1534, description="Dimensions of the regression; the rest are residual."
    )
    residual_length_scale: float = Field(
        1.5, gt=0, description="Distance, in standard units of z, over which two residuals stay alike."
    )
    seed: int = Field(0, description="Of the residual's random frequencies.")


class MlpConfig(dg.Config):
    """Settings of the perceptron."""

    epochs: int = Field(40, ge=1, description="Passes over the training rows.")
    batch_rows: int = Field(256, ge=2, description="Rows a step; a step sees all their pairs.")
    learning_rate: float = Field(1e-3, gt=0, description="The largest of the one-cycle schedule.")
    seed: int = Field(0, description="Of the starting weights and of the order of rows.")


def candidate_asset(
    decoder_type: type[Decoder], config_type: type[dg.Config], kinds: set[str]
) -> dg.AssetsDefinition:
    """Make the asset of one decoder."""

    @dg.asset(
        name=f"decoder_{decoder_type.name}",
        group_name=GROUP,
        owners=OWNERS,
        kinds=kinds,
        description=f"Candidate: {decoder_type.summary}. Fitted on train rows, then with validation rows.",
    )
    def candidate(
        context: dg.AssetExecutionContext,
        config: config_type,  # type: ignore[valid-type]  # Dagster reads it when the asset is made
        projected_embeddings: InputFiles,
        cosine_matrix: MatrixHandle,
        coordinates: StagedResult,
        row_split: StagedResult,
        candidates: CandidateChoice,
        staging: StagingRoot,
    ) -> dg.MaterializeResult[CandidateHandle]:
        made_from = require_one_lineage(cosine_matrix, coordinates=coordinates, row_split=row_split)
        settings: dict[str, Any] = config.model_dump()  # type: ignore[attr-defined]
        version = version_of(
            decoder=decoder_type.name,
            settings=settings,
            coordinates=coordinates.version,
            split=row_split.version,
        )
        if not candidates.wants(decoder_type.name):
            state = f"not fitted: the choice is {candidates.decoder}"
            context.log.info(state)
            return dg.MaterializeResult(
                value=CandidateHandle(version=version, made_from=made_from),
                metadata={"state": state},
                data_version=dg.DataVersion("not fitted"),
            )
        if decoder_type is MlpDecoder:
            settings["on_epoch"] = _epochs_told(context, settings["epochs"])
        rows = open_split(row_split)
        fitted = Candidate.fit(
            decoder_type,
            settings,
            open_projected(projected_embeddings, cosine_matrix),
            open_coordinates(coordinates),
            train=rows.train,
            fit_rows=rows.fit_rows,
        )
        folder = staging.area(cosine_matrix.fingerprint).save_folder(
            f"decoder_{decoder_type.name}", version, fitted.files() | _training_plot(fitted.for_report)
        )
        shown = _training_plot(fitted.for_report, dpi=THUMBNAIL_DPI)
        return dg.MaterializeResult(
            value=CandidateHandle(path=str(folder), version=version, made_from=made_from),
            metadata={
                "decoder": decoder_type.summary,
                "settings": dg.MetadataValue.json(fitted.for_report.settings()),
                "rows_for_selection": len(rows.train),
                "rows_for_report": len(rows.fit_rows),
                "fit_s": round(fitted.fit_s, 3),
                "numbers_learned": sum(int(array.size) for array in fitted.for_report.arrays().values()),
                "folder": dg.MetadataValue.path(str(folder)),
                **({"training": thumbnails(shown)} if shown else {}),
            },
            data_version=dg.DataVersion(version),
        )

    return candidate


def _epochs_told(context: dg.AssetExecutionContext, epochs: int) -> Callable[[int], None]:
    """Tell the epochs of both fits as one count."""
    tell = now_and_then(context.log.info)
    counted = itertools.count(1)
    return lambda _: tell("epochs", next(counted), 2 * epochs)


def _training_plot(decoder: Decoder, *, dpi: int = 120) -> dict[str, bytes]:
    """The curve of a decoder that learned in epochs, by file name; of others nothing."""
    if not isinstance(decoder, MlpDecoder):
        return {}
    title = f"{decoder.name}: {len(decoder.losses_)} epochs"
    return {f"training_{decoder.name}.png": loss_curve(decoder.losses_, title=title, dpi=dpi)}


decoder_linear = candidate_asset(DECODERS["linear"], LinearConfig, {"scikitlearn"})
decoder_linear_residual = candidate_asset(DECODERS["linear_residual"], LinearResidualConfig, {"scikitlearn"})
decoder_kriging = candidate_asset(DECODERS["kriging"], KrigingConfig, {"numpy"})
decoder_mlp = candidate_asset(DECODERS["mlp"], MlpConfig, {"pytorch"})
