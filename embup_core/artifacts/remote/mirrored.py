"""A registry in an object store, read through a verified copy in a local folder.

The store's CURRENT decides what is in service, and moves under a condition: nobody has moved it since this
process looked. The folder is a registry as any other. Its own CURRENT names what was last verified here; a
process that starts while the store does not answer serves that.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from embup_core.artifacts.gate import override_note, recorded_gate
from embup_core.artifacts.history import PROMOTIONS_FILE, How, line_of
from embup_core.artifacts.manifest import DECODER_FILE, MANIFEST_FILE, MAX_MANIFEST_BYTES, VERSION
from embup_core.artifacts.registry import (
    POINTER_BYTES,
    POINTER_FILE,
    STAGING,
    PointerState,
    Registry,
    StoreState,
)
from embup_core.artifacts.remote.stored import (
    fetch_manifest,
    fetch_version,
    remove_abandoned,
    remove_files,
    stored_versions,
    upload_version,
)
from embup_core.artifacts.verified_files import FileIdentity
from embup_core.errors import (
    ArtifactError,
    InvalidArtifactError,
    NoArtifactError,
    ObjectChangedError,
    ObjectStoreError,
    PromotionConflictError,
    RegistryUnavailableError,
)
from embup_core.files.atomic import replace_durably
from embup_core.object_store import NEW, ObjectStore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from embup_core.artifacts.artifact import Artifact
    from embup_core.object_store import StoredObject

_MANIFESTS = ".manifests"
_HISTORY_BYTES = 4 << 20
_HISTORY_LINES = 2000
_RECORD_TRIES = 5
_KEPT_COPIES = 12  # of the newest versions; what is in service, and the one before, stay in any case


@dataclass(frozen=True)
class _Pointer:
    """The store's CURRENT as one look found it; both None where there is none."""

    content: bytes | None
    stored: StoredObject | None


