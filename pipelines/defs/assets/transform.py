"""The map from the originals to the short vectors, recovered once, and the rows that do not belong to it."""

from collections.abc import Iterator

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embup_core.errors import InvalidDataError
from embup_core.geometry.row_defects import RowDefects
from embup_core.geometry.source_check import judge_rows, left_out_note, rows_to_leave_out
from embup_core.geometry.transform import AffineTransform
from embup_core.sources.row_list import require_rows
from embup_core.training.plots import residual_angles
from pipelines.defs.assets.handles import (
    OWNERS,
    CoordinatesHandle,
    MatrixHandle,
    StagedResult,
    open_coordinates,
    open_projected,
    require_one_lineage,
)
from pipelines.defs.assets.thumbnails import THUMBNAIL_DPI, captioned
from pipelines.defs.resources import StagingRoot
from pipelines.staging import version_of

CHECK = "rows_belong_together"
PLOT = "residual_angles.png"


class TransformConfig(dg.Config):
    """Which rows are left out."""

    leave_out_wrong_rows: bool = Field(
        False,
        description="Whether up to 5 % of rows whose short vector belongs elsewhere are left out of the "
        "training, instead of stopping it.",
    )
    without: list[int] = Field([], description="Rows that are left out of the training in any case, 0-based.")


@dg.asset(
    group_name="geometry",
    owners=OWNERS,
    kinds={"numpy", "matplotlib"},
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="transform",
            blocking=True,
            description="Each short vector belongs to its row of the matrix, and the matrix holds more than "
            "the short vectors. An affine map from the coordinates to the short vectors tells right rows "
            "from wrong ones. Where none fits, rows cannot be judged: a warning.",
        )
    ],
)
def transform(
    config: TransformConfig, cosine_matrix: MatrixHandle, coordinates: CoordinatesHandle, staging: StagingRoot
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[StagedResult]]:
    """The affine map from the coordinates to the short vectors, and how each row agrees with it.

    Where no affine map fits, the run goes on without it.
    """
    made_from = require_one_lineage(cosine_matrix, coordinates=coordinates)
    files = cosine_matrix.files
    source = files.source_files
    projected = open_projected(files, cosine_matrix)
    try:
        defects = judge_rows(projected, open_coordinates(coordinates), source)
    except InvalidDataError as error:
        yield _refused(error)
        raise
    figures = _figures(defects)
    left_out, listed = np.empty(0, np.int64), require_rows(config.without, len(projected))
    try:
        left_out = (
            listed  # rows of a training set of drops were judged before it was written
            if source.has_coordinates and source.recovery is None
            else rows_to_leave_out(defects, source, leave_out=config.leave_out_wrong_rows, without=listed)
        )
    except InvalidDataError as error:
        verdict = _refused(error, **figures)
    else:
        notes = [text for text in (left_out_note(left_out, len(projected), listed), defects.note) if text]
        verdict = dg.AssetCheckResult(
            check_name=CHECK,
            passed=not notes,
            severity=dg.AssetCheckSeverity.WARN,
            description=" ".join(notes),
            metadata={**figures, **({"problem": " ".join(notes), "remedy": ""} if notes else {})},
        )
    version = version_of(
        coordinates=coordinates.version, projected=files.projected_sha256, config=config.model_dump()
    )
    arrays = {name: np.asarray(value) for name, value in vars(defects.transform).items()}
    path = staging.area(cosine_matrix.fingerprint).save_arrays(
        "transform", version, {**arrays, "left_out": left_out}
    )
    plot = residual_angles(defects.transform.angles, defects.wrong_rows, dpi=THUMBNAIL_DPI)
    yield dg.MaterializeResult(
        value=StagedResult(path=str(path), version=version, made_from=made_from),
        metadata={
            **figures,
            "finding": defects.describe(),
            "left_out_rows": len(left_out),
            "angles": captioned({PLOT: plot}),
            "file": dg.MetadataValue.path(str(path)),
        },
        data_version=dg.DataVersion(version),
        check_results=[verdict],
    )


def open_transform(handle: StagedResult) -> AffineTransform:
    """The recovered map, in the basis of the coordinates."""
    with np.load(handle.path, allow_pickle=False) as parts:
        fields = {name: parts[name] for name in parts.files if name != "left_out"}
    return AffineTransform(**{name: value if value.ndim else value.item() for name, value in fields.items()})


def open_left_out(handle: StagedResult) -> NDArray[np.int64]:
    """Rows that the training leaves out: int64, shape (w,), sorted."""
    with np.load(handle.path, allow_pickle=False) as parts:
        left_out: NDArray[np.int64] = parts["left_out"]
    return left_out


def _figures(defects: RowDefects) -> dict[str, float | int | str | bool]:
    return {
        "verdict": defects.verdict,
        "wrong_rows": len(defects.wrong_rows),
        "detectable_share": defects.detectable_share,
        **defects.transform.to_json(),
    }


def _refused(error: InvalidDataError, **figures: float | str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key="transform",
        check_name=CHECK,
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=str(error),
        metadata={**figures, "problem": error.message, "remedy": error.remedy},
    )
