"""Drops in an object store, mirrored into a local folder: deliveries come from there, verdicts go there."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from embup_core.drops.folder import DROPS, LANDMARKS, REPORT_FILE, STATE, DropsFolder
from embup_core.drops.format import DROP_FILE
from embup_core.object_store import ObjectStore, mirror_prefix, remember_uploaded
from embup_core.object_store.address import folder_of, parsed_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.drops.known import Known


class StoredDrops(DropsFolder):
    """A place of drops below an address; what is complete there is fetched when it is opened.

    Parameters
    ----------
    address
        Such as ``s3://bucket/prefix``, with ``drops/2026-11/`` below it.
    cache
        Folder of local copies.

    Raises
    ------
    InputError
        The address is none.
    ObjectStoreError
        The store fails.
    """

    def __init__(self, address: str, cache: Path) -> None:
        self.address = parsed_address(address)
        super().__init__(folder_of(self.address, cache))
        with self._alone():
            for name, completing in ((DROPS, DROP_FILE), (STATE, REPORT_FILE)):
                mirror_prefix(f"{self.address}/{name}", self.root / name, completing=completing)
            self._fetch_landmarks()

    def __repr__(self) -> str:
        return f"StoredDrops({self.address!r})"

    def keep(self, month: str, files: Mapping[str, bytes | NDArray[Any]]) -> None:
        """Replace the state of a month here and in the store, its report last."""
        with self._alone():
            super().keep(month, files)
            self._upload(self.state_path(month), f"{STATE}/{month}", last=REPORT_FILE)
            remember_uploaded(f"{self.address}/{STATE}", self.root / STATE, month)

    def publish_landmarks(self, known: Known) -> None:
        """Write which rows later drops have to bring their cosines with, here and in the store."""
        super().publish_landmarks(known)
        self._upload(self.root / LANDMARKS, LANDMARKS, last="basis.json")

    def publish_drop(self, month: str) -> None:
        """Upload a drop that was made here, its description last."""
        with self._alone():
            self._upload(self.drop_path(month), f"{DROPS}/{month}", last=DROP_FILE)
            remember_uploaded(f"{self.address}/{DROPS}", self.root / DROPS, month)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from the local copies: a sensor, a run and a shell may share them."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, however the process ends
            yield

    def _fetch_landmarks(self) -> None:
        """Bring here which rows later drops have to bring their cosines with, as the store has them now."""
        store = ObjectStore(self.address)
        for stored in store.objects(f"{LANDMARKS}/"):
            path = self.root / LANDMARKS / PurePosixPath(stored.key).name
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download(stored, path)

    def _upload(self, folder: Path, below: str, *, last: str) -> None:
        """Upload a folder's files; without the last one, what is there is not complete."""
        store = ObjectStore(self.address)
        store.delete([f"{below}/{last}"])
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
        kept = {f"{below}/{name}" for name in names}
        store.delete([one.key for one in store.objects(f"{below}/") if one.key not in kept])
        for name in (*(name for name in names if name != last), last):
            store.upload(folder / name, f"{below}/{name}")
