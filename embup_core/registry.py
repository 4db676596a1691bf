"""The place of artifacts, with the pointer to the one in service.

<root>/<version>/…      immutable artifacts
       LATEST           the version in service, one line
       PROMOTIONS       which versions LATEST has named, for the way back; see `embup_core.promotions`
       .staging-*       being written; never looked at
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embup_core.artifact import Artifact, Provenance, load_artifact, write_artifact
from embup_core.artifact_files import FileIdentity, read_at_most
from embup_core.durable import replace_durably, sync_folder
from embup_core.errors import ArtifactError, InvalidArtifactError, NoArtifactError
from embup_core.manifest import DECODER_FILE, MANIFEST_FILE, VERSION, read_manifest
from embup_core.promotions import How, Promotions
from embup_core.upsampler import Upsampler

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from embup_core.decoders import Decoder

POINTER_FILE = "LATEST"
_STAGING = ".staging-"
_ABANDONED_AFTER_S = 86_400
_POINTER_BYTES = 4096


@dataclass(frozen=True)
class ArtifactInfo:
    """A published artifact, not loaded."""

    version: str
    folder: Path
    manifest: dict[str, Any]
    is_latest: bool


@dataclass(frozen=True)
class PointerState:
    """What LATEST says, and what would show that it or what it names has been replaced.

    Equal states mean that a second load would find what the first one found.

    Attributes
    ----------
    version
        What it names; None where that is no version.
    files
        Of the pointer, and of the manifest and the decoder of the version it names.
    """

    version: str | None
    files: tuple[FileIdentity | None, ...]


class Registry:
    """Published artifacts below one folder.

    Parameters
    ----------
    root
        Made when something is published; may not exist before.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._promotions = Promotions(self.root)

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
        self.point_at(version, "publish")
        return self.info(version)

    def promote(self, version: str) -> ArtifactInfo:
        """Verify a version and point LATEST at it.

        Raises
        ------
        ArtifactError
            There is no such version, or it is bad; LATEST stays.
        """
        self.load_artifact(version)
        self.point_at(version, "promote")
        return self.info(version)

    def roll_back(self) -> ArtifactInfo:
        """Verify the version that was in service before this one, and point LATEST at it.

        Raises
        ------
        ArtifactError
            There is none, it is bad, or LATEST has moved meanwhile; LATEST stays.
        """
        current = self.latest_version()
        version = self.earlier_version()
        self.load_artifact(version)
        self.point_at(version, "rollback", only_from=current)
        return self.info(version)

    def earlier_version(self) -> str:
        """The version that was in service before the one that LATEST names.

        A rollback counts as a step back, so that two of them lead two versions back. Of what was promoted
        before there was a record, the one published before is taken.

        Raises
        ------
        NoArtifactError
            There is none.
        """
        current = self.latest_version()
        earlier = self._promotions.before(current)
        if not earlier and not self._promotions.recorded(current):
            earlier = [name for name in reversed(self.version_names()) if name < current]
        if not earlier:
            raise NoArtifactError(
                f"No version was in service before {current}.",
                remedy="`embup models` lists the published ones; `embup models promote VERSION` takes any.",
            )
        return earlier[-1]

    def point_at(self, version: str, how: How, *, only_from: str | None = None) -> None:
        """Let LATEST name a version that has been verified, and record it; one at a time.

        The record comes first: a crash between the two leaves LATEST as it was, which is what counts.

        Parameters
        ----------
        version
            Which.
        how
            For the record.
        only_from
            What LATEST must name now.

        Raises
        ------
        ArtifactError
            LATEST names another version, or the registry cannot be written.
        """
        try:
            with self._promotions.held() as record:
                try:
                    before = self.latest_version()
                except ArtifactError:  # nothing yet, or damaged: this mends it
                    before = None
                if only_from is not None and before != only_from:
                    raise ArtifactError(
                        f"Expected {only_from} in service, found {before}: somebody promoted it meanwhile.",
                        remedy="Look at `embup models`, and decide again.",
                    )
                if version != before:
                    record(version, how, before)
                replace_durably(self.root / POINTER_FILE, f"{version}\n".encode())
        except OSError as error:
            raise ArtifactError(
                f"{self.root}: cannot be written ({error.strerror}), and LATEST stays as it was.",
                remedy="Give this user the right to write there, or free space.",
            ) from error

    def pointer_state(self) -> PointerState | None:
        """What LATEST says now, at the price of a few looks at files; None where there is no LATEST."""
        pointer = FileIdentity.of(self.root / POINTER_FILE)
        if pointer is None:
            return None
        try:
            version = self.latest_version()
        except ArtifactError:
            return PointerState(None, (pointer,))
        named = (self.root / version / file for file in (MANIFEST_FILE, DECODER_FILE))
        return PointerState(version, (pointer, *map(FileIdentity.of, named)))

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
            version = read_at_most(self.root / POINTER_FILE, _POINTER_BYTES).decode().strip()
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
        if not VERSION.fullmatch(version):
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
        if not VERSION.fullmatch(version) or not folder.is_dir():
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
        manifest = read_manifest(folder)
        _require_own_name(folder, manifest)
        return ArtifactInfo(version, folder, manifest, is_latest=version == latest)

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

    def version_names(self) -> list[str]:
        """Names of all published artifacts, newest first; whether they can be used is not looked at."""
        if not self.root.is_dir():
            return []
        return sorted((p.name for p in self.root.iterdir() if VERSION.fullmatch(p.name)), reverse=True)

    def versions(self) -> list[ArtifactInfo]:
        """All published artifacts, newest first; folders without a readable manifest are passed over."""
        found = []
        for name in self.version_names():
            try:
                found.append(self.info(name))
            except ArtifactError:
                continue
        return found

    def load_artifact(self, version: str | None = None) -> Artifact:
        """Load and verify a version, by default the one in service; raises `ArtifactError`."""
        artifact = load_artifact(self.latest().folder if version is None else self.path(version))
        _require_own_name(artifact.folder, artifact.manifest)
        return artifact

    def load(self, version: str | None = None) -> Upsampler:
        """A version ready to serve, by default the one in service; raises `ArtifactError`."""
        return Upsampler(self.load_artifact(version))


def _require_own_name(folder: Path, manifest: dict[str, Any]) -> None:
    if manifest["version"] != folder.name:
        raise InvalidArtifactError(
            f"{folder}: expected that version in it, found {manifest['version']}.",
            remedy="Give the folder its own name back, or remove it.",
        )
