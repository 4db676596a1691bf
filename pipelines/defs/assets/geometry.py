"""What is made of the inputs before any decoder: the originals up to a rotation, and who sees which row."""

import time

import dagster as dg
import numpy as np
from pydantic import Field

from embup_core.coordinates import recover_coordinates
from embup_core.row_split import SplitBy, split_rows
from pipelines.defs.assets.handles import OWNERS, MatrixHandle, StagedResult, open_matrix, open_row_labels
from pipelines.defs.resources import StagingRoot
from pipelines.staging import version_of

GROUP = "geometry"


class CoordinatesConfig(dg.Config):
    """How the originals are recovered."""

    rank: int = Field(1536, ge=1, description="Most dimensions to keep: the originals' own number.")
    landmarks: int = Field(2048, ge=1, description="Rows of the matrix that are read; at least the rank.")
    seed: int = Field(0, description="Which rows become landmarks.")


class RowSplitConfig(dg.Config):
    """How rows are divided."""

    split: SplitBy = Field(
        SplitBy.rows, description="Divide single rows, or whole groups, which the source's groups.npy names."
    )
    seed: int = Field(0, description="Of the random division.")
    test_share: float = Field(0.15, gt=0, lt=1, description="Share of rows that only the report sees.")
    validation_share: float = Field(0.10, gt=0, lt=1, description="Share of rows that choose the champion.")


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"numpy"})
def coordinates(
    config: CoordinatesConfig, cosine_matrix: MatrixHandle, staging: StagingRoot
) -> dg.MaterializeResult[StagedResult]:
    """The originals up to a rotation, float32 (N, <= 1536), recovered from landmark rows of the matrix."""
    matrix = open_matrix(cosine_matrix)
    started_s = time.perf_counter()
    recovered = recover_coordinates(matrix, rank=config.rank, landmarks=config.landmarks, seed=config.seed)
    fit_s = time.perf_counter() - started_s
    version = version_of(fingerprint=cosine_matrix.fingerprint, settings=config.model_dump())
    path = staging.area(cosine_matrix.fingerprint).save_array("coordinates", version, recovered)
    read = min(config.landmarks, matrix.n_rows)
    return dg.MaterializeResult(
        value=StagedResult(
            path=str(path), version=version, made_from={"cosine_matrix": cosine_matrix.fingerprint}
        ),
        metadata={
            "rows": recovered.shape[0],
            "dimensions": recovered.shape[1],
            "landmark_rows": read,
            "share_of_matrix_read": read / matrix.n_rows,
            "recovery_s": round(fit_s, 3),
            "file": dg.MetadataValue.path(str(path)),
        },
        data_version=dg.DataVersion(version),
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"numpy"})
def row_split(
    config: RowSplitConfig, cosine_matrix: MatrixHandle, staging: StagingRoot
) -> dg.MaterializeResult[StagedResult]:
    """Which rows decoders are fitted on, chosen by and reported on."""
    file = cosine_matrix.files.groups if config.split == SplitBy.groups else None
    split = split_rows(
        cosine_matrix.rows,
        None if file is None else open_row_labels(file, cosine_matrix),
        split=config.split,
        seed=config.seed,
        test_share=config.test_share,
        validation_share=config.validation_share,
    )
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    version = version_of(rows=cosine_matrix.rows, settings=config.model_dump(), groups=file and file.sha256)
    path = staging.area(cosine_matrix.fingerprint).save_arrays(
        "row_split", version, parts | {"seed": np.array([config.seed]), "by": np.array(str(split.by))}
    )
    return dg.MaterializeResult(
        value=StagedResult(
            path=str(path), version=version, made_from={"cosine_matrix": cosine_matrix.fingerprint}
        ),
        metadata={
            **{f"{name}_rows": len(rows) for name, rows in parts.items()},
            "split": str(split.by),
            "seed": config.seed,
        },
        data_version=dg.DataVersion(version),
    )