class MirroredRegistry(Registry):
    """A registry in an object store.

    Parameters
    ----------
    address
        Such as ``s3://bucket/registry``.
    root
        Folder of the local copy; made when it is needed. It may be removed while no process uses it.
    """

    def __init__(self, address: str, root: Path) -> None:
        super().__init__(root)
        self._store = ObjectStore(address)
        self._quick = ObjectStore(address, quick=True)
        self._pointer: _Pointer | None = None
        self.store_state: StoreState = StoreState(time.monotonic())

    @property
    def address(self) -> str:
        """Its address in the object store."""
        return self._store.address

    def look(self) -> None:
        """Ask the store what is in service; where that has changed, fetch the deployment history, too.

        Raises
        ------
        RegistryUnavailableError
            The store does not answer, or refuses.
        ArtifactError
            The local folder cannot be written.
        """
        known = self._pointer
        with self._asking(observed=True):
            found = self._quick.read(
                POINTER_FILE, max_bytes=POINTER_BYTES, unless=None if known is None else known.stored
            )
            if found is None:
                self._pointer = _Pointer(None, None)
            elif known is None or found[1] != known.stored:
                record = self._store.read(PROMOTIONS_FILE, max_bytes=_HISTORY_BYTES)
                self._keep_history(b"" if record is None else record[0])
                self._pointer = _Pointer(*found)

    def pointer_state(self) -> PointerState | None:
        """What the store's CURRENT says now, or said when the store last answered."""
        with suppress(RegistryUnavailableError):  # `store_state` has it
            self.look()
        try:
            version = self.current_version()
        except (NoArtifactError, RegistryUnavailableError):
            return None
        except ArtifactError:
            return PointerState(None, ())
        named = (self.root / version / file for file in (MANIFEST_FILE, DECODER_FILE))
        return PointerState(version, tuple(map(FileIdentity.of, named)))

    def _pointer_content(self) -> bytes | None:
        if self._pointer is not None:
            return self._pointer.content
        content = super()._pointer_content()
        if content is None and self.store_state.outage is not None:
            raise RegistryUnavailableError(self.store_state.outage, remedy="There is no local copy yet.")
        return content

    def version_names(self) -> list[str]:
        """Names of the versions in the store, newest first; in an outage, of those copied here."""
        if self.store_state.outage is None:
            with suppress(RegistryUnavailableError), self._asking(observed=True):
                return stored_versions(self._store)
        return super().version_names()

    def path(self, version: str) -> Path:
        """The local folder of a version, which is fetched and verified first where it is not there yet.

        Raises
        ------
        NoArtifactError
            There is no such version.
        InvalidArtifactError
            What the store has is damaged.
        RegistryUnavailableError
            The version is not here, and the store does not answer.
        """
        if VERSION.fullmatch(version) and not (self.root / version).is_dir():
            with self._staging(version) as staging:
                fetch_version(self._store, version, staging)
                self._take_name(staging, version)  # another thread or process may have fetched it meanwhile
        return super().path(version)

    def _described_in(self, version: str) -> Path:
        if not VERSION.fullmatch(version) or (self.root / version).is_dir():
            return super().path(version)
        folder = self.root / _MANIFESTS / version
        if not folder.is_dir():
            with self._staging(version) as staging:
                fetch_manifest(self._store, version, staging)
                folder.parent.mkdir(exist_ok=True)
                with suppress(OSError):  # another one has just done the same
                    staging.rename(folder)
        return folder

    def load_artifact(self, version: str | None = None) -> Artifact:
        """As `Registry.load_artifact`; the local CURRENT follows what is in service once it has loaded."""
        artifact = super().load_artifact(version)
        name = artifact.folder.name
        pointer = self._pointer
        if pointer is not None and pointer.content is not None and pointer.content.strip() == name.encode():
            self._keep_pointer(name)
            self._remove_old_copies()
        return artifact

    def point_at(self, version: str, how: How, *, only_from: str | None = None) -> None:
        """Let the store's CURRENT name a version, if nobody has moved it since this process looked.

        The version is uploaded first where it lies here alone. The record follows: a crash in between leaves
        a move without a line, which readers of the record allow for.

        Raises
        ------
        PromotionConflictError
            Another version was put into service meanwhile; this one stays in the store. The next try goes by
            what is there now.
        RegistryUnavailableError
            The store fails. Where the answer alone was lost CURRENT may have moved: look.
        ArtifactError
            There is no such version, or the local folder cannot be written.
        """
        if self._pointer is None:
            self.look()
        seen = self._pointer
        assert seen is not None  # noqa: S101 - `look` has set it or raised
        before = self._version_before(seen)
        if only_from is not None and before != only_from:
            raise self._conflict(version, only_from, before)
        # Going back decides nothing anew. Read before CURRENT moves: the store may have to be asked for it.
        note = None if how == "rollback" else override_note(recorded_gate(self.path(version)))
        with self._asking():
            if self._store.find(f"{version}/{MANIFEST_FILE}") is None:
                upload_version(self._store, super().path(version))
            content = f"{version}\n".encode()
            try:
                written = self._store.write(
                    POINTER_FILE, content, only=NEW if seen.stored is None else seen.stored
                )
            except ObjectChangedError:
                self.look()
                assert self._pointer is not None  # noqa: S101 - `look` has set it or raised
                # Our own write, of which the answer was lost, or another's who wants the same.
                if self._pointer.content != content:
                    raise self._conflict(version, before, self._version_before(self._pointer)) from None
            else:
                self._pointer = _Pointer(content, written)
        if version != before:
            self._record(line_of(version, how, before, note))
        if (self.root / version).is_dir():
            self._keep_pointer(version)

    def prune(self, keep: int, *, quarterly: bool = False, pinned: Collection[str] = ()) -> list[str]:
        """Remove old versions from the store and from here; see `Registry.prune`.

        A version's manifest goes first, so that no reader finds a version of which a part is gone. What
        killed publishers left more than a day ago is removed, too.
        """
        self.look()
        removed = []
        with self._asking():
            for version in self.prunable(keep, quarterly=quarterly, pinned=pinned):
                key = f"{version}/{MANIFEST_FILE}"
                manifest = self._store.read(key, max_bytes=MAX_MANIFEST_BYTES)
                self._store.delete([key])
                self.look()
                if self.current_version() == version and manifest is not None:  # promoted at this moment
                    self._store.write(key, manifest[0])
                    continue
                remove_files(self._store, version)
                self._remove_copy(version)
                removed.append(version)
            remove_abandoned(self._store)
        return removed

    def _remove_copy(self, version: str) -> None:
        for folder in (self.root / version, self.root / _MANIFESTS / version):
            if folder.is_dir():
                # Renamed first, so that no reader finds a version of which a part is gone.
                hidden = self.root / f"{STAGING}removed-{version}"
                folder.rename(hidden)
                shutil.rmtree(hidden)

    def _remove_old_copies(self) -> None:
        """Remove copies of old versions that the store has, and that can be fetched again."""
        old = super().version_names()[_KEPT_COPIES:]
        if old:
            with suppress(ArtifactError), self._asking():  # the next load tries again
                needed = {self.current_version(), self.earlier_version()}
                for version in set(old).intersection(stored_versions(self._store)) - needed:
                    self._remove_copy(version)

    def _written(self, version: str) -> None:
        try:
            with self._asking():
                upload_version(self._store, self.root / version)
        except RegistryUnavailableError as error:
            raise RegistryUnavailableError(
                f"{error.message} {version} is written and verified in {self.root}, and not uploaded.",
                remedy="When the store answers, this uploads it and puts it into service: "
                f"embup models promote {version} --registry {self.address}, with "
                f"EMBUP_REGISTRY_CACHE={self.root.parent}",
            ) from error

    @contextmanager
    def _staging(self, version: str) -> Iterator[Path]:
        """An empty folder for what is fetched; errors name the place in the store."""
        with self._asking():
            self.root.mkdir(parents=True, exist_ok=True)
            self._remove_stale_staging()
            staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.root))
            try:
                staging.chmod(0o755)  # as a version that is published here
                yield staging
            except InvalidArtifactError as error:
                place = f"{self.address}/{version}"
                raise InvalidArtifactError(
                    error.message.replace(str(staging), place), remedy=error.remedy
                ) from error
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    @contextmanager
    def _asking(self, *, observed: bool = False) -> Iterator[None]:
        """Tell failures of the store and of the local folder as errors of a registry.

        Parameters
        ----------
        observed
            Whether a success or a failure is one of `store_state`.
        """
        try:
            yield
        except ObjectStoreError as error:
            if observed:
                state = self.store_state
                outage = str(error)
                self.store_state = replace(state, failed_looks=state.failed_looks + 1, outage=outage)
            raise RegistryUnavailableError(error.message, remedy=error.remedy) from error
        except OSError as error:
            raise ArtifactError(
                f"{self.root}: cannot be written ({error.strerror}).",
                remedy="Give this user the right to write there, or free space.",
            ) from error
        if observed:
            self.store_state = replace(self.store_state, answered_s=time.monotonic(), outage=None)

    def _record(self, line: bytes) -> None:
        """Append to the deployment history, in the store and here; without a line readers manage, too."""
        with suppress(ObjectStoreError):
            for _ in range(_RECORD_TRIES):
                found = self._store.read(PROMOTIONS_FILE, max_bytes=_HISTORY_BYTES)
                content, stored = (b"", None) if found is None else found
                lines = [*content.splitlines(keepends=True), line][-_HISTORY_LINES:]
                content = b"".join(lines)
                with suppress(ObjectChangedError):  # somebody else has just appended theirs
                    self._store.write(PROMOTIONS_FILE, content, only=NEW if stored is None else stored)
                    with self._asking():
                        self._keep_history(content)
                    return

    def _keep_history(self, content: bytes) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with self._history.held():
            self._history.replace(content)

    def _keep_pointer(self, version: str) -> None:
        content = f"{version}\n".encode()
        with self._asking():
            if super()._pointer_content() != content:
                replace_durably(self.root / POINTER_FILE, content)

    @staticmethod
    def _version_before(pointer: _Pointer) -> str | None:
        """The version that a pointer names; None where there is none, or a damaged one."""
        version = "" if pointer.content is None else pointer.content.decode(errors="replace").strip()
        return version if VERSION.fullmatch(version) else None

    def _conflict(self, version: str, expected: str | None, found: str | None) -> PromotionConflictError:
        return PromotionConflictError(
            f"Expected {expected or 'no version'} in service, found {found or 'none'}: another process has "
            f"moved CURRENT meanwhile. {version} stays in {self.address}, and is not in service.",
            remedy="Compare the two (`embup models compare`). To put this one into service: "
            f"embup models promote {version} --registry {self.address}",
        )
