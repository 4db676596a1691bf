"""Versions in an object store: uploaded completely before their manifest, fetched into a folder and verified.

<address>/<version>/…             files as in a local registry
                    manifest.json last when a version is written, first when it is removed
          CURRENT                 the version in service
          DEPLOYMENTS             which versions CURRENT has named
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from embup_core.artifacts.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    VERSION,
    listed_files,
    read_manifest,
)
from embup_core.artifacts.verified_files import verify_file
from embup_core.errors import (
    ArtifactError,
    InvalidArtifactError,
    NoArtifactError,
    ObjectChangedError,
)
from embup_core.files.atomic import sync_folder, write_durably
from embup_core.object_store import NEW

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.object_store import ObjectStore

_ABANDONED_AFTER = timedelta(days=1)


def stored_versions(store: ObjectStore) -> list[str]:
    """Names of the complete versions, newest first."""
    parts = (one.key.split("/") for one in store.objects())
    complete = (part[0] for part in parts if len(part) == 2 and part[1] == MANIFEST_FILE)
    return sorted(filter(VERSION.fullmatch, complete), reverse=True)


def upload_version(store: ObjectStore, folder: Path) -> None:
    """Upload a verified local version, the manifest last. What is there already is left.

    Raises
    ------
    ArtifactError
        The store has another version of this name, or somebody else writes one.
    ObjectStoreError
        The store fails; what was uploaded so far is no version without its manifest.
    """
    version = folder.name
    manifest_key = f"{version}/{MANIFEST_FILE}"
    content = (folder / MANIFEST_FILE).read_bytes()
    if _has(store, manifest_key, content):
        return
    files = listed_files(folder, read_manifest(folder))
    sent = {f"{version}/{name}": store.upload(folder / name, f"{version}/{name}") for name in files}
    found = {one.key: one for one in store.objects(f"{version}/")}
    for key, one in sent.items():
        if key not in found or (found[key].size_bytes, found[key].etag) != (one.size_bytes, one.etag):
            raise _written_by_another(store, version)
    try:
        store.write(manifest_key, content, only=NEW)
    except ObjectChangedError:  # another's, or our own, of which the answer was lost
        if not _has(store, manifest_key, content):
            raise _written_by_another(store, version) from None


def _has(store: ObjectStore, key: str, content: bytes) -> bool:
    """Whether an object holds this content; raises `ArtifactError` where it holds another."""
    found = store.read(key, max_bytes=MAX_MANIFEST_BYTES)
    if found is not None and found[0] != content:
        raise _written_by_another(store, key.partition("/")[0])
    return found is not None


def _written_by_another(store: ObjectStore, version: str) -> ArtifactError:
    return ArtifactError(
        f"{store.address}/{version}: another process has published the same decoder under this name.",
        remedy="Publish again: the name has the second in it.",
    )


def fetch_manifest(store: ObjectStore, version: str, folder: Path) -> None:
    """Write a version's manifest into an empty folder, and check it.

    Raises
    ------
    NoArtifactError
        There is no such complete version.
    InvalidArtifactError
        The manifest cannot be used.
    ObjectStoreError
        The store fails.
    """
    found = store.read(f"{version}/{MANIFEST_FILE}", max_bytes=MAX_MANIFEST_BYTES)
    if found is None:
        raise NoArtifactError(
            f"Version {version} is not in {store.address}.",
            remedy=f"List them with: embup models --registry {store.address}",
        )
    write_durably(folder / MANIFEST_FILE, found[0])
    read_manifest(folder)


def fetch_version(store: ObjectStore, version: str, folder: Path) -> None:
    """Write all files of a version into an empty folder, durably, and check each against the manifest.

    Raises
    ------
    NoArtifactError, InvalidArtifactError, ObjectStoreError
        As for `fetch_manifest`; also where a file is missing or has another size or hash.
    """
    fetch_manifest(store, version, folder)
    stored = {one.key: one for one in store.objects(f"{version}/")}
    (folder / "plots").mkdir()
    for name, listed in listed_files(folder, read_manifest(folder)).items():
        one = stored.get(f"{version}/{name}")
        if one is None or one.size_bytes != listed.size_bytes:
            found = "no file" if one is None else one.size_bytes
            raise InvalidArtifactError(
                f"{store.address}/{version}/{name}: expected {listed.size_bytes} bytes, found {found}.",
                remedy="The version was changed in the store: publish again.",
            )
        store.download(one, folder / name)
        verify_file(folder / name, size_bytes=listed.size_bytes, sha256=listed.sha256)
    sync_folder(folder / "plots")
    sync_folder(folder)


def remove_files(store: ObjectStore, version: str) -> None:
    """Remove what a version has left in the store after its manifest."""
    store.delete([one.key for one in store.objects(f"{version}/")])


def remove_abandoned(store: ObjectStore) -> None:
    """Remove what killed publishers left: files of versions that have had no manifest for a day."""
    complete = set(stored_versions(store))
    since = datetime.now(UTC) - _ABANDONED_AFTER
    for version in store.folders():
        if VERSION.fullmatch(version) and version not in complete:
            objects = store.objects(f"{version}/")
            if all(one.modified is not None and one.modified < since for one in objects):
                store.delete([one.key for one in objects])
