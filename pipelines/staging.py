"""Files that assets hand to each other: matrices and fitted decoders, never through an I/O manager.

One folder a data set, named by its fingerprint; one name a result, made of its asset and of a hash of all it
depends on. So equal work has one file, two runs on different settings do not meet, and a file once there
never changes: it is written beside and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

KEPT_DATA_SETS = 3


def version_of(**ingredients: Any) -> str:
    """Sixteen hexadecimal digits that name everything a result depends on (JSON values)."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]


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
        """Where a result has its place."""
        return self.folder / f"{asset}-{version}{suffix}"

    def save_array(self, asset: str, version: str, array: NDArray[Any]) -> Path:
        """Stage one array as ``.npy``."""
        target = self.path(asset, version, ".npy")
        with _written_beside(target) as beside, beside.open("wb") as file:
            np.save(file, array)
        return target

    def save_arrays(self, asset: str, version: str, arrays: Mapping[str, NDArray[Any]]) -> Path:
        """Stage several arrays as ``.npz``."""
        target = self.path(asset, version, ".npz")
        with _written_beside(target) as beside, beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return target

    def save_folder(self, asset: str, version: str, files: Mapping[str, bytes]) -> Path:
        """Stage several files as one folder; one of this name that is already there has the same content."""
        target = self.path(asset, version, "")
        beside = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
        try:
            for name, content in files.items():
                (beside / name).write_bytes(content)
            shutil.rmtree(target, ignore_errors=True)
            beside.rename(target)
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
def _written_beside(target: Path) -> Iterator[Path]:
    descriptor, name = tempfile.mkstemp(prefix=".", dir=target.parent)
    os.close(descriptor)
    beside = Path(name)
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
