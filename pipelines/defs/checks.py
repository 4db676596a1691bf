"""Checks that stop a run. What they compare is in the metadata: expected, found, and by how much.

Whether the inputs are valid is checked where they are read, in `pipelines.defs.assets.inputs`: one pass over
the matrix does both.
"""

from pathlib import Path

import dagster as dg

from embup_core.coordinates import reconstruction_error
from embup_core.errors import ArtifactError
from embup_core.registry import Registry
from embup_core.selection import UNIT_TOLERANCE, YARDSTICK
from pipelines.defs.assets.evaluation import open_evaluation
from pipelines.defs.assets.handles import (
    MatrixHandle,
    PublishedDecoder,
    StagedResult,
    open_coordinates,
    open_matrix,
)

COSINE_TOLERANCE = 1e-4
SAMPLED_PAIRS = 10_000


@dg.asset_check(
    asset="coordinates", blocking=True, additional_ins={"cosine_matrix": dg.AssetIn("cosine_matrix")}
)
def coordinates_reproduce_cosines(
    coordinates: StagedResult, cosine_matrix: MatrixHandle
) -> dg.AssetCheckResult:
    """Dot products of the coordinates are the matrix's cosines, within 1e-4 on 10,000 random pairs."""
    found = reconstruction_error(
        open_coordinates(coordinates), open_matrix(cosine_matrix), pairs=SAMPLED_PAIRS
    )
    return _result(
        passed=found <= COSINE_TOLERANCE,
        problem=f"The recovered coordinates miss a sampled cosine by {found:.2g}, "
        f"expected at most {COSINE_TOLERANCE:g}.",
        remedy="Use more landmarks, or check that these are cosines of vectors of at most 1536 dimensions.",
        expected_at_most=COSINE_TOLERANCE,
        found=found,
        sampled_pairs=SAMPLED_PAIRS,
    )


@dg.asset_check(asset="evaluation", blocking=True)
def champion_beats_linear_residual(evaluation: StagedResult) -> dg.AssetCheckResult:
    """The decoder to publish predicts cosines of validation rows better than the least it must beat.

    Not of test rows: what decides whether anything is published would no longer be a test.
    """
    scores = open_evaluation(evaluation)
    champion = scores.champion
    found, expected = (scores.validation[name].test_test.r2 for name in (champion, YARDSTICK))
    asked_for = champion == scores.choice == YARDSTICK
    return _result(
        passed=found > expected or asked_for,
        problem=f"{champion} reaches R2 {found:.3f} on validation rows, {YARDSTICK} {expected:.3f}; "
        "nothing is published.",
        remedy="Give more or better data, or choose another decoder. All scores and plots are in "
        f"{evaluation.path}.",
        champion=champion,
        expected_above=expected,
        found=found,
        found_on_test=scores.test[champion].test_test.r2,
        yardstick_on_test=scores.test[YARDSTICK].test_test.r2,
    )


@dg.asset_check(asset="evaluation", blocking=True)
def champion_rows_are_unit(evaluation: StagedResult) -> dg.AssetCheckResult:
    """Rows of the decoder to publish have length 1 within 1e-6."""
    scores = open_evaluation(evaluation)
    found = scores.test[scores.champion].unit_norm_error
    found = float("inf") if found is None else found
    return _result(
        passed=found <= UNIT_TOLERANCE,
        problem=f"A row of {scores.champion} misses length 1 by {found:.2g}, "
        f"expected at most {UNIT_TOLERANCE:g}.",
        remedy="Nothing is published; the decoder is at fault.",
        champion=scores.champion,
        expected_at_most=UNIT_TOLERANCE,
        found=found,
    )


@dg.asset_check(asset="decoder_artifact", blocking=True)
def artifact_reproduces_golden_outputs(decoder_artifact: PublishedDecoder) -> dg.AssetCheckResult:
    """The published folder loads: hashes, tensors and shapes are right, golden outputs come out again."""
    registry = Registry(Path(decoder_artifact.registry))
    try:
        registry.load_artifact(decoder_artifact.version)
    except ArtifactError as error:
        return _result(
            passed=False, problem=error.message, remedy=error.remedy, version=decoder_artifact.version
        )
    return _result(passed=True, problem="", remedy="", version=decoder_artifact.version)


def _result(*, passed: bool, problem: str, remedy: str, **metadata: str | float) -> dg.AssetCheckResult:
    told = {} if passed else {"problem": problem, "remedy": remedy}
    return dg.AssetCheckResult(
        passed=bool(passed),
        severity=dg.AssetCheckSeverity.ERROR,
        description="" if passed else f"{problem} {remedy}",
        metadata={**metadata, **told},
    )
