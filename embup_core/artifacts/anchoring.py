"""Anchors for a version that is published already: a new version of the same decoder, with the rotation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from embup_core.artifacts.anchors import FittedAnchors, fit_projection, mean_dims
from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.manifest import EVALUATION_FILE
from embup_core.artifacts.reference_statistics import ReferenceStatistics
from embup_core.errors import InputError, NoAnchorsError
from embup_core.geometry.anchors import fit_rotation
from embup_core.upsampler import NO_REGRESSION, Upsampler

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import ArrayLike, NDArray

    from embup_core.artifacts.artifact import Artifact
    from embup_core.artifacts.registry import ArtifactInfo, Registry

NO_DEPENDENCE = 0.0
"""R2 of answering each cosine with the mean cosine."""


def fit_published(artifact: Artifact, projected: ArrayLike, originals: NDArray[np.float32]) -> FittedAnchors:
    """Fit the rotation of a published decoder to anchors, by what it decodes them to.

    Parameters
    ----------
    artifact
        Loaded.
    projected
        z of the anchors: shape (m, input_dims). Only directions count.
    originals
        The anchors: float32, shape (m, output_dims), unit rows, in the same order.

    Raises
    ------
    InputError
        Arrays that do not fit together or to the decoder, too few rows, or originals that have nothing to do
        with the rows.
    NoAnchorsError
        The decoder has no regression that anchors could rotate.
    """
    from embup_core.evaluation.anchors import score_among_anchors

    dims = mean_dims(artifact.decoder)
    if dims is None:
        raise _no_regression(artifact)
    decoded, _ = Upsampler(artifact).upsample(projected)
    if originals.shape != decoded.shape:
        raise InputError(
            f"Expected originals of shape {decoded.shape} for {len(decoded)} rows, found {originals.shape}.",
            remedy="Give the original of each row, in the order of the rows.",
        )
    scores = score_among_anchors(decoded, originals, mean_dims=dims)
    if not scores.r2 > NO_DEPENDENCE:
        raise InputError(
            f"Expected originals of these rows, found some that have nothing to do with them: held-out R2 "
            f"{scores.r2:.2f}, where the mean cosine for every pair has 0.",
            remedy="Give rows and originals in the same order, of the model that made the originals; or more "
            "of them.",
        )
    rotation = fit_rotation(np.ascontiguousarray(decoded[:, :dims]), originals)
    return FittedAnchors(
        rotation, scores, "decoded", fit_projection(np.asarray(projected, np.float32), originals)
    )


def _no_regression(artifact: Artifact) -> NoAnchorsError:
    """The error for a decoder that no anchors can help."""
    return NoAnchorsError(
        f"{artifact.version}: {artifact.decoder.name} {NO_REGRESSION}.",
        remedy="Publish another decoder: `embup train` takes one that has.",
    )


def publish_with_anchors(
    registry: Registry,
    artifact: Artifact,
    anchors: FittedAnchors,
    *,
    promote: bool | None = None,
    created_utc: datetime | None = None,
) -> ArtifactInfo:
    """Publish a version's decoder again, with anchors; all else is as it is recorded of that version.

    Parameters
    ----------
    registry
        Where the version is.
    artifact
        The version.
    anchors
        From `fit_published`.
    promote
        Whether the new version goes into service; None: if the one without anchors is there.
    created_utc
        By default now.

    Raises
    ------
    ArtifactError
        The registry cannot be written, or what was written does not load.
    """
    manifest, folder = artifact.manifest, artifact.folder
    data = manifest.get("data", {})
    if promote is None:
        promote = registry.info(artifact.version).is_current
    return registry.publish(
        artifact.decoder,
        golden=np.array(manifest["golden"]["inputs"], np.float32),
        provenance=Provenance(
            source=data.get("source"),
            fingerprint=data.get("fingerprint"),
            rows=data.get("rows"),
            split=manifest.get("split", {}),
            metrics=manifest.get("metrics", {}),
            evaluation=json.loads((folder / EVALUATION_FILE).read_bytes()),
            git_commit=manifest.get("git_commit"),
            reference_statistics=ReferenceStatistics.from_manifest(manifest),
            transform=artifact.transform,
            left_out=data.get("left_out", []),
            basis=artifact.read_basis(),
        ),
        plots={
            name.removeprefix("plots/"): (folder / name).read_bytes()
            for name in manifest["files"]
            if name.startswith("plots/")
        },
        anchors=anchors,
        promote=promote,
        created_utc=created_utc,
    )
