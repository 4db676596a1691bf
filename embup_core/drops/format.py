"""One delivery of training data on disk: a folder of arrays, and ``drop.json``, which is written last.

=========================  ===================================================================================
``projected.npy``          z: floats, shape (n, d), unit rows
``cosines.npy``            in the first drop: cosines between its originals, shape (n, n)
``landmark_cosines.npy``   in later drops: cosines with the landmarks, shape (n, L), float32 or float16
``extra_landmarks.npy``    optional: rows of this drop that become landmarks, too, shape (k,), integers
``extra_cosines.npy``      with them: cosines of all rows of this drop with those rows, shape (n, k)
``groups.npy``             optional: a group for each row, shape (n,), integers or strings
``labels.npy``             optional: a class label for each row, shape (n,), integers or strings
``drop.json``              rows, files, sizes and SHA-256; a folder without it is not complete
=========================  ===================================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from embup_core.errors import InputError, InvalidDataError, OutputError, SourceUnavailableError
from embup_core.files.atomic import replace_durably, sync_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

FORMAT: Final = 1
DROP_FILE: Final = "drop.json"
PROJECTED: Final = "projected.npy"
COSINES: Final = "cosines.npy"
LANDMARK_COSINES: Final = "landmark_cosines.npy"
EXTRA_LANDMARKS: Final = "extra_landmarks.npy"
EXTRA_COSINES: Final = "extra_cosines.npy"
GROUPS: Final = "groups.npy"
LABELS: Final = "labels.npy"
FILES: Final = (PROJECTED, COSINES, LANDMARK_COSINES, EXTRA_LANDMARKS, EXTRA_COSINES, GROUPS, LABELS)
_MONTH: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_AGAIN: Final = "Make the drop again: embup drops make."


def is_month(name: str) -> bool:
    """Whether a name is a month, such as ``2026-11``."""
    return _MONTH.fullmatch(name) is not None


def require_month(name: str) -> str:
    """Return the name of a month; raises `InputError` for another text."""
    if not is_month(name):
        raise InputError(f"Expected a month such as 2026-11, found {name!r}.", remedy="Write YYYY-MM.")
    return name


@dataclass(frozen=True)
class DropFile:
    """A file as ``drop.json`` lists it."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Drop:
    """A complete delivery.

    Attributes
    ----------
    folder
        Where it lies.
    month
        ``YYYY-MM``.
    rows
        n, as ``drop.json`` says.
    basis
        Id of the basis whose landmarks its cosines are with; empty in the first drop.
    files
        By name.
    sha256
        Of ``drop.json``, and so of the whole delivery.
    """

    folder: Path
    month: str
    rows: int
    basis: str
    files: Mapping[str, DropFile]
    sha256: str

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read ``drop.json``; the other files are not looked at.

        Raises
        ------
        SourceUnavailableError
            The folder is not there, or not complete.
        InvalidDataError
            ``drop.json`` is not what `write_drop` writes.
        """
        path = folder / DROP_FILE
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SourceUnavailableError(
                f"{path} cannot be read ({error.strerror}): there is no complete drop.",
                remedy="Wait until it is delivered, or make it: embup drops make.",
            ) from error
        try:
            content = json.loads(data)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}, expected {FORMAT}")
            files = {
                name: DropFile(int(one["size_bytes"]), str(one["sha256"]))
                for name, one in content["files"].items()
            }
            strange = sorted(files.keys() - set(FILES))
            if strange or PROJECTED not in files:
                raise ValueError(f"files {sorted(files)}, expected {PROJECTED} and some of {FILES[1:]}")
            return cls(
                folder=folder,
                month=require_month(str(content["month"])),
                rows=int(content["rows"]),
                basis=str(content["basis"]),
                files=files,
                sha256=hashlib.sha256(data).hexdigest(),
            )
        except (ValueError, LookupError, TypeError, AttributeError, InputError) as error:
            raise InvalidDataError(
                f"{path}: expected the description of a drop, found {error}.", remedy=_AGAIN
            ) from error

    def path(self, name: str) -> Path | None:
        """A file of the drop; None where ``drop.json`` does not list it."""
        return self.folder / name if name in self.files else None

    def require_unchanged(self, name: str) -> Path:
        """Path of a file; raises `InvalidDataError` where it is another than ``drop.json`` lists."""
        for _, difference in self.changed_files([name]):
            raise InvalidDataError(
                f"{self.folder / name} has changed since the drop was accepted: {difference}.",
                remedy="Put the delivered file back, or deliver the drop again.",
            )
        return self.folder / name

    def changed_files(self, names: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Files that are not those of ``drop.json``, and in what they differ. Every byte is read."""
        found = []
        for name, listed in self.files.items():
            if names is not None and name not in names:
                continue
            path = self.folder / name
            try:
                size_bytes = path.stat().st_size
                if size_bytes != listed.size_bytes:
                    found.append((name, f"{size_bytes:,} bytes, expected {listed.size_bytes:,}"))
                elif (digest := _sha256(path)) != listed.sha256:
                    found.append((name, f"SHA-256 {digest[:16]}, expected {listed.sha256[:16]}"))
            except OSError as error:
                found.append((name, f"cannot be read ({error.strerror})"))
        return found


def write_drop(
    folder: Path, month: str, arrays: Mapping[str, Any], *, basis: str = "", overwrite: bool = False
) -> Drop:
    """Write a delivery so that it is never taken while it is half there: ``drop.json`` comes last.

    Parameters
    ----------
    folder
        The drop's own folder, ``.../drops/2026-11``; it is made where it does not exist.
    month
        ``YYYY-MM``.
    arrays
        By file name, such as ``projected.npy``.
    basis
        Id of the basis whose landmarks the cosines are with; empty for a first drop.
    overwrite
        Whether a complete drop that is there is replaced.

    Raises
    ------
    InputError
        The month or a file name is none.
    OutputError
        A complete drop is there, or the folder cannot be written.
    """
    require_month(month)
    strange = sorted(arrays.keys() - set(FILES))
    if strange or PROJECTED not in arrays:
        raise InputError(f"Expected {PROJECTED} and some of {FILES[1:]}, found {sorted(arrays)}.")
    if (folder / DROP_FILE).exists() and not overwrite:
        raise OutputError(
            f"{folder} holds a complete drop, expected none.",
            remedy="Name another month, or replace it: --overwrite.",
        )
    try:
        # Without its description the old drop is no longer complete, so no reader mixes the two.
        (folder / DROP_FILE).unlink(missing_ok=True)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        listed = {}
        for name, array in arrays.items():
            path = folder / name
            with path.open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            listed[name] = {"size_bytes": path.stat().st_size, "sha256": _sha256(path)}
        content = {
            "format": FORMAT,
            "month": month,
            "rows": len(arrays[PROJECTED]),
            "basis": basis,
            "files": listed,
        }
        sync_folder(folder)
        replace_durably(folder / DROP_FILE, json.dumps(content, indent=2).encode() + b"\n")
    except OSError as error:
        raise OutputError(
            f"{folder}: the drop cannot be written ({error.strerror or error}).",
            remedy="Free space, or name a folder that this user may write.",
        ) from error
    return Drop.open(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
