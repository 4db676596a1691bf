"""Drops in an object store, mirrored into a local folder: deliveries come from there, verdicts go there.

Cosines are most of a delivery, and only its check needs them: they are fetched for it, and removed after it.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from embup_core.drops.folder import (
    DROPS,
    LANDMARKS,
    REPORT_FILE,
    STATE,
    DropsFolder,
    is_superseded,
    kept_by,
)
from embup_core.drops.format import COSINES, DROP_FILE, EXTRA_COSINES, LANDMARK_COSINES, is_month
from embup_core.errors import ObjectChangedError, OutputError
from embup_core.object_store import ObjectStore, mirror_prefix, remember_uploaded
from embup_core.object_store.address import folder_of, parsed_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.drops.format import Drop
    from embup_core.drops.known import Known

_ONLY_CHECKED = frozenset({COSINES, LANDMARK_COSINES, EXTRA_COSINES})

LOCK_WAIT_S = 1800.0
"""How long another process may fetch; a first drop of 10 GB takes some minutes."""
_LOCK_LOOK_S = 0.1
_LOOK = ".look"
_MOST_DESCRIPTION_BYTES = 1 << 20
_MOST_REPORT_BYTES = 1 << 28


class StoredDrops(DropsFolder):
    """A place of drops below an address; what is complete there is fetched when it is opened.

    Parameters
    ----------
    address
        Such as ``s3://bucket/prefix``, with ``drops/2026-11/`` below it.
    cache
        Folder of local copies.
    look
        Whether only descriptions and verdicts are fetched, into a folder of their own.

    Raises
    ------
    InputError
        The address is none.
    ObjectStoreError
        The store fails.
    OutputError
        Another process holds the local copies for half an hour.
    """

    def __init__(self, address: str, cache: Path, *, look: bool = False) -> None:
        self.address = parsed_address(address)
        root = folder_of(self.address, cache)
        super().__init__(root / _LOOK if look else root)
        with self._alone():
            for name, completing in ((DROPS, DROP_FILE), (STATE, REPORT_FILE)):
                mirror_prefix(
                    f"{self.address}/{name}",
                    self.root / name,
                    completing=completing,
                    wanted=completing.__eq__ if look else _is_kept,
                )
            if look:
                self._begun = ObjectStore(f"{self.address}/{DROPS}").folders()
            else:
                self._fetch_landmarks()

    def __repr__(self) -> str:
        return f"StoredDrops({self.address!r})"

    def incomplete(self) -> list[str]:
        """Months whose delivery has begun and is not complete; known to a look alone."""
        begun = [month for month in getattr(self, "_begun", []) if is_month(month)]
        return sorted(set(begun) - set(self.months()))

    def whole_drop(self, month: str) -> Drop:
        """Open a complete drop, and fetch those of its files that are not here.

        Raises
        ------
        SourceUnavailableError, InvalidDataError
            As `drop`.
        ObjectChangedError
            It was delivered again meanwhile.
        ObjectStoreError
            The store fails.
        """
        drop, store = self.drop(month), ObjectStore(f"{self.address}/{DROPS}/{month}")
        with self._alone():
            for name, listed in drop.files.items():
                path = drop.folder / name
                if path.is_file() and path.stat().st_size == listed.size_bytes:
                    continue
                stored = store.find(name)
                if stored is not None:  # what is missing there the check says
                    beside = path.with_name(f".{name}.fetched")
                    store.download(stored, beside)
                    beside.replace(path)
            described = store.read(DROP_FILE, max_bytes=_MOST_DESCRIPTION_BYTES)
        if described is None or hashlib.sha256(described[0]).hexdigest() != drop.sha256:
            raise ObjectChangedError(
                f"{store.address} has been delivered again meanwhile.", remedy="Run the month again."
            )
        return drop

    def keep(self, month: str, files: Mapping[str, bytes | NDArray[Any]]) -> None:
        """Replace the state of a month here and in the store, its report last; remove its cosines here."""
        with self._alone():
            former = self.kept_path(month).name  # another than in the store if an upload was cut off
            super().keep(month, files)
            self._upload_state(month, former)
            remember_uploaded(f"{self.address}/{STATE}", self.root / STATE, month)
            for name in _ONLY_CHECKED:
                (self.drop_path(month) / name).unlink(missing_ok=True)

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
        """Keep other processes from the local copies: a run and a shell may share them."""
        self.root.mkdir(parents=True, exist_ok=True)
        ends_s = time.monotonic() + LOCK_WAIT_S
        with (self.root / ".lock").open("w") as file:
            while True:
                try:
                    # Given back when the file is closed, however the process ends.
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > ends_s:
                        raise OutputError(
                            f"{self.root}: another process has held these copies for {LOCK_WAIT_S:.0f} "
                            "seconds, expected it to be done.",
                            remedy=f"Look what it does: fuser -v {self.root / '.lock'}. Then try again.",
                        ) from None
                    time.sleep(_LOCK_LOOK_S)
            yield

    def _fetch_landmarks(self) -> None:
        """Bring here which rows later drops have to bring their cosines with, as the store has them now."""
        store = ObjectStore(self.address)
        for stored in store.objects(f"{LANDMARKS}/"):
            path = self.root / LANDMARKS / PurePosixPath(stored.key).name
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download(stored, path)

    def _upload_state(self, month: str, former_here: str) -> None:
        """Upload a verdict: what it keeps, then its report, which replaces the former, then tidy up."""
        store, folder, below = ObjectStore(self.address), self.state_path(month), f"{STATE}/{month}"
        report = f"{below}/{REPORT_FILE}"
        present = kept_by((folder / REPORT_FILE).read_bytes()) or ""
        for path in (folder / present).iterdir():
            store.upload(path, f"{below}/{present}/{path.name}")
        before = store.read(report, max_bytes=_MOST_REPORT_BYTES)
        former_there = None if before is None else kept_by(before[0])
        store.upload(folder / REPORT_FILE, report)
        now = datetime.now(UTC)
        store.delete(
            [
                one.key
                for one in store.objects(f"{below}/")
                if is_superseded(
                    one.key.removeprefix(f"{below}/").partition("/")[0],
                    former={former_here, former_there or former_here},
                    present=present,
                    age_s=(now - (one.modified or now)).total_seconds(),
                )
            ]
        )

    def _upload(self, folder: Path, below: str, *, last: str) -> None:
        """Upload a folder's files; without the last one, what is there is not complete."""
        store = ObjectStore(self.address)
        store.delete([f"{below}/{last}"])
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
        kept = {f"{below}/{name}" for name in names}
        store.delete([one.key for one in store.objects(f"{below}/") if one.key not in kept])
        for name in (*(name for name in names if name != last), last):
            store.upload(folder / name, f"{below}/{name}")


def _is_kept(name: str) -> bool:
    """Whether a file of a delivery is needed after its check, too."""
    return name not in _ONLY_CHECKED
