"""The place of all drops: deliveries, and beside them what the checks of each found.

::

    PLACE/drops/2026-11/       a delivery (`format`); embup only reads it
    PLACE/state/2026-11/       the verdict: report.json, and the folder that it names, with rows.npy and
                               coordinates.npy of an accepted drop and, where it changed them, basis and map
    PLACE/landmarks/           for whoever makes the next drop: which rows to compute cosines with

A place in an object store is mirrored into a local folder (`stored`): all reading and listing of drops goes
through `DropsFolder`, and all writing through its `keep`, `publish_landmarks` and `publish_drop`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.drops.format import DROP_FILE, PROJECTED, Drop, is_month, require_month
from embup_core.drops.known import Known
from embup_core.drops.report import DropReport
from embup_core.errors import InvalidDataError, SourceUnavailableError
from embup_core.files.atomic import replace_durably, sync_folder, write_durably
from embup_core.object_store.address import is_address

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

DROPS: Final = "drops"
STATE: Final = "state"
LANDMARKS: Final = "landmarks"
REPORT_FILE: Final = "report.json"
ROWS_FILE: Final = "rows.npy"
COORDINATES_FILE: Final = "coordinates.npy"
KEPT_FIELD: Final = "kept"
_KEPT: Final = "kept-"
_ABANDONED_AFTER_S: Final = 24 * 3600.0


@dataclass(frozen=True)
class AcceptedDrop:
    """An accepted drop: its report, and its rows.

    Attributes
    ----------
    report
        The verdict.
    drop
        The delivery.
    state
        Folder of what was kept.
    """

    report: DropReport
    drop: Drop
    state: Path

    @property
    def month(self) -> str:
        """``YYYY-MM``."""
        return self.report.month

    def rows(self) -> NDArray[np.int64]:
        """Rows of the drop that were accepted: int64, shape (m,), sorted."""
        return np.asarray(np.load(self.state / ROWS_FILE, allow_pickle=False), dtype=np.int64)

    def projected(self) -> NDArray[np.float32]:
        """z of the accepted rows: float32, shape (m, d); raises `InvalidDataError` where the file changed."""
        whole = np.load(self.drop.require_unchanged(PROJECTED), allow_pickle=False)
        return np.ascontiguousarray(whole[self.rows()], np.float32)

    def coordinates(self) -> NDArray[np.float32]:
        """Coordinates of the accepted rows, memory-mapped: float32, shape (m, r)."""
        mapped: NDArray[np.float32] = np.load(
            self.state / COORDINATES_FILE, mmap_mode="r", allow_pickle=False
        )
        return mapped


class DropsFolder:
    """A local folder of drops.

    Parameters
    ----------
    root
        It holds ``drops/``; the other folders are made when they are needed.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"DropsFolder({str(self.root)!r})"

    def drop_path(self, month: str) -> Path:
        """Folder of a delivery."""
        return self.root / DROPS / require_month(month)

    def state_path(self, month: str) -> Path:
        """Folder of the verdict on a delivery."""
        return self.root / STATE / require_month(month)

    def kept_path(self, month: str) -> Path:
        """Folder of what the present verdict on a delivery keeps, as its report names it."""
        report = self.state_path(month) / REPORT_FILE
        name = kept_by(report.read_bytes()) if report.is_file() else None  # `report` says what is wrong
        return report.parent if name is None else report.parent / Path(name).name

    def months(self) -> list[str]:
        """Months with a complete drop, in order."""
        return [month for month in self._folders() if (self.root / DROPS / month / DROP_FILE).is_file()]

    def incomplete(self) -> list[str]:
        """Months whose delivery has begun and is not complete."""
        return [month for month in self._folders() if not (self.root / DROPS / month / DROP_FILE).exists()]

    def drop(self, month: str) -> Drop:
        """Open a complete drop.

        Raises
        ------
        SourceUnavailableError
            There is none for this month, or it is not complete.
        InvalidDataError
            Its description is damaged, or names another month.
        """
        folder = self.drop_path(month)
        if not folder.is_dir():
            raise SourceUnavailableError(
                f"{self.root / DROPS} has no drop {month}; it has {', '.join(self.months()) or 'none'}.",
                remedy="Name a month that was delivered, or make the drop: embup drops make.",
            )
        drop = Drop.open(folder)
        if drop.month != month:
            raise InvalidDataError(
                f"{folder / DROP_FILE} describes the drop {drop.month}, expected {month}.",
                remedy="Put it into the folder of its month.",
            )
        return drop

    def whole_drop(self, month: str) -> Drop:
        """Open a complete drop with all of its files here; raises as `drop`."""
        return self.drop(month)

    def report(self, month: str) -> DropReport | None:
        """The verdict on a drop; None where there is none, or where it is about another delivery."""
        path = self.state_path(month) / REPORT_FILE
        try:
            report = DropReport.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InvalidDataError(
                f"{path}: expected the report on a drop, found none ({error}).",
                remedy=f"Check it again: embup drops check {self.root} {month}.",
            ) from error
        return report if report.drop_sha256 == self.delivered(month) else None

    def delivered(self, month: str) -> str | None:
        """SHA-256 of the description of a complete drop, which names the delivery; None without one."""
        try:
            return hashlib.sha256((self.drop_path(month) / DROP_FILE).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None

    def accepted(self, *, before: str | None = None, through: str | None = None) -> list[AcceptedDrop]:
        """Accepted drops in order: those before a month, those up to and with a month, or all."""
        found = []
        for month in self.months():
            if (before is not None and month >= before) or (through is not None and month > through):
                break
            report = self.report(month)
            if report is not None and report.accepted:
                found.append(AcceptedDrop(report, self.drop(month), self.kept_path(month)))
        return found

    def known(self, accepted: list[AcceptedDrop]) -> Known | None:
        """What the accepted drops have fixed: the last one that changed it has it; None where none did."""
        return Known.load([one.state for one in accepted])

    def keep(self, month: str, files: Mapping[str, bytes | NDArray[Any]]) -> None:
        """Replace the state of a month, at once or not at all: the report is renamed to its place last.

        What it goes with lies in a folder of its own beside it, which the report names.
        """
        target = self.state_path(month)
        target.mkdir(parents=True, exist_ok=True)
        report = json.loads(files[REPORT_FILE])  # type: ignore[arg-type]  # bytes
        former = self.kept_path(month).name
        beside = Path(tempfile.mkdtemp(prefix=_KEPT, dir=target))
        try:
            beside.chmod(0o755)
            for name, content in files.items():
                if name == REPORT_FILE:
                    continue
                if isinstance(content, bytes):
                    write_durably(beside / name, content)
                else:
                    with (beside / name).open("wb") as file:
                        np.save(file, content, allow_pickle=False)
                        file.flush()
                        os.fsync(file.fileno())
            sync_folder(beside)
            sync_folder(target)
            report[KEPT_FIELD] = beside.name
            replace_durably(target / REPORT_FILE, json.dumps(report, indent=2).encode() + b"\n")
        except OSError:
            if self.kept_path(month) != beside:  # the report may be there already
                shutil.rmtree(beside, ignore_errors=True)
            raise
        for path in target.iterdir():
            with suppress(FileNotFoundError):
                age_s = time.time() - path.stat().st_mtime
                if not is_superseded(path.name, former={former}, present=beside.name, age_s=age_s):
                    continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def publish_landmarks(self, known: Known) -> None:
        """Write which rows later drops have to bring their cosines with."""
        folder = self.root / LANDMARKS
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in known.landmark_files().items():
            replace_durably(folder / name, content)

    def publish_drop(self, month: str) -> None:
        """Bring a drop that was made in `drop_path` to where others find it; here it is there already."""

    def _folders(self) -> list[str]:
        parent = self.root / DROPS
        if not parent.is_dir():
            return []
        return sorted(path.name for path in parent.iterdir() if path.is_dir() and is_month(path.name))


def is_superseded(name: str, *, former: Collection[str], present: str, age_s: float) -> bool:
    """Whether an entry of a month's state belongs to an earlier verdict.

    What a former report named does, and files of a verdict without a folder. Another folder may be that of
    a check of the same month that runs elsewhere and has not written its report yet: it has a day.

    Parameters
    ----------
    name
        Of the file or folder.
    former, present
        The folders that reports before name, and the one that the present one does.
    age_s
        How long ago it was written.
    """
    if name in {REPORT_FILE, present}:
        return False
    return name in former or not name.startswith((_KEPT, ".")) or age_s > _ABANDONED_AFTER_S


def kept_by(report: bytes) -> str | None:
    """The folder that a report names; None where it names none, or cannot be read."""
    try:
        named = json.loads(report)[KEPT_FIELD]
    except (ValueError, LookupError, TypeError):
        return None
    return named if isinstance(named, str) else None


def open_drops(place: str | os.PathLike[str], *, cache: Path, look: bool = False) -> DropsFolder:
    """Open a place of drops, however it is named: the one function that decides what kind it is.

    Parameters
    ----------
    place
        A folder, or the address of one in an object store, such as ``s3://bucket/prefix``.
    cache
        Folder of local copies of what lies in an object store.
    look
        Whether only descriptions and verdicts are fetched from an object store, to see which months there
        are: some kilobytes a month.

    Raises
    ------
    InputError
        It is an address of no kind that is known.
    ObjectStoreError
        The store fails.
    """
    if is_address(os.fspath(place)):
        from embup_core.drops.stored import StoredDrops

        return StoredDrops(os.fspath(place), cache, look=look)
    return DropsFolder(Path(place).expanduser().absolute())
