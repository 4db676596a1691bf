"""A local copy of the complete deliveries below an address.

Each folder below the address is one delivery; the file that completes it is uploaded last. Here a delivery
appears whole, by a rename, or not at all; one that has not changed by its ETags is not fetched again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from embup_core.errors import ObjectChangedError, ObjectStoreError
from embup_core.files.atomic import replace_durably, sync_folder
from embup_core.object_store.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.object_store.store import StoredObject
    from embup_core.progress import Progress

COMPLETING_FILE = "drop.json"
_STAGING = ".staging-"
_RECORDS = ".mirrored"


class MirroredFolder(NamedTuple):
    """One complete delivery.

    Attributes
    ----------
    name
        Of its folder.
    folder
        The local copy.
    fetched
        Whether it was new, or had changed.
    """

    name: str
    folder: Path
    fetched: bool


def mirror_prefix(
    address: str,
    folder: Path,
    *,
    completing: str = COMPLETING_FILE,
    wanted: Callable[[str], bool] = lambda _: True,
    progress: Progress | None = None,
) -> list[MirroredFolder]:
    """Bring every complete delivery below an address into a local folder.

    A delivery that is overwritten while it is fetched is left for the next call. One that is gone from the
    store is removed here, if it came from there. One call at a time for one folder.

    Parameters
    ----------
    address
        Such as ``s3://bucket/drops``, with folders such as ``2026-11`` below it.
    folder
        Made where it is missing.
    completing
        The file without which a delivery is not complete.
    wanted
        Which files are fetched, by their name in the delivery.
    progress
        Called with what is fetched, bytes done, and bytes in all.

    Returns
    -------
    list of MirroredFolder
        The complete ones, in the order of their names.

    Raises
    ------
    ObjectStoreError
        The store fails.
    """
    store = ObjectStore(address)
    records = folder / _RECORDS
    records.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_STAGING}*"):  # of a call that was killed; two at once are not for one folder
        shutil.rmtree(left, ignore_errors=True)
    found = []
    there = store.folders()
    for record in records.glob("*.json"):
        if record.stem not in there:
            shutil.rmtree(folder / record.stem, ignore_errors=True)
            record.unlink()
    for name in there:
        # The completing file first: what it completes is listed after it is known to be there.
        if name.startswith(".") or store.find(f"{name}/{completing}") is None:
            continue
        objects = _objects(store, name)
        state = _state(objects)
        target, record = folder / name, records / f"{name}.json"
        if target.is_dir() and record.is_file() and record.read_bytes() == state:
            found.append(MirroredFolder(name, target, fetched=False))
            continue
        try:
            fetched = [one for one in objects if wanted(one.key.removeprefix(f"{name}/"))]
            _fetch(store, fetched, name, target, progress)
        except ObjectChangedError:
            continue
        replace_durably(record, state)
        found.append(MirroredFolder(name, target, fetched=True))
    return found


def remember_uploaded(address: str, folder: Path, name: str) -> None:
    """Note that a delivery here is what the store has now, as it was uploaded from here: it is not fetched.

    Parameters
    ----------
    address, folder
        As for `mirror_prefix`.
    name
        Of the delivery.

    Raises
    ------
    ObjectStoreError
        The store fails.
    """
    (folder / _RECORDS).mkdir(parents=True, exist_ok=True)
    state = _state(_objects(ObjectStore(address), name))
    replace_durably(folder / _RECORDS / f"{name}.json", state)


def _objects(store: ObjectStore, name: str) -> list[StoredObject]:
    return [one for one in store.objects(f"{name}/") if one.key.startswith(f"{name}/")]


def _state(objects: list[StoredObject]) -> bytes:
    return json.dumps({one.key: [one.etag, one.size_bytes] for one in objects}, indent=1).encode()


def _fetch(
    store: ObjectStore, objects: list[StoredObject], name: str, target: Path, progress: Progress | None
) -> None:
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=target.parent))
    try:
        staging.chmod(0o755)
        for stored in objects:
            path = staging / stored.key.removeprefix(f"{name}/")
            if not path.resolve().is_relative_to(staging.resolve()):
                raise ObjectStoreError(
                    f"{store.address}/{stored.key}: expected a file below {name}, found another place.",
                    remedy="Remove that object.",
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download(stored, path, progress=progress)
            sync_folder(path.parent)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=_STAGING, dir=target.parent)) / name
            target.rename(old)
            staging.rename(target)
            shutil.rmtree(old.parent, ignore_errors=True)
        else:
            staging.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
