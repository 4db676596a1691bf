"""Training data below an address of an object store: fetched into a folder, each file once for each ETag."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from embup_core.errors import InvalidArgumentError, ObjectStoreError, SourceUnavailableError
from embup_core.files.atomic import replace_durably
from embup_core.object_store import ObjectStore
from embup_core.object_store.address import folder_of
from embup_core.sources.archive import ARCHIVE_SUFFIX
from embup_core.sources.files import (
    ANCHOR_ROWS_FILE,
    ANCHORS_FILE,
    COSINES_FILE,
    GROUPS_FILE,
    LABELS_FILE,
    LANDMARK_COSINES_FILE,
    LANDMARK_ROWS_FILE,
    PROJECTED_FILE,
    SourceFiles,
)
from embup_core.sources.folder import files_in_folder

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.object_store import StoredObject
    from embup_core.progress import Progress

RECORD_FILE = "objects.json"
_NAMES = frozenset(
    {PROJECTED_FILE, COSINES_FILE, LANDMARK_COSINES_FILE, LANDMARK_ROWS_FILE}
    | {GROUPS_FILE, LABELS_FILE, ANCHORS_FILE, ANCHOR_ROWS_FILE}
    | {name.removesuffix(".npy") + ARCHIVE_SUFFIX for name in (PROJECTED_FILE, COSINES_FILE)}
)


def files_in_store(
    address: str,
    cache_dir: Path,
    *,
    sha256: tuple[str | None, str | None],
    max_bytes: int,
    progress: Progress | None,
) -> SourceFiles:
    """Fetch the two files and the optional ones; what is here already, by its ETag, is not fetched again.

    Parameters
    ----------
    address
        Such as ``s3://bucket/prefix``; the files lie directly below it, named as in a folder.
    cache_dir
        Each address has a folder of its own there.
    sha256
        Expected hashes of the two files, or None.
    max_bytes
        The largest file to fetch.
    progress
        Called with a label, bytes done and bytes in all.

    Raises
    ------
    SourceUnavailableError
        The address is malformed, the store fails, or a file is missing, too large, or of another hash.
    """
    try:
        store = ObjectStore(address)
        folder = folder_of(store.address, cache_dir)
        folder.mkdir(parents=True, exist_ok=True)
        found = {one.key: one for one in store.objects() if one.key in _NAMES}
        record = _read_record(folder)
        for path in folder.glob("*.np[yz]"):
            if path.name not in found:
                path.unlink()  # gone from the store: it would be taken for a part of the data
        for name, stored in found.items():
            if record.get(name) != _state(stored) or not (folder / name).is_file():
                _fetch(store, stored, folder / name, max_bytes, progress)
                record[name] = _state(stored)
                replace_durably(folder / RECORD_FILE, json.dumps(record, indent=1).encode())
    except (ObjectStoreError, InvalidArgumentError) as error:
        raise SourceUnavailableError(error.message, remedy=error.remedy) from error
    try:
        files = files_in_folder(folder)
    except SourceUnavailableError as error:
        raise SourceUnavailableError(
            error.message.replace(f"folder {folder.resolve()}", store.address), remedy=error.remedy
        ) from error
    for path, expected in zip((files.projected, files.cosines), sha256, strict=True):
        if expected is not None:
            _require_hash(f"{store.address}/{path.name}", path, expected.strip().lower())
    return replace(files, name=store.address)


def _state(stored: StoredObject) -> list[str | int | None]:
    return [stored.etag, stored.size_bytes]


def _read_record(folder: Path) -> dict[str, list[str | int | None]]:
    with suppress(OSError, ValueError):
        found = json.loads((folder / RECORD_FILE).read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def _fetch(
    store: ObjectStore, stored: StoredObject, target: Path, max_bytes: int, progress: Progress | None
) -> None:
    place = f"{store.address}/{stored.key}"
    if stored.size_bytes > max_bytes:
        raise SourceUnavailableError(
            f"{place} is too large: it has {stored.size_bytes} bytes, the limit is {max_bytes}.",
            remedy="Check the address, or raise the limit.",
        )
    free = shutil.disk_usage(target.parent).free
    if stored.size_bytes > free:
        raise SourceUnavailableError(
            f"no space for {target}: {stored.size_bytes} bytes are needed and {free} are free.",
            remedy="Free some, or set another data folder.",
        )
    part = target.with_name(f"{target.name}.part")
    try:
        store.download(stored, part, progress=progress)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _require_hash(place: str, path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise SourceUnavailableError(
            f"{place} has SHA-256 {found}, expected {expected}.",
            remedy="Correct the expected hash, or find out who changed the file.",
        )
