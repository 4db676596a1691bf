"""What is made of the inputs before any decoder: the originals up to a rotation, and who sees which row."""

import time

import dagster as dg
import numpy as np
from pydantic import Field

from embup_core.artifacts.manifest import BASIS_FILE
from embup_core.geometry.coordinates import default_landmarks
from embup_core.geometry.landmark_source import recorded_recovery
from embup_core.sources.cosine_matrix import CoordinateProducts
from embup_core.training.basis import BasisChoice, recover_in
from embup_core.training.split import MAX_TRAINING_ROWS, SplitBy, split_right_rows
from pipelines.defs.assets.handles import (
    OWNERS,
    CoordinatesHandle,
    MatrixHandle,
    StagedResult,
    open_held_out,
    open_matrix,
    open_projected,
    open_row_labels,
    require_one_lineage,
)
from pipelines.defs.assets.transform import open_left_out
from pipelines.defs.resources import DecoderRegistry, Originals, StagingRoot
from pipelines.staging import version_of

GROUP = "geometry"


class CoordinatesConfig(dg.Config):
    """How the originals are recovered."""

    landmarks: int | None = Field(
        None,
        ge=1,
        description="Rows of the matrix that are read, no fewer than the originals' dimensions. Default: a "
        "third more.",
    )
    seed: int = Field(0, description="Which rows become landmarks.")
    basis: str | None = Field(
        None,
        description="Version whose basis is kept, so that vectors decoded by both are comparable, or `new`. "
        "Empty: that of the version in service, if the data holds its landmark rows, else a new one. A kept "
        "basis has its own landmarks.",
    )


class RowSplitConfig(dg.Config):
    """How rows are divided."""

    split: SplitBy = Field(
        SplitBy.rows, description="Divide single rows, or whole groups, which the source's groups.npy names."
    )
    seed: int = Field(0, description="Of the random division.")
    test_share: float = Field(0.15, gt=0, lt=1, description="Share of rows that only the report sees.")
    validation_share: float = Field(0.10, gt=0, lt=1, description="Share of rows that choose the champion.")
    max_training_rows: int = Field(
        MAX_TRAINING_ROWS,
        ge=100,
        description="Most rows that take part, test rows among them; of more, a random sample does.",
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"numpy"})
def coordinates(
    context: dg.AssetExecutionContext,
    config: CoordinatesConfig,
    cosine_matrix: MatrixHandle,
    originals: Originals,
    registry: DecoderRegistry,
    staging: StagingRoot,
) -> dg.MaterializeResult[CoordinatesHandle]:
    """The originals up to a rotation, (N, <= output_dims), recovered from landmark rows of the matrix.

    They are in the basis of the version in service, or in a new one.
    """
    matrix = open_matrix(cosine_matrix)
    output_dims = originals.output_dims
    landmarks = config.landmarks or default_landmarks(output_dims)
    started_s = time.perf_counter()
    found = recover_in(
        BasisChoice.from_registry(registry.open(), config.basis),
        matrix,
        open_projected(cosine_matrix.files, cosine_matrix),
        output_dims=output_dims,
        landmarks=landmarks,
        seed=config.seed,
    )
    record = recorded_recovery(matrix.path)
    recovered, noise = found.coordinates, found.noise if record is None else record.noise
    fit_s = time.perf_counter() - started_s + (0 if record is None else record.seconds)
    version = version_of(
        fingerprint=cosine_matrix.fingerprint,
        output_dims=output_dims,
        landmarks=landmarks,
        seed=config.seed,
        basis=found.basis.id,
    )
    area = staging.area(cosine_matrix.fingerprint)
    path = (
        matrix.path  # which later assets look at before they open it
        if isinstance(matrix, CoordinateProducts)
        else area.save_array("coordinates", version, recovered)
    )
    basis_path = area.save_folder("basis", version, {BASIS_FILE: found.basis.to_bytes()}) / BASIS_FILE
    read = len(found.landmarks) if record is None else record.landmarks
    if found.warning:
        context.log.warning("%s", found.warning)
    return dg.MaterializeResult(
        value=CoordinatesHandle(
            path=str(path),
            version=version,
            made_from={"cosine_matrix": cosine_matrix.fingerprint},
            output_dims=output_dims,
            basis_path=str(basis_path),
            basis_note=found.note,
        ),
        metadata={
            "rows": recovered.shape[0],
            "dimensions": recovered.shape[1],
            "output_dims": output_dims,
            "landmark_rows": read,
            "share_of_matrix_read": read / matrix.n_rows,
            "recovery_s": round(fit_s, 3),
            "matrix_noise": noise.to_json(),
            "basis": found.note,
            "warning": " ".join(
                text for text in (noise.warning(), found.warning, record and record.describe()) if text
            ),
            "file": dg.MetadataValue.path(str(path)),
        },
        data_version=dg.DataVersion(version),
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"numpy"})
def row_split(
    config: RowSplitConfig, cosine_matrix: MatrixHandle, transform: StagedResult, staging: StagingRoot
) -> dg.MaterializeResult[StagedResult]:
    """Which rows decoders are fitted on, chosen by and reported on; wrong ones are in no part."""
    made_from = require_one_lineage(cosine_matrix, transform=transform)
    left_out = open_left_out(transform)
    file = cosine_matrix.files.groups if config.split == SplitBy.groups else None
    split = split_right_rows(
        cosine_matrix.rows,
        left_out,
        None if file is None else open_row_labels(file, cosine_matrix),
        held_out=open_held_out(cosine_matrix),
        max_training_rows=config.max_training_rows,
        split=config.split,
        seed=config.seed,
        test_share=config.test_share,
        validation_share=config.validation_share,
    )
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    version = version_of(
        rows=cosine_matrix.rows,
        left_out=left_out.tolist(),
        settings=config.model_dump(),
        groups=file and file.sha256,
        held_out=cosine_matrix.files.held_out and cosine_matrix.files.held_out.sha256,
    )
    facts = {
        "seed": np.array([config.seed]),
        "by": np.array(str(split.by)),
        "held_out": np.array(split.held_out),
        "not_sampled": split.not_sampled,
    }
    path = staging.area(cosine_matrix.fingerprint).save_arrays("row_split", version, parts | facts)
    return dg.MaterializeResult(
        value=StagedResult(path=str(path), version=version, made_from=made_from),
        metadata={
            **{f"{name}_rows": len(rows) for name, rows in parts.items()},
            "left_out_rows": len(left_out),
            "not_sampled_rows": len(split.not_sampled),
            "warning": split.sampling_note() or "",
            "split": str(split.by),
            "seed": config.seed,
        },
        data_version=dg.DataVersion(version),
    )
