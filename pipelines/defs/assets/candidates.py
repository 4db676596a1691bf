"""One asset a decoder, fitted twice: on train rows, to choose by, and with validation rows, to report."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from embup_core.decoders import DECODERS, Decoder
from embup_core.errors import TrainingError
from embup_core.plots import training_curves
from embup_core.row_split import RowSplit
from embup_core.selection import Candidate
from pipelines.defs.assets.decoder_config import decoder_config
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


def candidate_assets() -> list[dg.AssetsDefinition]:
    """Make the asset of each decoder there is."""
    return [_candidate_asset(decoder_type) for decoder_type in DECODERS.values()]


def candidate_ins() -> dict[str, dg.AssetIn]:
    """All candidates as inputs of another asset, which takes them as ``**candidates: CandidateHandle``."""
    return {asset_name(name): dg.AssetIn(dagster_type=CandidateHandle) for name in DECODERS}


def asset_name(decoder: str) -> str:
    """Name of a decoder's asset."""
    return f"decoder_{decoder}"


def _candidate_asset(decoder_type: type[Decoder]) -> dg.AssetsDefinition:
    config_type = decoder_config(decoder_type)
    name = asset_name(decoder_type.name)

    @dg.asset(
        name=name,
        group_name=GROUP,
        owners=OWNERS,
        kinds=set(decoder_type.fitted_with),
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

        def not_fitted(
            reason: str, *, cannot_be_fitted: str | None = None
        ) -> dg.MaterializeResult[CandidateHandle]:
            state = f"not fitted: {reason}"
            level = "WARNING" if cannot_be_fitted else "INFO"
            context.log.log(level, state)
            return dg.MaterializeResult(
                value=CandidateHandle(
                    cannot_be_fitted=cannot_be_fitted, version=version, made_from=made_from
                ),
                metadata={"state": state},
                data_version=dg.DataVersion("not fitted"),
            )

        if not candidates.wants(decoder_type.name):
            return not_fitted(f"the choice is {candidates.decoder}")
        rows = open_split(row_split)
        try:
            fitted = _fit_twice(
                decoder_type,
                settings,
                open_projected(projected_embeddings, cosine_matrix),
                open_coordinates(coordinates),
                rows,
                log=context.log.info,
            )
        except TrainingError as error:
            if candidates.requires(decoder_type.name):
                raise
            return not_fitted(str(error), cannot_be_fitted=str(error))  # the others go on without it
        folder = staging.area(cosine_matrix.fingerprint).save_folder(
            name, version, fitted.files() | _training_plot(fitted.for_report)
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


def _fit_twice(
    decoder_type: type[Decoder],
    settings: dict[str, Any],
    projected: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    rows: RowSplit,
    *,
    log: Callable[[str], None],
) -> Candidate:
    """Fit on train rows, and again with validation rows; the steps of both are told as one count."""
    tell = now_and_then(log)
    counted = itertools.count(1)

    def fitted(to_fit: NDArray[np.int64]) -> Decoder:
        decoder = decoder_type(**settings)
        decoder.on_step = lambda _, steps: tell("steps", next(counted), 2 * steps)
        return decoder.fit(projected[to_fit], coordinates[to_fit])

    for_selection = fitted(rows.train)
    started_s = time.perf_counter()
    for_report = fitted(rows.fit_rows)
    return Candidate(for_selection, for_report, time.perf_counter() - started_s)


def _training_plot(decoder: Decoder, *, dpi: int = 120) -> dict[str, bytes]:
    """The curves of a decoder that learned in steps, by file name; of others nothing."""
    if not decoder.history_:
        return {}
    return {f"training_{decoder.name}.png": training_curves(decoder.history_, title=decoder.name, dpi=dpi)}
