"""What assets need from outside, each settable in the launchpad: source, choice, places, service."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from embup_client import Client, Reloaded
from embup_core.registry import Registry
from embup_core.selection import YARDSTICK, wanted_candidates
from embup_core.sources import SourceFiles, resolve_source
from pipelines.progress_lines import now_and_then
from pipelines.settings import PipelineSettings
from pipelines.staging import StagingArea


class TrainingSource(dg.ConfigurableResource["TrainingSource"]):
    """Where training data comes from.

    One field alone: what the launchpad sets replaces all fields of a resource, not only those it names.
    """

    spec: str = Field(description=str(PipelineSettings.model_fields["source"].description))


class Downloads(dg.ConfigurableResource["Downloads"]):
    """How a source is brought here."""

    cache_dir: str = Field(description="Folder of generated and downloaded files.")
    sha256: str = Field(
        default="", description=str(PipelineSettings.model_fields["source_sha256"].description)
    )
    max_download_bytes: int = Field(
        description=str(PipelineSettings.model_fields["max_download_bytes"].description)
    )

    def resolve(self, spec: str, log: Callable[[str], None]) -> SourceFiles:
        """Bring both files here, saying every few seconds how far it is; raises `SourceUnavailableError`."""
        projected_hash, _, cosines_hash = self.sha256.partition(",")
        return resolve_source(
            spec,
            cache_dir=Path(self.cache_dir),
            sha256=(projected_hash or None, cosines_hash or None),
            max_bytes=self.max_download_bytes,
            progress=now_and_then(log),
        )


class CandidateChoice(dg.ConfigurableResource["CandidateChoice"]):
    """Which decoders are fitted, and which one is published."""

    decoder: str = Field(description=str(PipelineSettings.model_fields["decoder"].description))

    def wants(self, name: str) -> bool:
        """Whether this decoder is to be fitted; raises `InputError` for a choice that is none."""
        return name in wanted_candidates(self.decoder)

    def requires(self, name: str) -> bool:
        """Whether nothing can be published without this decoder."""
        return name in (self.decoder, YARDSTICK)


class StagingRoot(dg.ConfigurableResource["StagingRoot"]):
    """Place of the files that assets hand to each other."""

    root: str = Field(description="Folder of intermediate results; the last three data sets are kept.")

    def area(self, fingerprint: str) -> StagingArea:
        """The staged results of one data set."""
        return StagingArea(Path(self.root), fingerprint)


class DecoderRegistry(dg.ConfigurableResource["DecoderRegistry"]):
    """Place of published decoders."""

    root: str = Field(description=str(PipelineSettings.model_fields["registry"].description))

    def open(self) -> Registry:
        """The registry."""
        return Registry(Path(self.root))


class UpsamplerService(dg.ConfigurableResource["UpsamplerService"]):
    """A running service, which may or may not be there. Its key, if it asks for one, is EMBUP_API_KEY."""

    url: str = Field(description=str(PipelineSettings.model_fields["service_url"].description))
    timeout_s: float = Field(default=30.0, description="How long an answer may take, in seconds.")

    def reload(self) -> Reloaded:
        """Ask it to take up the newest decoder; raises `EmbupServiceError`."""
        with self._client() as client:
            return client.reload()

    def upsample(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
        """Its answer to some rows, float32 (n, 32) -> float32 (n, 1536), and the version that answered.

        Raises `EmbupServiceError`.
        """
        with self._client() as client:
            answer = client.upsample_many(projected)
        return np.array(answer.embeddings, np.float32), answer.model_version

    def _client(self) -> Client:
        # One try: a service that is away takes the decoder up when it starts, and nobody waits for it here.
        # The key is no field of this resource, where Dagster would show it.
        return Client(self.url, timeout_s=self.timeout_s, retry_s=0)


class JsonIOManager(dg.ConfigurableIOManager):
    """Keeps what one asset tells the next, paths and versions, as a readable file. No matrices, no pickle."""

    base_dir: str = Field(description="Folder of the files.")

    def handle_output(self, context: dg.OutputContext, obj: BaseModel) -> None:
        """Write an asset's value."""
        target = self._path(context.asset_key)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        beside.write_text(obj.model_dump_json(indent=2))
        beside.replace(target)

    def load_input(self, context: dg.InputContext) -> BaseModel:
        """Read an asset's value as it was last written."""
        path = self._path(context.asset_key)
        if not path.exists():
            raise dg.Failure(f"{context.asset_key.to_user_string()} has no result yet: materialize it first.")
        model: type[BaseModel] = context.dagster_type.typing_type
        try:
            return model.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise dg.Failure(
                f"{context.asset_key.to_user_string()} has a result of another version of embup: "
                "materialize projected_embeddings and everything after it."
            ) from error

    def _path(self, key: dg.AssetKey) -> Path:
        return Path(self.base_dir).joinpath(*key.path).with_suffix(".json")


def resources_for(settings: PipelineSettings) -> dict[str, Any]:
    """All resources for some settings."""
    return {
        "source": TrainingSource(spec=settings.source),
        "downloads": Downloads(
            cache_dir=str(settings.data / "sources"),
            sha256=settings.source_sha256,
            max_download_bytes=settings.max_download_bytes,
        ),
        "candidates": CandidateChoice(decoder=settings.decoder),
        "staging": StagingRoot(root=str(settings.data / "staging")),
        "registry": DecoderRegistry(root=str(settings.registry)),
        "service": UpsamplerService(url=settings.service_url),
        "io_manager": JsonIOManager(base_dir=str(settings.data / ".dagster" / "handles")),
    }
