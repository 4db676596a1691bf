"""The place of artifacts, with the pointer to the one in service.

<root>/<version>/…      immutable artifacts
       CURRENT          the version in service, one line
       DEPLOYMENTS      which versions CURRENT has named (`embup_core.artifacts.history`)
       .staging-*       being written; never looked at
"""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embup_core.artifacts.artifact import Artifact, Provenance, load_artifact, write_artifact
from embup_core.artifacts.basis import read_basis
from embup_core.artifacts.gate import override_note, recorded_gate
from embup_core.artifacts.history import Deployment, DeploymentHistory, How
from embup_core.artifacts.manifest import DECODER_FILE, MANIFEST_FILE, VERSION, read_manifest
from embup_core.artifacts.retention import reasons_to_keep
from embup_core.artifacts.verified_files import FileIdentity, read_at_most
from embup_core.errors import ArtifactError, InvalidArtifactError, NoArtifactError, PromotionConflictError
from embup_core.files.atomic import replace_durably, sync_folder
from embup_core.upsampler import Upsampler

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from embup_core.artifacts.anchors import FittedAnchors
    from embup_core.decoders import Decoder
    from embup_core.geometry.basis import Basis

POINTER_FILE = "CURRENT"
STAGING = ".staging-"
_ABANDONED_AFTER_S = 86_400
POINTER_BYTES = 4096


@dataclass(frozen=True)
class ArtifactInfo:
    """A published artifact, not loaded."""

    version: str
    folder: Path
    manifest: dict[str, Any]
    is_current: bool


