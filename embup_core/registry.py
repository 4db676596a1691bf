"""The place of artifacts, with the pointer to the one in service.

<root>/<version>/…      immutable artifacts
       LATEST           the version in service, one line
       .staging-*       being written; never looked at
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embup_core.artifact import Artifact, Provenance, load_artifact, read_manifest, write_artifact
from embup_core.durable import replace_durably, sync_folder
from embup_core.errors import ArtifactError, InvalidArtifactError, NoArtifactError
from embup_core.upsampler import Upsampler

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from embup_core.decoders import Decoder

POINTER_FILE = "LATEST"
_STAGING = ".staging-"
_ABANDONED_AFTER_S = 86_400
_VERSION = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


@dataclass(frozen=True)
class ArtifactInfo:
    """A published artifact, not loaded."""

    version: str
    folder: Path
    manifest: dict[str, Any]
    is_latest: bool


class Registry:
    """Published artifacts below one folder.

    Parameters
    ----------
    root
        Made when something is published; may not exist before.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def publish(
        self,
        decoder: Decoder,
        *,
        golden: NDArray[np.float32],
        provenance: Provenance,
        plots: Mapping[str, bytes] | None = None,
        created_utc: datetime | None = None,
    ) -> ArtifactInfo:
        """Write an artifact beside the others, load it back, give it its name, and point LATEST at it.

        A crash at any moment leaves the registry as it was, or as it will be.

        Raises
        ------
        InvalidArtifactError
            What was written does not load; nothing is published.
        ArtifactError
            The same decoder was already published this second.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.root))
        try:
            version = write_artifact(
                staging,
                decoder,
                golden=golden,
                provenance=provenance,
                created_utc=created_utc or datetime.now(UTC),
                plots=plots or {},
            )
            load_artifact(staging)
            staging.chmod(0o755)  # mkdtemp's folders are private, a service may run as another user
            sync_folder(staging / "plots")
            sync_folder(staging)
            try:
                staging.rename(self.root / version)
            except OSError as error:
                raise ArtifactError(
                    f"{self.root / version}: cannot take its place ({error.strerror}).",
                    remedy="If that version exists already, nothing needs to be done.",
                ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        sync_folder(self.root)
        replace_durably(self.root / POINTER_FILE, f"{version}\n".encode())
        return self.info(version)

    def _remove_abandoned(self) -> None:
        """Remove what a publish that was killed left behind; a live one is younger than a day."""
        for staging in self.root.glob(f"{_STAGING}*"):
            if time.time() - staging.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(staging, ignore_errors=True)

    def latest_version(self) -> str:
        """The version in service.

        Raises
        ------
        NoArtifactError
            Nothing is published.
        InvalidArtifactError
            The pointer names no version.
        """
        try:
            version = (self.root / POINTER_FILE).read_text().strip()
        except FileNotFoundError as error:
            raise NoArtifactError(
                f"No decoder is published in {self.root}.",
                remedy=f"Run: embup train --source sample --registry {self.root}",
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArtifactError(
                f"{self.root / POINTER_FILE}: expected a version, found what cannot be read ({error}).",
                remedy="Publish again.",
            ) from error
        if not _VERSION.fullmatch(version):
            raise InvalidArtifactError(
                f"{self.root / POINTER_FILE}: expected a version, found {version[:80]!r}.",
                remedy="Publish again.",
            )
        return version

    def path(self, version: str) -> Path:
        """The folder of a version.

        Raises
        ------
        NoArtifactError
            There is no such version.
        """
        folder = self.root / version
        if not _VERSION.fullmatch(version) or not folder.is_dir():
            raise NoArtifactError(
                f"Version {version[:80]!r} is not in {self.root}.",
                remedy=f"List them with: embup models --registry {self.root}",
            )
        return folder

    def info(self, version: str) -> ArtifactInfo:
        """A version's manifest; see `path` and `read_manifest` for what is raised."""
        folder = self.path(version)
        try:
            latest = self.latest_version()
        except ArtifactError:
            latest = ""
        return ArtifactInfo(version, folder, read_manifest(folder), is_latest=version == latest)

    def latest(self) -> ArtifactInfo:
        """The version in service.

        Raises
        ------
        NoArtifactError
            Nothing is published.
        InvalidArtifactError
            The pointer names no version, or one that is not there or without a readable manifest.
        """
        version = self.latest_version()
        try:
            return self.info(version)
        except NoArtifactError as error:
            raise InvalidArtifactError(
                f"{self.root / POINTER_FILE} names {version}, which is not there.", remedy="Publish again."
            ) from error

    def versions(self) -> list[ArtifactInfo]:
        """All published artifacts, newest first; folders without a readable manifest are passed over."""
        if not self.root.is_dir():
            return []
        found = []
        names = sorted((p.name for p in self.root.iterdir() if _VERSION.fullmatch(p.name)), reverse=True)
        for name in names:
            try:
                found.append(self.info(name))
            except ArtifactError:
                continue
        return found

    def load_artifact(self, version: str | None = None) -> Artifact:
        """Load and verify a version, by default the one in service; raises `ArtifactError`."""
        return load_artifact(self.latest().folder if version is None else self.path(version))

    def load(self, version: str | None = None) -> Upsampler:
        """A version ready to serve, by default the one in service; raises `ArtifactError`."""
        return Upsampler(self.load_artifact(version))
