"""Files that assets hand to each other: matrices and fitted decoders, never through an I/O manager.

One folder a data set, named by its fingerprint; one name a result, made of its asset and of a hash of all it
depends on, the code included. So equal work has one file, two runs on different settings do not meet, and a
file once there never changes: it is written beside and renamed, and what has the name already stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

import embup_core
from embup_core.files.atomic import sync_folder, write_durably

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

KEPT_DATA_SETS = 3


def version_of(**ingredients: Any) -> str:
    """Sixteen hexadecimal digits that name everything a result depends on (JSON values)."""
    described = json.dumps(ingredients | {"code": _code_hash()}, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


@cache
def _code_hash() -> str:
    """SHA-256 of the science's source files: another version of the code may fit otherwise."""
    digest = hashlib.sha256()
    for folder in map(Path, embup_core.__path__):
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class StagingArea:
    """The staged results of one data set.

    Parameters
    ----------
    root
        Holds one folder a data set.
    fingerprint
        SHA-256 of the data set's files.
    """

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.folder = root / fingerprint[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        os.utime(self.folder)  # in use: the last to be removed

    def path(self, asset: str, version: str, suffix: str) -> Path:
        """Where a result has its place; one that is there is touched, so that it does not count as old."""
        path = self.folder / f"{asset}-{version}{suffix}"
        with suppress(FileNotFoundError):
            os.utime(path)
        return path

    def save_array(self, asset: str, version: str, array: NDArray[Any]) -> Path:
        """Stage one array as ``.npy``."""
        target = self.path(asset, version, ".npy")
        if not target.exists():
            with _written_beside(target) as file:
                np.save(file, array)
        return target

    def save_arrays(self, asset: str, version: str, arrays: Mapping[str, NDArray[Any]]) -> Path:
        """Stage several arrays as ``.npz``."""
        target = self.path(asset, version, ".npz")
        if not target.exists():
            with _written_beside(target) as file:
                np.savez(file, allow_pickle=False, **arrays)
        return target

    def save_folder(self, asset: str, version: str, files: Mapping[str, bytes]) -> Path:
        """Stage several files as one folder; one of this name that is already there stays."""
        target = self.path(asset, version, "")
        if target.exists():
            return target
        beside = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
        try:
            for name, content in files.items():
                write_durably(beside / name, content)
            sync_folder(beside)
            try:
                beside.rename(target)
            except OSError:
                if not target.is_dir():  # not another run, quicker by a moment, with the same work
                    raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return target


def remove_old_data_sets(root: Path, kept: int = KEPT_DATA_SETS) -> list[str]:
    """Remove the folders of all but the last used data sets; returns the names of those removed."""
    folders = sorted(
        (path for path in root.iterdir() if path.is_dir()), key=lambda path: -path.stat().st_mtime
    )
    for folder in folders[kept:]:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in folders[kept:]]


@contextmanager
def _written_beside(target: Path) -> Iterator[BinaryIO]:
    descriptor, name = tempfile.mkstemp(prefix=".", dir=target.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)  # what has the name stays, so it must be whole even after a power cut
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