@dataclass(frozen=True)
class PointerState:
    """What CURRENT says, and what would show that it or what it names has been replaced.

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


@dataclass(frozen=True)
class StoreState:
    """Whether the object store of a registry answers.

    Attributes
    ----------
    answered_s
        When it last answered, on `time.monotonic`'s clock; before the first answer, when it was first to.
    failed_looks
        How often it did not.
    outage
        Why it does not answer now, with what to do; None while it does.
    """

    answered_s: float
    failed_looks: int = 0
    outage: str | None = None


class Registry:
    """Published artifacts below one folder.

    Parameters
    ----------
    root
        Made when something is published; may not exist before.
    """

    store_state: StoreState | None = None
    """Of a registry in an object store; None for a folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._history = DeploymentHistory(self.root)

    @property
    def address(self) -> str:
        """Where it is, as ``--registry`` takes it: the folder, or an address in an object store."""
        return str(self.root)

    def publish(
        self,
        decoder: Decoder,
        *,
        golden: NDArray[np.float32],
        provenance: Provenance,
        plots: Mapping[str, bytes] | None = None,
        created_utc: datetime | None = None,
        anchors: FittedAnchors | None = None,
        promote: bool = True,
    ) -> ArtifactInfo:
        """Write an artifact beside the others, load it back, give it its name, and put it into service.

        A crash at any moment leaves the registry as it was, or as it will be. Several processes may publish
        at the same time.

        Parameters
        ----------
        decoder, golden, provenance, plots, anchors
            As for `write_artifact`.
        created_utc
            By default now.
        promote
            Whether CURRENT names it afterwards.

        Raises
        ------
        InvalidArtifactError
            What was written does not load; nothing is published.
        ArtifactError
            The registry cannot be written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._remove_stale_staging()
        at = created_utc or datetime.now(UTC)
        while True:
            staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.root))
            try:
                version = write_artifact(
                    staging,
                    decoder,
                    golden=golden,
                    provenance=provenance,
                    created_utc=at,
                    plots=plots or {},
                    anchors=anchors,
                )
                load_artifact(staging)
                staging.chmod(0o755)  # mkdtemp's folders are private, a service may run as another user
                sync_folder(staging / "plots")
                sync_folder(staging)
                if self._take_name(staging, version):
                    break
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            at += timedelta(seconds=1)  # the same decoder was published this second: the next one is free
        sync_folder(self.root)
        self._written(version)
        if promote:
            self.point_at(version, "publish")
        return self.info(version)

    def _written(self, version: str) -> None:
        """Called when a version lies in its folder, before CURRENT may name it."""

    def _take_name(self, staging: Path, version: str) -> bool:
        """Rename a written artifact to its version; False where that version exists."""
        try:
            staging.rename(self.root / version)
        except OSError as error:
            if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
                return False
            raise ArtifactError(
                f"{self.root / version}: cannot take its place ({error.strerror}).",
                remedy="Give this user the right to write there, or free space.",
            ) from error
        return True

    def promote(self, version: str) -> ArtifactInfo:
        """Verify a version and point CURRENT at it; the history says so where the gate had held it.

        Raises
        ------
        ArtifactError
            There is no such version, or it is bad; CURRENT stays.
        """
        self.load_artifact(version)
        self.point_at(version, "promote")
        return self.info(version)

    def roll_back(self) -> ArtifactInfo:
        """Verify the version that was in service before this one, and point CURRENT at it.

        Raises
        ------
        ArtifactError
            There is none, it is bad, or CURRENT has moved meanwhile; CURRENT stays.
        """
        current = self.current_version()
        version = self.earlier_version()
        self.load_artifact(version)
        self.point_at(version, "rollback", only_from=current)
        return self.info(version)

    def earlier_version(self) -> str:
        """The version that was in service before the one that CURRENT names.

        A rollback counts as a step back, so that two of them lead two versions back. Of what was promoted
        before there was a record, the one published before is taken.

        Raises
        ------
        NoArtifactError
            There is none.
        """
        current = self.current_version()
        earlier = self._history.before(current)
        if not earlier and not self._history.recorded(current):
            earlier = [name for name in reversed(self.version_names()) if name < current]
        if not earlier:
            raise NoArtifactError(
                f"No version was in service before {current}.",
                remedy="`embup models` lists the published ones; `embup models promote VERSION` takes any.",
            )
        return earlier[-1]

    def deployments(self) -> list[Deployment]:
        """Which versions CURRENT has named, and how they came there, the latest last."""
        return self._history.deployments()

    def point_at(self, version: str, how: How, *, only_from: str | None = None) -> None:
        """Let CURRENT name a version that has been verified, and record it; one at a time.

        The record comes first: a crash between the two leaves CURRENT as it was, which is what counts.

        Parameters
        ----------
        version
            Which.
        how
            For the record.
        only_from
            What CURRENT must name now.

        Raises
        ------
        ArtifactError
            CURRENT names another version, or the registry cannot be written.
        """
        # Going back to a version decides nothing anew.
        note = None if how == "rollback" else override_note(recorded_gate(self.root / version))
        try:
            with self._history.held() as record:
                try:
                    before = self.current_version()
                except ArtifactError:  # nothing yet, or damaged: this mends it
                    before = None
                if only_from is not None and before != only_from:
                    raise PromotionConflictError(
                        f"Expected {only_from} in service, found {before}: somebody promoted it meanwhile.",
                        remedy="Look at `embup models`, and decide again.",
                    )
                if version != before:
                    record(version, how, before, note)
                replace_durably(self.root / POINTER_FILE, f"{version}\n".encode())
        except OSError as error:
            raise ArtifactError(
                f"{self.root}: cannot be written ({error.strerror}), and CURRENT stays as it was.",
                remedy="Give this user the right to write there, or free space.",
            ) from error

    def retention(
        self, keep: int, *, quarterly: bool = False, pinned: Collection[str] = ()
    ) -> dict[str, str]:
        """Why each version stays when old ones are removed, newest first; empty for those that go.

        The newest `keep` stay, the one in service, the one that a rollback would put there, and those that
        are pinned.

        Parameters
        ----------
        keep
            How many of the newest versions stay.
        quarterly
            Whether one of each quarter stays, too: the last that was in service, or else the newest.
        pinned
            Versions that batches need which have not ended.

        Raises
        ------
        InvalidArtifactError
            CURRENT cannot be read, so the version in service is not known.
        """
        current = earlier = None
        with suppress(NoArtifactError):  # nothing is in service, or nothing was before
            current = self.current_version()
            earlier = self.earlier_version()
        deployed = [move.version for move in self.deployments()]
        return reasons_to_keep(
            self.version_names(),
            keep=keep,
            current=current,
            earlier=earlier,
            deployed=deployed if quarterly else None,
            pinned=pinned,
        )

    def prunable(self, keep: int, *, quarterly: bool = False, pinned: Collection[str] = ()) -> list[str]:
        """Versions that `prune` would remove, oldest first; see `retention`."""
        reasons = self.retention(keep, quarterly=quarterly, pinned=pinned)
        return sorted(version for version, reason in reasons.items() if not reason)

    def prune(self, keep: int, *, quarterly: bool = False, pinned: Collection[str] = ()) -> list[str]:
        """Remove old versions; returns their names, oldest first. Nothing is promoted meanwhile.

        Parameters
        ----------
        keep, quarterly, pinned
            As for `retention`.

        Raises
        ------
        ArtifactError
            CURRENT cannot be read, another process holds the registry, or it cannot be written.
        """
        if not self.root.is_dir():
            return []
        try:
            with self._history.held():
                removed = self.prunable(keep, quarterly=quarterly, pinned=pinned)
                for version in removed:
                    # Renamed first, so that no reader finds a version of which a part is gone.
                    hidden = self.root / f"{STAGING}removed-{version}"
                    (self.root / version).rename(hidden)
                    shutil.rmtree(hidden)
        except OSError as error:
            raise ArtifactError(
                f"{self.root}: a version cannot be removed ({error.strerror}).",
                remedy="Give this user the right to write there.",
            ) from error
        return removed

    def pointer_state(self) -> PointerState | None:
        """What CURRENT says now, at the price of a few looks at files; None where there is no CURRENT."""
        pointer = FileIdentity.of(self.root / POINTER_FILE)
        if pointer is None:
            return None
        try:
            version = self.current_version()
        except ArtifactError:
            return PointerState(None, (pointer,))
        named = (self.root / version / file for file in (MANIFEST_FILE, DECODER_FILE))
        return PointerState(version, (pointer, *map(FileIdentity.of, named)))

    def _remove_stale_staging(self) -> None:
        """Remove what a killed publish left; one that is running is younger than a day."""
        for staging in self.root.glob(f"{STAGING}*"):
            with suppress(FileNotFoundError):  # another publish has given it its name meanwhile
                if time.time() - staging.stat().st_mtime > _ABANDONED_AFTER_S:
                    shutil.rmtree(staging, ignore_errors=True)

    def current_version(self) -> str:
        """The version in service.

        Raises
        ------
        NoArtifactError
            Nothing is published.
        InvalidArtifactError
            The pointer names no version.
        """
        try:
            content = self._pointer_content()
            if content is None:
                raise NoArtifactError(
                    f"No decoder is published in {self.address}.",
                    remedy=f"Run: embup train --source sample --registry {self.address}",
                )
            version = content.decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArtifactError(
                f"{self.address}/{POINTER_FILE}: expected a version, found what cannot be read ({error}).",
                remedy="Publish again.",
            ) from error
        if not VERSION.fullmatch(version):
            raise InvalidArtifactError(
                f"{self.address}/{POINTER_FILE}: expected a version, found {version[:80]!r}.",
                remedy="Publish again.",
            )
        return version

    def _pointer_content(self) -> bytes | None:
        """What CURRENT says; None where there is none. Raises `OSError` and `InvalidArtifactError`."""
        try:
            return read_at_most(self.root / POINTER_FILE, POINTER_BYTES)
        except FileNotFoundError:
            return None

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
                f"Version {version[:80]!r} is not in {self.address}.",
                remedy=f"List them with: embup models --registry {self.address}",
            )
        return folder

    def info(self, version: str) -> ArtifactInfo:
        """A version's manifest; see `path` and `read_manifest` for what is raised."""
        folder = self._described_in(version)
        try:
            latest = self.current_version()
        except ArtifactError:
            latest = ""
        manifest = read_manifest(folder)
        _require_own_name(folder, manifest)
        return ArtifactInfo(version, folder, manifest, is_current=version == latest)

    def _described_in(self, version: str) -> Path:
        """The folder with a version's manifest; the other files need not be there."""
        return self.path(version)

    def current(self) -> ArtifactInfo:
        """The version in service.

        Raises
        ------
        NoArtifactError
            Nothing is published.
        InvalidArtifactError
            The pointer names no version, or one that is not there or without a readable manifest.
        """
        version = self.current_version()
        try:
            return self.info(version)
        except NoArtifactError as error:
            raise InvalidArtifactError(
                f"{self.address}/{POINTER_FILE} names {version}, which is not there.", remedy="Publish again."
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
        artifact = load_artifact(self.path(self.current().version if version is None else version))
        _require_own_name(artifact.folder, artifact.manifest)
        return artifact

    def read_basis(self, version: str) -> Basis | None:
        """The basis of a version, its file verified; None where it has none. Raises `ArtifactError`."""
        return read_basis(self.path(version), self.info(version).manifest)

    def load(self, version: str | None = None) -> Upsampler:
        """A version ready to serve, by default the one in service; raises `ArtifactError`."""
        return Upsampler(self.load_artifact(version))


def _require_own_name(folder: Path, manifest: dict[str, Any]) -> None:
    if manifest["version"] != folder.name:
        raise InvalidArtifactError(
            f"{folder}: expected that version in it, found {manifest['version']}.",
            remedy="Give the folder its own name back, or remove it.",
        )
