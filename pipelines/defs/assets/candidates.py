"""All decoders of the choice, fitted twice: on train rows, to choose by, and with validation rows, to report.

One asset a decoder, which is materialized by a run that fits it, and one that names them all. They share a
step: Dagster skips whatever comes after an asset that was left out, and a choice leaves most decoders out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import dagster as dg
from pydantic import create_model

from embup_core.decoders import DECODERS, Decoder
from embup_core.training.fitting import fit_candidates
from embup_core.training.plots import training_curves
from embup_core.training.sample import Sample
from embup_core.training.step_progress import decoder_step
from pipelines.defs.assets.decoder_config import FITS, decoder_config
from pipelines.defs.assets.handles import (
    OWNERS,
    CandidateHandle,
    CandidatesHandle,
    CoordinatesHandle,
    InputFiles,
    MatrixHandle,
    StagedResult,
    open_basis,
    open_coordinates,
    open_matrix,
    open_projected,
    open_split,
    require_one_lineage,
)
from pipelines.defs.assets.thumbnails import THUMBNAIL_DPI, captioned
from pipelines.defs.resources import CandidateChoice, StagingRoot
from pipelines.progress_lines import now_and_then
from pipelines.staging import version_of

GROUP = "decoders"
FITTED_FROM = ("projected_embeddings", "cosine_matrix", "coordinates", "row_split")

Materialized: TypeAlias = "Iterator[dg.MaterializeResult[CandidateHandle | CandidatesHandle]]"


def candidate_assets() -> dg.AssetsDefinition:
    """Make the assets of all decoders there are."""
    names = [decoder_step(name) for name in DECODERS]
    settings_type = create_model(  # type: ignore[call-overload]  # fields by name
        "SettingsOfDecoders",
        __base__=dg.Config,
        __doc__="Settings of each decoder; those that the choice leaves out are not used.",
        **{name: (config := decoder_config(kind), config()) for name, kind in DECODERS.items()},
    )

    @dg.multi_asset(
        name=FITS,
        group_name=GROUP,
        outs={decoder_step(name): _asset_out(decoder_type) for name, decoder_type in DECODERS.items()}
        | {
            FITS: dg.AssetOut(
                dagster_type=CandidatesHandle,
                owners=OWNERS,
                kinds={"numpy"},
                description="The decoders that the last run fitted, and why it could not fit others.",
            )
        },
        internal_asset_deps={name: set(map(dg.AssetKey, FITTED_FROM)) for name in names}
        | {FITS: set(map(dg.AssetKey, (*FITTED_FROM, *names)))},
    )
    def fitted_decoders(
        context: dg.AssetExecutionContext,
        config: settings_type,  # type: ignore[valid-type]  # Dagster reads it when the assets are made
        projected_embeddings: InputFiles,
        cosine_matrix: MatrixHandle,
        coordinates: CoordinatesHandle,
        row_split: StagedResult,
        candidates: CandidateChoice,
        staging: StagingRoot,
    ) -> Materialized:
        made_from = require_one_lineage(cosine_matrix, coordinates=coordinates, row_split=row_split)
        settings: dict[str, dict[str, Any]] = config.model_dump()  # type: ignore[attr-defined]
        versions = {
            name: version_of(
                decoder=name,
                settings=settings[name],
                coordinates=coordinates.version,
                split=row_split.version,
            )
            for name in DECODERS
        }
        rows, progress = open_split(row_split), now_and_then(context.log.info)
        sample = Sample(
            open_projected(projected_embeddings, cosine_matrix),
            open_coordinates(coordinates),
            open_matrix(cosine_matrix),
            rows,
            coordinates.output_dims,
            open_basis(coordinates),
        )
        handles: dict[str, CandidateHandle] = {}
        not_fitted: dict[str, str] = {}
        for candidate in fit_candidates(
            sample,
            choice=candidates.decoder,
            settings=settings,
            not_fitted=not_fitted,
            on_steps=lambda name, done, steps: progress(decoder_step(name), done, steps),
        ):
            decoder = candidate.for_report
            name, version = decoder_step(decoder.name), versions[decoder.name]
            folder = staging.area(cosine_matrix.fingerprint).save_folder(
                name, version, candidate.files() | _training_plot(decoder)
            )
            handles[decoder.name] = CandidateHandle(path=str(folder), version=version, made_from=made_from)
            shown = _training_plot(decoder, dpi=THUMBNAIL_DPI)
            yield dg.MaterializeResult(
                asset_key=name,
                value=handles[decoder.name],
                metadata={
                    "decoder": decoder.summary,
                    "settings": dg.MetadataValue.json(decoder.settings()),
                    "rows_for_selection": len(rows.train),
                    "rows_for_report": len(rows.fit_rows),
                    "fit_s": round(candidate.fit_s, 3),
                    "numbers_learned": sum(int(array.size) for array in decoder.arrays().values()),
                    "folder": dg.MetadataValue.path(str(folder)),
                    **({"training": captioned(shown)} if shown else {}),
                },
                data_version=dg.DataVersion(version),
            )
        for name, reason in not_fitted.items():
            context.log.warning("%s was not fitted: %s", name, reason)
        version = version_of(
            candidates={name: handle.version for name, handle in handles.items()}, not_fitted=not_fitted
        )
        yield dg.MaterializeResult(
            asset_key=FITS,
            value=CandidatesHandle(
                candidates=handles, not_fitted=not_fitted, version=version, made_from=made_from
            ),
            metadata={
                "choice": candidates.decoder,
                "fitted": ", ".join(handles),
                **({"not_fitted": dg.MetadataValue.md(_reasons(not_fitted))} if not_fitted else {}),
            },
            data_version=dg.DataVersion(version),
        )

    return fitted_decoders


def _asset_out(decoder_type: type[Decoder]) -> dg.AssetOut:
    return dg.AssetOut(
        dagster_type=CandidateHandle,
        is_required=False,
        owners=OWNERS,
        kinds=set(decoder_type.fitted_with),
        description=f"Candidate: {decoder_type.summary}. Fitted on train rows, then with validation rows.",
    )


def _reasons(not_fitted: Mapping[str, str]) -> str:
    return "\n".join(f"- `{name}`: {reason}" for name, reason in not_fitted.items())


def _training_plot(decoder: Decoder, *, dpi: int = 120) -> dict[str, bytes]:
    """The curves of a decoder that learned in steps, by file name; of others nothing."""
    if not decoder.history_:
        return {}
    return {f"training_{decoder.name}.png": training_curves(decoder.history_, title=decoder.name, dpi=dpi)}
