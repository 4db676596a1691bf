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
from embup_core.artifacts.registry import Registry
from embup_core.artifacts.remote import open_registry
from embup_core.sources import SourceFiles, resolve_source
from embup_core.training.data_folder import remember_source
from embup_core.training.selection import wanted_candidates
from pipelines.notifications import Message, Notifier
from pipelines.progress_lines import now_and_then
from pipelines.settings import PipelineSettings
from pipelines.staging import StagingArea


class TrainingSource(dg.ConfigurableResource["TrainingSource"]):
    """Where training data comes from.

    One field alone: what the launchpad sets replaces all fields of a resource, not only those it names.
    """

    spec: str = Field(description=str(PipelineSettings.model_fields["source"].description))


class Originals(dg.ConfigurableResource["Originals"]):
    """What the files do not say about the originals."""

    output_dims: int = Field(ge=2, description=str(PipelineSettings.model_fields["output_dims"].description))


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


class PromotionChoice(dg.ConfigurableResource["PromotionChoice"]):
    """Whether a newly published decoder goes into service."""

    promote: bool | None = Field(
        default=None, description=str(PipelineSettings.model_fields["promote"].description)
    )


class DataFolder(dg.ConfigurableResource["DataFolder"]):
    """The data folder, which remembers the source that it belongs to."""

    root: str = Field(description=str(PipelineSettings.model_fields["data"].description))

    def remember(self, source: str, *, fingerprint: str, promoted: bool) -> None:
        """Record the source of a training; see `remember_source`."""
        remember_source(Path(self.root), source, fingerprint=fingerprint, promoted=promoted)


class StagingRoot(dg.ConfigurableResource["StagingRoot"]):
    """Place of the files that assets hand to each other."""

    root: str = Field(description="Folder of intermediate results; the last three data sets are kept.")

    def area(self, fingerprint: str) -> StagingArea:
        """The staged results of one data set."""
        return StagingArea(Path(self.root), fingerprint)


class DecoderRegistry(dg.ConfigurableResource["DecoderRegistry"]):
    """Place of published decoders."""

    root: str = Field(description=str(PipelineSettings.model_fields["registry"].description))
    cache: str = Field(
        default="", description=str(PipelineSettings.model_fields["registry_cache"].description)
    )

    def open(self) -> Registry:
        """The registry; in an object store, as it is now."""
        return open_registry(self.root, Path(self.cache) if self.cache else None)


class UpsamplerService(dg.ConfigurableResource["UpsamplerService"]):
    """A running service, if one is named. Its key, if it asks for one, is EMBUP_API_KEY."""

    url: str = Field(description=str(PipelineSettings.model_fields["service_url"].description))
    timeout_s: float = Field(default=30.0, description="How long an answer may take, in seconds.")

    def reload(self) -> Reloaded:
        """Ask it to load the decoder in service; raises `EmbupServiceError`."""
        with self._client() as client:
            return client.reload()

    def upsample(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
        """Its answer to rows, float32 (n, d) -> float32 (n, D), and the version that answered.

        Raises `EmbupServiceError`.
        """
        with self._client() as client:
            answer = client.upsample_many(projected)
        return np.array(answer.embeddings, np.float32), answer.model_version

    def _client(self) -> Client:
        # One try: a service that is down loads the decoder when it starts.
        # The key is no field of this resource, where Dagster would show it.
        return Client(self.url, timeout_s=self.timeout_s, retry_s=0)


class Notifications(dg.ConfigurableResource["Notifications"]):
    """Where messages go. The addresses stand in a file, so that Dagster shows none."""

    file: str = Field(default="", description=str(PipelineSettings.model_fields["notify_file"].description))
    data: str = Field(description="The data folder, which holds the record of what was sent.")
    dagster_url: str = Field(
        default="", description=str(PipelineSettings.model_fields["dagster_url"].description)
    )

    def tell(self, message: Message, log: Callable[[str], object]) -> None:
        """Send a message once; what goes wrong is logged, and fails no run."""
        self.notifier().tell(message, log)

    def notifier(self) -> Notifier:
        """What sends messages."""
        return Notifier(Path(self.file) if self.file else None, Path(self.data), dagster_url=self.dagster_url)


class Retention(dg.ConfigurableResource["Retention"]):
    """How much stays. 0 removes nothing."""

    keep_versions: int = Field(description=str(PipelineSettings.model_fields["keep_versions"].description))
    keep_run_months: int = Field(
        description=str(PipelineSettings.model_fields["keep_run_months"].description)
    )
    keep_file_days: int = Field(description=str(PipelineSettings.model_fields["keep_file_days"].description))


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
        "source": TrainingSource(spec=settings.training_source),
        "originals": Originals(output_dims=settings.output_dims),
        "downloads": Downloads(
            cache_dir=str(settings.data / "sources"),
            sha256=settings.source_sha256,
            max_download_bytes=settings.max_download_bytes,
        ),
        "candidates": CandidateChoice(decoder=settings.decoder),
        "promotion": PromotionChoice(promote=settings.promote),
        "data_folder": DataFolder(root=str(settings.data)),
        "staging": StagingRoot(root=str(settings.data / "staging")),
        "registry": DecoderRegistry(root=str(settings.registry), cache=str(settings.cache_folder)),
        "service": UpsamplerService(url=settings.service_url),
        "notifications": Notifications(
            file=str(settings.notify_file or ""),
            data=str(settings.data),
            dagster_url=settings.dagster_url,
        ),
        "retention": Retention(
            keep_versions=settings.keep_versions,
            keep_run_months=settings.keep_run_months,
            keep_file_days=settings.keep_file_days,
        ),
        "io_manager": JsonIOManager(base_dir=str(settings.data / ".dagster" / "handles")),
    }
