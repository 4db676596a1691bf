"""The source's files, brought here and checked. A check that fails is recorded before the run stops."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from embup_core.errors import InputError, InvalidDataError
from embup_core.geometry.landmark_source import with_coordinates
from embup_core.sources import (
    DataProfile,
    load_anchors,
    load_projected,
    load_row_labels,
    validate_pair,
)
from embup_core.training.basis import BasisChoice
from embup_core.training.selection import wanted_candidates
from pipelines.defs.assets.decoder_config import refuse_wrong_settings
from pipelines.defs.assets.handles import OWNERS, InputFiles, MatrixHandle, open_anchors, require_unchanged
from pipelines.defs.resources import (
    CandidateChoice,
    DecoderRegistry,
    Downloads,
    Originals,
    TrainingSource,
)
from pipelines.progress_lines import now_and_then

GROUP = "inputs"
CHECK = "inputs_valid"


def _refused(asset: str, error: InvalidDataError) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=CHECK,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=str(error),
        metadata={"problem": error.message, "remedy": error.remedy},
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy"},
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="projected_embeddings",
            blocking=True,
            description="(N, d), floats, finite, rows of length 1 within 1e-3; "
            "groups and labels, where given: one integer or string per row; anchors: unit rows, and the row "
            "number of each.",
        )
    ],
)
def projected_embeddings(
    context: dg.AssetExecutionContext,
    source: TrainingSource,
    downloads: Downloads,
    candidates: CandidateChoice,
    originals: Originals,
    registry: DecoderRegistry,
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[InputFiles]]:
    """The projected embeddings, and with them all files of the source: generated, found or downloaded.

    The choice of decoders and the settings of all that are fitted are checked here, before any work. Of a
    source of landmark columns the coordinates are recovered here, which take the place of the matrix.
    """
    try:
        refuse_wrong_settings(context.run.run_config, wanted_candidates(candidates.decoder))
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    files = downloads.resolve(source.spec, context.log.info)
    context.instance.add_run_tags(context.run.run_id, {"source": files.name})
    try:
        if files.has_landmark_columns:
            files = with_coordinates(
                files,
                Path(downloads.cache_dir),
                output_dims=originals.output_dims,
                kept=BasisChoice.from_registry(registry.open(), _asked_basis(context)).kept,
                progress=now_and_then(context.log.info),
            )
        handle = InputFiles.now(files)
        rows = len(load_projected(files.projected))
        distinct = {
            name: len(np.unique(load_row_labels(path, rows)))
            for name, path in (("groups", files.groups), ("labels", files.labels))
            if path is not None
        }
        if files.anchors is not None:
            anchors = load_anchors(files.anchors, rows, output_dims=originals.output_dims)
            distinct["anchors"] = len(anchors.rows)
    except InvalidDataError as error:
        yield _refused("projected_embeddings", error)
        raise
    yield dg.MaterializeResult(
        value=handle,
        metadata={
            "rows": rows,
            "source": files.name,
            **distinct,
            "file": dg.MetadataValue.path(str(files.projected)),
        },
        data_version=dg.DataVersion(_data_version(handle)),
        check_results=[dg.AssetCheckResult(check_name=CHECK, passed=True, metadata={"rows": rows})],
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy"},
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="cosine_matrix",
            blocking=True,
            description="Square, a row for each short vector, finite, within [-1, 1], diagonal 1 within "
            "0.005, no entry far from its mirror image; anchors, where given, have the same "
            "cosines. Landmark columns were checked before their coordinates were recovered.",
        )
    ],
)
def cosine_matrix(
    context: dg.AssetExecutionContext, projected_embeddings: InputFiles, originals: Originals
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[MatrixHandle]]:
    """The cosines between the originals, (N, N), read once as a stream to check and fingerprint them."""
    files = projected_embeddings.source_files
    try:
        require_unchanged(projected_embeddings.projected)
        require_unchanged(projected_embeddings.cosines)
        profile = validate_pair(files, progress=now_and_then(context.log.info))
        handle = MatrixHandle(
            files=projected_embeddings,
            rows=profile.rows,
            fingerprint=profile.fingerprint,
            cosine_deviation=profile.cosine_deviation,
        )
        open_anchors(handle, output_dims=originals.output_dims)
    except InvalidDataError as error:
        yield _refused("cosine_matrix", error)
        raise
    yield dg.MaterializeResult(
        value=handle,
        metadata={**_facts(profile), "file": dg.MetadataValue.path(str(files.cosines))},
        data_version=dg.DataVersion(profile.fingerprint),
        check_results=[dg.AssetCheckResult(check_name=CHECK, passed=True, metadata=_facts(profile))],
    )


def _asked_basis(context: dg.AssetExecutionContext) -> str | None:
    """The version whose basis is to be kept, as the launchpad says it to `coordinates`; None where not."""
    given: Any = context.run.run_config
    basis: str | None = given.get("ops", {}).get("coordinates", {}).get("config", {}).get("basis")
    return basis


def _data_version(handle: InputFiles) -> str:
    """Of the short vectors alone, and of what else is known of rows, and anchors, where there are any."""
    files = (handle.groups, handle.labels, handle.held_out, handle.drops)
    optional = [file.sha256[:16] for file in files if file is not None]
    if handle.anchors is not None:
        optional.append(handle.anchors.version)
    return "-".join([handle.projected_sha256, *optional])


def _facts(profile: DataProfile) -> dict[str, int | float | str]:
    return {
        "rows": profile.rows,
        "size_bytes": profile.cosine_bytes,
        "mean_cosine": profile.mean_cosine,
        "cosine_deviation": profile.cosine_deviation,
        "lowest_cosine": profile.lowest_cosine,
        "highest_cosine": profile.highest_cosine,
        "fingerprint": profile.fingerprint,
    }
