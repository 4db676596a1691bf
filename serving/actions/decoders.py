"""What is known of decoders, the same for an answer of the API and for a page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from embup_core.artifacts.anchors import described_anchors
from embup_core.artifacts.basis import basis_id
from embup_core.errors import ArtifactError, NoArtifactError
from serving.problems.problem import ProblemError
from serving.schemas import ModelAnchors, ModelEntry, ModelScores, ReloadFailure

if TYPE_CHECKING:
    from embup_core.artifacts.registry import ArtifactInfo
    from embup_core.upsampler import Upsampler
    from serving.decoders.hot_model import LoadFailure
    from serving.services import Services


def described_failure(services: Services, failure: LoadFailure | None) -> ReloadFailure | None:
    """Say why a decoder is not in service; None where nothing failed."""
    if failure is None:
        return None
    return ReloadFailure(
        at=failure.at,
        version=failure.version,
        detail=services.public(failure.message),
        remedy=services.public(failure.remedy),
    )


def model_entry(info: ArtifactInfo, *, in_service: bool) -> ModelEntry:
    """Describe a published decoder by its manifest."""
    data, metrics = info.manifest.get("data", {}), info.manifest.get("metrics", {})
    cosines = metrics.get("test_test")
    cosines = cosines if isinstance(cosines, dict) else {}
    source, rows = data.get("source"), data.get("rows")
    anchors = described_anchors(info.manifest)
    return ModelEntry(
        version=info.version,
        decoder=info.manifest["decoder"]["name"],
        input_dims=info.manifest["input_dims"],
        output_dims=info.manifest["output_dims"],
        created_at=info.manifest["created_utc"],
        # Where on the training machine a folder was is of no use to a client.
        source=(Path(source).name if Path(source).is_absolute() else source)
        if isinstance(source, str)
        else None,
        rows=rows if isinstance(rows, int) else None,
        scores=ModelScores(
            r2=_number(cosines.get("r2")),
            mae=_number(cosines.get("mae")),
            recall_at_10=_number(metrics.get("recall_at_10")),
        ),
        anchors=None if anchors is None else ModelAnchors(**anchors),
        basis_id=basis_id(info.manifest),
        current=info.is_current,
        in_service=in_service,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


async def promote_decoder(services: Services, version: str) -> tuple[str | None, Upsampler]:
    """Put a published version into service; give the version before and the one that answers now.

    Raises
    ------
    ProblemError
        There is no such version, or it is bad; nothing changes.
    """
    try:
        return await services.model.promote(version)
    except NoArtifactError as error:
        raise _refusal(services, "unknown-decoder", error) from error
    except ArtifactError as error:
        raise _refusal(services, "decoder-refused", error) from error


async def roll_back_decoder(services: Services) -> tuple[str | None, Upsampler]:
    """Put the version before the current back into service; gives and raises as `promote_decoder`."""
    try:
        return await services.model.roll_back()
    except ArtifactError as error:
        raise _refusal(services, "decoder-refused", error) from error


def _refusal(services: Services, kind: str, error: ArtifactError) -> ProblemError:
    return ProblemError(kind, services.public(error.message), remedy=services.public(error.remedy))
