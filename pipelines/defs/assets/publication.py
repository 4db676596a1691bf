"""What leaves the graph: the published decoder, and the running service that takes it up."""

import subprocess
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
from embup_core.artifact import Provenance
from embup_core.decoders import DECODERS
from embup_core.golden import golden_inputs
from embup_core.training_inputs import TrainingInputs
from pipelines.defs.assets.evaluation import open_evaluation
from pipelines.defs.assets.handles import (
    OWNERS,
    InputFiles,
    MatrixHandle,
    PublishedDecoder,
    StagedResult,
    open_coordinates,
    open_projected,
    open_split,
    require_one_lineage,
)
from pipelines.defs.resources import DecoderRegistry, StagingRoot, UpsamplerService
from pipelines.staging import remove_old_data_sets

GROUP = "publication"
SERVICE_TOLERANCE = 1e-6


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"safetensors"})
def decoder_artifact(
    context: dg.AssetExecutionContext,
    projected_embeddings: InputFiles,
    cosine_matrix: MatrixHandle,
    coordinates: StagedResult,
    row_split: StagedResult,
    evaluation: StagedResult,
    registry: DecoderRegistry,
    staging: StagingRoot,
) -> dg.MaterializeResult[PublishedDecoder]:
    """The champion, fitted on all rows and published: an immutable, versioned folder with its provenance."""
    require_one_lineage(cosine_matrix, coordinates=coordinates, row_split=row_split, evaluation=evaluation)
    scores = open_evaluation(evaluation)
    champion = scores.champion
    projected = open_projected(projected_embeddings, cosine_matrix)
    context.log.info("fitting %s on all %d rows", champion, len(projected))
    decoder = DECODERS[champion](**scores.settings[champion]).fit(projected, open_coordinates(coordinates))
    rows = open_split(row_split)
    folder = Path(evaluation.path)
    published = registry.open().publish(
        decoder,
        golden=golden_inputs(projected),
        provenance=Provenance(
            source=projected_embeddings.source,
            fingerprint=cosine_matrix.fingerprint,
            rows=len(projected),
            split={
                "version": row_split.version,
                "train": len(rows.train),
                "validation": len(rows.validation),
                "test": len(rows.test),
            },
            metrics=scores.test[champion].to_json(),
            evaluation=scores.to_json(),
            git_commit=git_commit(),
            training_inputs=TrainingInputs.of(projected, scores.confidence),
        ),
        plots={path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))},
    )
    removed = remove_old_data_sets(Path(staging.root))
    if removed:
        context.log.info("removed the intermediate results of %d older data sets", len(removed))
    manifest = published.manifest
    return dg.MaterializeResult(
        value=PublishedDecoder(version=published.version, registry=str(registry.open().root)),
        metadata={
            "version": published.version,
            "decoder": champion,
            "rows": len(projected),
            "size_bytes": sum(int(file["bytes"]) for file in manifest["files"].values()),
            "folder": dg.MetadataValue.path(str(published.folder)),
            "model_card": dg.MetadataValue.md(
                (published.folder / "MODEL_CARD.md").read_text().partition("![")[0]
            ),
            "git_commit": manifest["git_commit"] or "none",
        },
        data_version=dg.DataVersion(str(manifest["content_hash"])),
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"litestar"})
def upsampler_service(
    context: dg.AssetExecutionContext,
    decoder_artifact: PublishedDecoder,
    registry: DecoderRegistry,
    service: UpsamplerService,
) -> dg.MaterializeResult[None]:
    """The running service: told to take up the new decoder, then asked for its golden outputs.

    None may be running, or one on another registry; then this says so and changes nothing.
    """
    version = decoder_artifact.version
    manifest = registry.open().info(version).manifest
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
    later = "A service on this registry takes up the decoder by itself: when it starts, or within seconds."
    try:
        serves = service.reload().model_version
    except InvalidArgumentError as error:
        return {"running": False, "state": f"No service can be asked. {error} {later}"}
    except ConnectionFailedError:
        return {"running": False, "state": f"No service is running at {service.url}. {later}"}
    except UnexpectedAnswerError:
        return {"running": False, "state": f"What runs at {service.url} is not this service. {later}"}
    except (UnauthorizedError, ForbiddenError) as error:
        return {
            "running": False,
            "state": f"The service at {service.url} refused to reload: {error.status} {error.detail} "
            f"Set EMBUP_API_KEY to one with the scope admin. {later}",
        }
    except EmbupServiceError as error:
        answer = f"{error.status} {str(error).rstrip('.')}"
        return {"running": False, "state": f"What runs at {service.url} refused to reload: {answer}. {later}"}
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
            f"({error.detail}). {later}",
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


def git_commit() -> str | None:
    """The commit of the code, None outside a checkout or without git."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607  git is where the PATH says
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
