"""What leaves the graph: the published decoder, and the running service that loads it."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from embup_client import (
    ConnectionFailedError,
    EmbupServiceError,
    ForbiddenError,
    InvalidArgumentError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from embup_core.training.publication import publish_champion, refit
from embup_core.training.sample import Sample
from pipelines.defs.assets.evaluation import open_evaluation
from pipelines.defs.assets.handles import (
    OWNERS,
    CoordinatesHandle,
    InputFiles,
    MatrixHandle,
    PublishedDecoder,
    StagedResult,
    open_anchors,
    open_basis,
    open_coordinates,
    open_matrix,
    open_projected,
    open_slices,
    open_split,
    require_one_lineage,
)
from pipelines.defs.assets.transform import open_transform
from pipelines.defs.resources import (
    DataFolder,
    DecoderRegistry,
    Notifications,
    PromotionChoice,
    StagingRoot,
    UpsamplerService,
)
from pipelines.notifications.outcome import outcome_message
from pipelines.progress_lines import now_and_then
from pipelines.staging import remove_old_data_sets

GROUP = "publication"
SERVICE_TOLERANCE = 1e-6
LATER = "A service on this registry loads the decoder by itself, at its start or within seconds."


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"safetensors"})
def decoder_artifact(
    context: dg.AssetExecutionContext,
    projected_embeddings: InputFiles,
    cosine_matrix: MatrixHandle,
    coordinates: CoordinatesHandle,
    transform: StagedResult,
    row_split: StagedResult,
    evaluation: StagedResult,
    registry: DecoderRegistry,
    promotion: PromotionChoice,
    data_folder: DataFolder,
    staging: StagingRoot,
    notifications: Notifications,
) -> dg.MaterializeResult[PublishedDecoder]:
    """The champion, fitted on all rows and published: an immutable, versioned folder with its provenance.

    It goes into service unless the version there was trained on other data or is better; the resource
    `promotion` overrules that.
    """
    require_one_lineage(
        cosine_matrix,
        coordinates=coordinates,
        transform=transform,
        row_split=row_split,
        evaluation=evaluation,
    )
    scores = open_evaluation(evaluation)
    sample = Sample(
        open_projected(projected_embeddings, cosine_matrix),
        open_coordinates(coordinates),
        open_matrix(cosine_matrix),
        open_split(row_split),
        coordinates.output_dims,
        open_basis(coordinates),
        transform=open_transform(transform),
        anchors=open_anchors(cosine_matrix, output_dims=coordinates.output_dims),
        slices=open_slices(cosine_matrix),
    )
    progress = now_and_then(context.log.info)
    context.log.info("fitting %s on all %d rows", scores.champion, len(sample.rows.published_rows))
    decoder = refit(scores, sample, on_steps=lambda done, steps: progress("steps", done, steps))
    published = publish_champion(
        registry.open(),
        decoder,
        sample,
        scores,
        source=projected_embeddings.source,
        fingerprint=cosine_matrix.fingerprint,
        plots={path.name: path.read_bytes() for path in sorted(Path(evaluation.path).glob("*.png"))},
        promote=promotion.promote,
    )
    promoted, gate = published.promotion.promoted, published.promotion.gate
    data_folder.remember(
        projected_embeddings.source, fingerprint=cosine_matrix.fingerprint, promoted=promoted
    )
    if published.warning:
        context.log.warning("%s", published.warning)
    outcome = outcome_message(published, scores, run_id=context.run.run_id)
    if outcome is not None:
        notifications.tell(outcome, context.log.info)
    removed = remove_old_data_sets(Path(staging.root))
    if removed:
        context.log.info("removed the intermediate results of %d older data sets", len(removed))
    info = published.info
    return dg.MaterializeResult(
        value=PublishedDecoder(
            version=info.version,
            registry=str(registry.open().root),
            promoted=promoted,
            warning=published.warning,
        ),
        metadata={
            "version": info.version,
            "decoder": scores.champion,
            "chosen_because": scores.chosen_because,
            "in_service": promoted,
            "basis": coordinates.basis_note,
            **({"warning": published.warning} if published.warning else {}),
            **({} if gate is None else {"gate": dg.MetadataValue.md(gate.to_markdown())}),
            "previous_version": str(published.previous or "none"),
            "source": projected_embeddings.source,
            "rows": len(sample.projected),
            "left_out_rows": len(sample.left_out),
            "size_bytes": sum(int(file["bytes"]) for file in info.manifest["files"].values()),
            "folder": dg.MetadataValue.path(str(info.folder)),
            "model_card": dg.MetadataValue.md((info.folder / "MODEL_CARD.md").read_text().partition("![")[0]),
            "git_commit": info.manifest["git_commit"] or "none",
        },
        data_version=dg.DataVersion(str(info.manifest["content_hash"])),
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"litestar"})
def upsampler_service(
    context: dg.AssetExecutionContext,
    decoder_artifact: PublishedDecoder,
    registry: DecoderRegistry,
    service: UpsamplerService,
) -> dg.MaterializeResult[None]:
    """The running service: asked to load the new decoder, then for its golden outputs.

    Where no service is named or none answers, or the decoder was not promoted, nothing is changed.
    """
    version = decoder_artifact.version
    manifest = registry.open().info(version).manifest
    if not decoder_artifact.promoted:
        state: dict[str, bool | float | str] = {
            "running": False,
            "state": f"{version} was not put into service, so no service was asked to load it.",
        }
    elif not service.url:
        state = {"running": False, "state": f"No service was named (EMBUP_SERVICE_URL). {LATER}"}
    else:
        state = _take_up(service, version, manifest["golden"])
    context.log.info("%s", state["state"])
    return dg.MaterializeResult(
        value=None,
        metadata={"url": service.url, "version": version, **state},
        data_version=dg.DataVersion(str(manifest["content_hash"])),
    )


def _take_up(
    service: UpsamplerService, version: str, golden: dict[str, Any]
) -> dict[str, bool | float | str]:
    """Reload and probe; returns what happened as metadata with a sentence under ``state``."""
    try:
        serves = service.reload().model_version
    except InvalidArgumentError as error:
        return {"running": False, "state": f"No service can be asked. {error} {LATER}"}
    except ConnectionFailedError:
        return {"running": False, "state": f"No service is running at {service.url}. {LATER}"}
    except UnexpectedAnswerError:
        return {"running": False, "state": f"What runs at {service.url} is not this service. {LATER}"}
    except (UnauthorizedError, ForbiddenError) as error:
        return {
            "running": False,
            "state": f"The service at {service.url} refused to reload: {error.status} {error.detail} "
            f"Set EMBUP_API_KEY to one with the scope admin. {LATER}",
        }
    except EmbupServiceError as error:
        answer = f"{error.status} {str(error).rstrip('.')}"
        return {"running": False, "state": f"What runs at {service.url} refused to reload: {answer}. {LATER}"}
    if serves != version:
        return {
            "running": False,
            "state": f"The service at {service.url} serves {serves}, not {version}: "
            "it reads another registry, or a newer decoder was published meanwhile.",
        }
    try:
        answered, by_version = service.upsample(np.array(golden["inputs"], np.float32))
    except (ConnectionFailedError, TooManyRequestsError, UnavailableError) as error:
        return {
            "running": False,
            "state": f"The service at {service.url} took up {version}, and did not answer its golden inputs "
            f"({error.detail}). {LATER}",
        }
    difference = float(np.abs(answered - np.array(golden["outputs"], np.float32)).max())
    facts: dict[str, bool | float | str] = {
        "running": True,
        "golden_difference": difference,
        "answered_by": by_version,
    }
    if by_version != version or not difference <= SERVICE_TOLERANCE:
        raise dg.Failure(
            f"The service at {service.url} took up {version}, and {by_version} answered the golden inputs "
            f"with a difference of {difference:.1e}, expected at most {SERVICE_TOLERANCE:.0e}.",
            metadata=facts,
        )
    return facts | {
        "state": f"The service at {service.url} serves {version} and reproduces its golden outputs."
    }
