"""Two published versions side by side, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.errors import InputError
from embup_core.evaluation import Comparison, DecodedRows, DotProducts, Scores, measure
from embup_core.evaluation.cosines import true_cosines
from embup_core.sources import load_projected, validate_pair
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.training.split import TEST_ROWS_FIELD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embup_core.artifacts.registry import Registry
    from embup_core.progress import Progress
    from embup_core.sources import SourceFiles

MOST_ROWS = 4000
"""Rows of a source that are compared at most: eight million pairs."""


class Basis(StrEnum):
    """What a comparison rests on."""

    recorded = "recorded when they were trained, on the same test rows"
    recorded_elsewhere = "recorded when they were trained, on different test rows"
    recomputed = "computed now, on the same rows"


@dataclass(frozen=True)
class VersionScores:
    """One version in a comparison.

    Attributes
    ----------
    version, decoder, source
        What it is, and the name of the data it was trained on.
    scores
        On the rows of the comparison; None where none were recorded.
    trained_on_these
        Whether it was fitted on the rows of the comparison, which flatters it.
    """

    version: str
    decoder: str
    source: str
    scores: Scores | None
    trained_on_these: bool = False


@dataclass(frozen=True)
class VersionComparison:
    """Versions side by side.

    Attributes
    ----------
    versions
        In the order asked for.
    basis
        Where the scores come from.
    rows
        How many rows were compared; None where the scores are recorded ones.
    """

    versions: tuple[VersionScores, ...]
    basis: Basis
    rows: int | None = None


def compare_recorded(registry: Registry, versions: Sequence[str]) -> VersionComparison:
    """The scores that were recorded when the versions were trained; raises `ArtifactError`."""
    manifests = [registry.info(version).manifest for version in versions]
    rows = {
        (manifest.get("data", {}).get("fingerprint"), manifest.get("split", {}).get(TEST_ROWS_FIELD))
        for manifest in manifests
    }
    same = len(rows) == 1 and None not in next(iter(rows))
    return VersionComparison(
        tuple(_version(manifest, _recorded(manifest)) for manifest in manifests),
        Basis.recorded if same else Basis.recorded_elsewhere,
    )


def compare_on(
    registry: Registry,
    versions: Sequence[str],
    files: SourceFiles,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> VersionComparison:
    """Score versions on the same rows of a source, at most 4,000 random ones.

    Parameters
    ----------
    registry, versions
        What to compare.
    files
        The source's files.
    seed
        Of the rows.
    progress
        Called with a label, rows done and rows in all.

    Raises
    ------
    ArtifactError
        A version is not there, or damaged.
    SourceError
        The files are not what they should be.
    InputError
        A version decodes rows of other dimensions.
    """
    projected = load_projected(files.projected)
    fingerprint = validate_pair(files, progress=progress).fingerprint
    matrix = CosineMatrix.open(files.cosines)
    rows = np.sort(np.random.default_rng(seed).permutation(len(projected))[:MOST_ROWS])
    true = true_cosines(matrix, rows, rows)
    found = []
    for version in versions:
        artifact = registry.load_artifact(version)
        if projected.shape[1] != artifact.manifest["input_dims"]:
            raise InputError(
                f"{files.projected}: expected rows of {artifact.manifest['input_dims']} numbers for "
                f"{version}, found {projected.shape[1]}.",
                remedy="Compare versions on a source of their own dimensions.",
            )
        decoded = DecodedRows.by(artifact.decoder, projected[rows]).rows
        scores = measure(Comparison(DotProducts(decoded, decoded), true), seed=seed, progress=progress)
        trained_on_these = artifact.manifest.get("data", {}).get("fingerprint") == fingerprint
        found.append(_version(artifact.manifest, scores, trained_on_these=trained_on_these))
    return VersionComparison(tuple(found), Basis.recomputed, len(rows))


def _version(
    manifest: dict[str, Any], scores: Scores | None, *, trained_on_these: bool = False
) -> VersionScores:
    return VersionScores(
        version=manifest["version"],
        decoder=str(manifest["decoder"].get("name")),
        source=str(manifest.get("data", {}).get("source")),
        scores=scores,
        trained_on_these=trained_on_these,
    )


def _recorded(manifest: dict[str, Any]) -> Scores | None:
    try:
        return Scores.from_json(manifest["metrics"])
    except (KeyError, TypeError, ValueError, AttributeError):  # none, or of another version of embup
        return None
