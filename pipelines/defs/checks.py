"""Checks that stop a run: the gates of a training. What they compare is in the metadata.

Whether the inputs are valid is checked where they are read, in `pipelines.defs.assets.inputs`: one pass over
the matrix does both. Whether their rows belong together is seen where the map between them is recovered, in
`pipelines.defs.assets.transform`.
"""

import inspect
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from embup_core.artifacts.registry import Registry
from embup_core.errors import ArtifactError
from embup_core.geometry.coordinates import reconstruction_residual
from embup_core.training.gates import (
    SAMPLED_PAIRS,
    Gate,
    beats_constant_mean,
    beats_linear_residual,
    coordinates_gate,
    rows_are_unit,
)
from embup_core.training.selection import Evaluation
from pipelines.defs.assets.evaluation import open_evaluation
from pipelines.defs.assets.handles import (
    CoordinatesHandle,
    MatrixHandle,
    PublishedDecoder,
    StagedResult,
    open_coordinates,
    open_matrix,
)


@dg.asset_check(
    asset="coordinates", blocking=True, additional_ins={"cosine_matrix": dg.AssetIn("cosine_matrix")}
)
def coordinates_reproduce_cosines(
    coordinates: CoordinatesHandle, cosine_matrix: MatrixHandle
) -> dg.AssetCheckResult:
    """Dot products of the coordinates miss at most 5 % of the cosines' variance on 10,000 random pairs."""
    found = reconstruction_residual(
        open_coordinates(coordinates), open_matrix(cosine_matrix), pairs=SAMPLED_PAIRS
    )
    return _result(coordinates_gate(found, cosine_matrix.cosine_deviation))


def _gate_check(gate: Callable[[Evaluation], Gate], name: str) -> dg.AssetChecksDefinition:
    """A gate of `embup_core.training.gates` as a blocking check of the evaluation."""

    @dg.asset_check(asset="evaluation", name=name, blocking=True, description=inspect.getdoc(gate))
    def check(evaluation: StagedResult) -> dg.AssetCheckResult:
        return _result(gate(open_evaluation(evaluation)))

    return check


champion_beats_constant_mean = _gate_check(beats_constant_mean, "champion_beats_constant_mean")
champion_beats_linear_residual = _gate_check(beats_linear_residual, "champion_beats_linear_residual")
champion_rows_are_unit = _gate_check(rows_are_unit, "champion_rows_are_unit")


@dg.asset_check(asset="decoder_artifact", blocking=True)
def artifact_reproduces_golden_outputs(decoder_artifact: PublishedDecoder) -> dg.AssetCheckResult:
    """The published folder loads: hashes, tensors and shapes are right, golden outputs come out again."""
    registry, version = Registry(Path(decoder_artifact.registry)), decoder_artifact.version
    try:
        registry.load_artifact(version)
    except ArtifactError as error:
        return _result(Gate(False, error.message, error.remedy, {"version": version}))
    return _result(Gate(True, "", "", {"version": version}))


def _result(gate: Gate) -> dg.AssetCheckResult:
    explained = {} if gate.passed else {"problem": gate.problem, "remedy": gate.remedy}
    return dg.AssetCheckResult(
        passed=bool(gate.passed),
        severity=dg.AssetCheckSeverity.ERROR,
        description="" if gate.passed else f"{gate.problem} {gate.remedy}".strip(),
        metadata={**gate.figures, **explained},
    )
